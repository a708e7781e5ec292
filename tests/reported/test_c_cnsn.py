"""Section C of issue 18 and row D10 for CNSN: used as a layer, cut open, frozen, copied."""

import copy
import pickle
import threading
import warnings

import keras
import numpy as np
import pytest
from helpers import compiled as compiled_any
from helpers import detachable_base as base
from helpers import images, labels
from keras import layers

from keras_dynnets.core.freezing import freeze, unfreeze
from keras_dynnets.families.cnsn.model import CNSN

X, Y = images(8), labels(8)


def compiled(model, learning_rate=0.01, **arguments):
    return compiled_any(model, learning_rate, **{"jit_compile": False, **arguments})


def wide():
    """A CNSN with widths whose weights, statistics included, all differ."""
    model = CNSN(base((8, 8)), ("stage1", "stage2"), widths=(1.0, 0.5))
    rng = np.random.default_rng(0)
    for v in model.variables:
        positive = "variance" in v.path or "gamma" in v.path
        value = rng.uniform(0.5, 1.5, v.shape) if positive else rng.normal(0, 0.2, v.shape)
        v.assign(value)
    return model


@pytest.fixture(scope="module")
def model():
    """Not changed by the tests that use it."""
    return wide()


@pytest.fixture(scope="module")
def wanted(model):
    """The logits of every model, by the joint network."""
    return {name: np.asarray(v) for name, v in model.joint(X, training=False).items()}


def same(network, logits, tolerance=1e-5):
    found = np.asarray(network(X, training=False))
    np.testing.assert_allclose(found, logits, atol=tolerance * np.abs(logits).max())


def paths(variables):
    return {v.path for v in variables}


def base_only(caught):
    return [str(w.message) for w in caught if "trains its base alone" in str(w.message)]


# ---- C1: parts with layers of their own


@pytest.mark.parametrize("name", ["base", "sub2", "sub1_w50"])
def test_c1_a_part_cut_open_is_the_part(model, wanted, name):
    """C1 (reported at keras#23238): layers of a part have the calls of the part alone."""
    part = model.part(name)
    same(keras.Model(part.input, part.layers[-1].output), wanted[name])
    assert all(len(layer._inbound_nodes) == 1 for layer in part.layers[1:])
    pooled = part.get_layer("pool").output
    head = np.asarray(part.layers[-1](keras.Model(part.input, pooled)(X)))
    np.testing.assert_allclose(head, wanted[name], rtol=1e-4, atol=1e-4)
    ours = {id(v) for v in model.variables}
    assert part.variables and all(id(v) in ours for v in part.variables)


def test_c1_the_whole_cut_open_is_the_base(model, wanted):
    """C1: with widths, too, the last layer and the first output are the base's."""
    same(keras.Model(model.input, model.layers[-1].output), wanted["base"])
    same(keras.Model(model.input, model.outputs[0]), wanted["base"])
    assert model.output_shape == (None, 10) and model.output.shape == (None, 10)


def test_c1_a_new_head_trains_with_the_weights_of_the_model():
    """C1: what trains the part trains the whole, and nothing that the part does not have."""
    model = wide()
    part = model.part("sub2_w50")
    outer = keras.Model(part.input, layers.Dense(3)(part.get_layer("pool").output))
    before = {v.path: v.numpy() for v in model.variables}
    compiled(outer, 0.1).fit(X, Y % 3, verbose=0)
    moved = {v.path for v in model.variables if np.any(v.numpy() != before[v.path])}
    assert {"step_down2/kernel", "stage3_conv/kernel", "stage3_bn/gamma"} <= moved
    assert not any(path.startswith(("stage1", "stage2", "logits")) for path in moved)


@pytest.mark.parametrize("name", ["sub1", "sub2_w50"])
def test_c1_a_saved_part_is_independent(model, wanted, name, tmp_path):
    part = model.part(name)
    part.save(tmp_path / "part.keras")
    loaded = keras.saving.load_model(tmp_path / "part.keras")
    same(loaded, wanted[name])
    assert [v.path for v in loaded.trainable_variables] == [
        v.path for v in part.trainable_variables
    ]
    for v in loaded.variables:
        v.assign(v + 1)
    same(part, wanted[name])


# ---- C2 and C4: freezing


def test_c2_freezing_all_but_the_head_trains_the_head(tmp_path):
    """C2 (reported at keras#13436): a slice does not freeze the layer whose weights it uses."""
    model = wide()
    for layer in model.layers:
        layer.trainable = layer.name == "logits"
    assert paths(model.trainable_variables) == {"logits/kernel", "logits/bias"}
    before = {v.path: v.numpy() for v in model.variables}
    compiled(model, 0.1).fit(X, Y, verbose=0)
    moved = {v.path for v in model.variables if np.any(v.numpy() != before[v.path])}
    assert moved == {"logits/kernel", "logits/bias"}

    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert paths(loaded.trainable_variables) == {"logits/kernel", "logits/bias"}
    assert [layer.name for layer in loaded.layers if layer.trainable] == ["logits"]

    for layer in model.layers:
        layer.trainable = layer.name != "logits"
    assert not paths(model.trainable_variables) & {"logits/kernel", "logits/bias"}
    assert len(model.trainable_variables) == 16


def test_c2_any_order_of_freezing_gives_the_same():
    model = wide()
    for layer in reversed(model.layers):
        layer.trainable = layer.name.endswith("_bn")
    norms = {f"stage{i}_bn/{v}" for i in (1, 2, 3) for v in ("gamma", "beta")}
    assert paths(model.trainable_variables) == norms


def test_c4_a_frozen_slice_of_a_saved_part_stays_frozen(tmp_path):
    """C4, of a part: all layers but one frozen; the same after saving and loading."""
    model = wide()
    part = model.part("sub1_w50")
    for layer in part.layers:
        layer.trainable = layer.name == "logits_w50"
    assert paths(part.trainable_variables) == {"logits/kernel", "logits/bias"}
    part.save(tmp_path / "part.keras")
    loaded = keras.saving.load_model(tmp_path / "part.keras")
    assert [layer.name for layer in loaded.layers[1:] if layer.trainable] == ["logits_w50"]
    assert len(loaded.trainable_variables) == 2


def test_c4_a_frozen_whole_stays_frozen(tmp_path):
    model = wide()
    model.trainable = False
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert not loaded.trainable and not loaded.trainable_variables
    assert not any(layer.trainable for layer in loaded.layers)


def test_c4_freezing_a_part_freezes_variables_and_no_other_layers(tmp_path):
    """A part has flags of its own; its variables are those of the whole, in a file too."""
    model = wide()
    model.part("sub2").get_layer("stage3_conv").trainable = False
    assert model.get_layer("stage3_conv").trainable
    assert len(model.trainable_variables) == 16
    assert not paths(model.trainable_variables) & {"stage3_conv/kernel", "stage3_conv/bias"}
    model.save(tmp_path / "m.keras")
    assert len(keras.saving.load_model(tmp_path / "m.keras").trainable_variables) == 16
    assert not model.part("sub2").get_layer("stage3_conv").trainable_variables


def test_c4_nested_frozen_under_a_new_head():
    model = wide()
    model.trainable = False
    outer = keras.Sequential([layers.Input((16, 16, 3)), model, layers.Dense(3)])
    before = [v.numpy() for v in model.variables]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled(outer).fit(X, Y % 3, verbose=0)
    assert len(outer.trainable_variables) == 2 and not base_only(caught)
    assert all(np.array_equal(v, b) for v, b in zip(model.variables, before, strict=True))


# ---- C5: no state says what a call returns


def test_c5_predict_in_another_thread_gives_logits():
    """C5: a thread that predicts while another fits gets logits, from then on too."""
    model = compiled(wide())
    kinds, entered, left = [], threading.Event(), threading.Event()

    class DuringTracing(keras.metrics.Metric):
        """Holds the training step until the other thread has predicted."""

        def update_state(self, y_true, y_pred, sample_weight=None):
            entered.set()
            left.wait(60)

        def result(self):
            return 0.0

        def get_config(self):
            return super().get_config()

    model.compile("sgd", model.loss, metrics=[DuringTracing()], jit_compile=False)

    def predict():
        entered.wait(60)
        kinds.append(model(X))
        kinds.append(model.predict_on_batch(X))
        left.set()

    other = threading.Thread(target=predict)
    other.start()
    model.fit(X, Y, verbose=0)
    other.join()
    kinds.append(model.predict(X, verbose=0))
    assert [np.shape(kind) for kind in kinds] == [(8, 10)] * 3, kinds


@pytest.mark.parametrize("mode", [dict(run_eagerly=True), dict(steps_per_execution=2)])
def test_c5_every_way_of_running_trains_all_models(mode):
    model = compiled(CNSN(base((8, 8)), ("stage2",)), **mode)
    history = model.fit(X, Y, batch_size=4, verbose=0, validation_data=(X, Y)).history
    assert {"base_accuracy", "sub1_loss", "val_sub1_accuracy"} <= set(history)
    assert model.predict(X, verbose=0).shape == (8, 10)


def test_c5_under_a_distribution_strategy():
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = compiled(CNSN(base((8, 8)), ("stage2",)))
    before = model.get_layer("step_down1").get_weights()[0]
    assert "sub1_accuracy" in model.fit(X, Y, verbose=0).history
    assert np.any(model.get_layer("step_down1").get_weights()[0] != before)


# ---- C6: trained as a layer of another model


def test_c6_training_by_another_model_warns():
    """C6 (reported at keras#16189): behind augmentation only the base trains, with a word."""
    model = CNSN(base((8, 8)), ("stage2",))
    outer = keras.Sequential([layers.Input((16, 16, 3)), layers.RandomFlip(), model])
    compiled(outer)
    with pytest.warns(UserWarning, match="'small' is trained as a layer .* base alone, not sub1"):
        outer.fit(X, Y, verbose=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outer.predict(X, verbose=0)
        outer.evaluate(X, Y, verbose=0)
        compiled(model).fit(X, Y, verbose=0, validation_data=(X, Y))
        model(X, training=False)
    assert not base_only(caught)


def test_c6_augmentation_in_the_base_trains_all():
    """What the warning asks for works."""
    x = inputs = keras.Input((16, 16, 3))
    x = layers.RandomFlip()(x)
    x = layers.Conv2D(8, 3, name="a")(x)
    x = layers.Conv2D(8, 3, name="b")(x)
    own = keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    model = compiled(CNSN(own, ("a",)))
    assert "sub1_accuracy" in model.fit(X, Y, verbose=0).history


def test_c6_time_distributed(model, wanted):
    inputs = keras.Input((2, 16, 16, 3))
    outer = keras.Model(inputs, layers.TimeDistributed(model)(inputs))
    found = outer(np.stack([X, X], 1))
    np.testing.assert_allclose(found[:, 1], wanted["base"], rtol=1e-4, atol=1e-4)


# ---- C7: metrics and losses of one's own


class Counted(keras.metrics.Metric):
    """Without `get_config`: counts the images of each class first."""

    def __init__(self, num_classes, name="counted"):
        super().__init__(name=name)
        self.num_classes = num_classes
        self.seen = self.add_variable((num_classes,), "zeros", name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        first = keras.ops.argmax(y_pred, -1)
        self.seen.assign_add(keras.ops.sum(keras.ops.one_hot(first, self.num_classes), 0))

    def result(self):
        return keras.ops.sum(self.seen)


class CountedTwice(Counted):
    """Its default would hide that `get_config` leaves the argument out."""

    def __init__(self, num_classes=2, name="twice"):
        super().__init__(num_classes, name)

    def result(self):
        return keras.ops.sum(self.seen) + self.num_classes


class Locked(keras.metrics.Mean):
    def __init__(self, limit, name="locked"):
        super().__init__(name=name)
        self.lock = threading.Lock()


def plain_loss(y_true, y_pred):
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def test_c7_a_metric_without_config():
    """C7: works, each model with a metric of its own; what cannot be copied is named."""
    model = CNSN(base((8, 8)), ("stage2",))
    metrics = [Counted(10), CountedTwice(10), "accuracy"]
    model.compile("sgd", plain_loss, metrics=metrics, weighted_metrics=[Counted(10, "w")])
    results = model.evaluate(X, Y, verbose=0, return_dict=True)
    for name in model.names:
        assert results[f"{name}_counted"] == results[f"{name}_w"] == 8
        assert results[f"{name}_twice"] == 18
    with pytest.raises(ValueError, match=r"metric 'locked' must be copied for .* Locked cannot be"):
        model.compile("sgd", plain_loss, metrics=[Locked(3)])
    shared = Counted(10)
    model.compile("sgd", plain_loss, metrics={"base": [shared], "sub1": [shared]})
    results = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert results["base_counted"] == results["sub1_counted"] == 8


# ---- C8: quantizing


def test_c8_quantize_is_refused_before_any_change(model):
    """C8: of the whole; a part is a copy of layers, and the whole keeps its weights."""
    before = model.get_weights()
    with pytest.raises(ValueError, match="export_model.*precision='int8'"):
        model.quantize("int8")
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["sub2", "sub2_w50"])
def test_c8_a_quantized_part_is_close_and_the_whole_unchanged(model, wanted, name):
    part = model.part(name)
    before = model.get_weights()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras names the layers that it does not quantize
        part.quantize("int8")
    same(part, wanted[name], 0.05)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    same(model.part(name), wanted[name])


def test_c8_slices_of_a_quantized_layer_are_refused():
    model = wide()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.base.quantize("int8")
    with pytest.raises(ValueError, match="'logits' is quantized"):
        model.part("base_w50")(X)


# ---- C11: copying


def test_c11_copies_keep_what_is_shared(model, wanted):
    """C11: `clone_model` is refused, every other way of copying keeps the sharing."""
    with pytest.raises(ValueError, match=r"from_config\(model.get_config\(\)\)"):
        keras.models.clone_model(model)
    with pytest.raises(ValueError, match="clone_model copies layer by layer"):
        keras.models.clone_model(model, clone_function=lambda layer: layer)
    again = CNSN.from_config(model.get_config())
    again.set_weights(model.get_weights())
    for other in (again, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is CNSN and len(other.weights) == len(model.weights)
        same(other.part("sub1_w50"), wanted["sub1_w50"])
    inputs = keras.Input((16, 16, 3))
    outer = keras.models.clone_model(keras.Model(inputs, model(inputs)))
    assert len(outer.weights) == len(model.weights)
    part = keras.models.clone_model(model.part("sub2"))
    part.set_weights(model.part("sub2").get_weights())
    same(part, wanted["sub2"])


# ---- D10: small copies


@pytest.mark.parametrize("place", [(0, 1.0), (2, 1.0), (0, 0.5), (1, 0.5)])
def test_d10_a_copy_has_plain_layers_and_weights_of_its_own(model, wanted, place, tmp_path):
    """D10 (reported at slimmable_networks#57): the file of a copy holds what the copy uses."""
    name = model.names[model._places.index(place)]
    small = model.detach(*place, copy=True)
    same(small, wanted[name])
    assert {type(layer).__module__.split(".")[0] for layer in small.layers} == {"keras"}
    assert small.layers[-1].name == "logits" and small.get_layer("stage3_conv").trainable
    small.save(tmp_path / "small.keras")
    same(keras.saving.load_model(tmp_path / "small.keras"), wanted[name])
    for v in small.variables:
        v.assign(v * 0)
    same(model.part(name), wanted[name])


def test_d10_half_the_width_is_a_quarter_of_the_file(tmp_path):
    model = CNSN(base((64, 64)), ("stage2",), widths=(1.0, 0.5))
    for width in (1.0, 0.5):
        model.detach(0, width, copy=True).save(tmp_path / f"{width}.keras")
        model.detach(0, width, copy=True).save_weights(tmp_path / f"{width}.weights.h5")
    sizes = [model.detach(0, w, copy=True).count_params() for w in (1.0, 0.5)]
    assert sizes[1] < 0.3 * sizes[0]
    whole, half = ((tmp_path / f"{w}.keras").stat().st_size for w in (1.0, 0.5))
    assert half < 0.45 * whole  # some 50 kB of each are no weights


def test_d10_a_copy_keeps_frozen_layers_and_class_names():
    model = wide()
    model.class_names = tuple("abcdefghij")
    model.get_layer("stage3_conv").trainable = False
    small = model.detach(2, copy=True)
    assert not small.get_layer("stage3_conv").trainable and small.class_names == model.class_names


# ---- C8: blocks that are models


def blocks(kind):
    """A network of two blocks, each a model in the network, cut behind the first."""
    x = i = keras.Input((8, 8, 3))
    for k in (1, 2):
        inner = [layers.Conv2D(4, 3, padding="same", name=f"c{k}"), layers.Dense(4, name=f"d{k}")]
        if kind == "functional":
            j = keras.Input(x.shape[1:])
            x = keras.Model(j, inner[1](inner[0](j)), name=f"s{k}")(x)
        else:
            inner = keras.Sequential(inner, name=f"s{k}")
            x = (keras.Sequential([inner], name=f"o{k}") if kind == "nested" else inner)(x)
    x = layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x))
    return CNSN(keras.Model(i, x, name="user"), ("o1" if kind == "nested" else "s1",))


@pytest.mark.parametrize("kind", ["sequential", "functional", "nested"])
def test_c8_a_quantized_part_of_blocks_leaves_the_whole(kind, tmp_path):
    """C8 and C1: models inside a part have layers of their own, at any depth."""
    model, x = blocks(kind), images(4, 8)
    before, part = np.asarray(model(x)), model.detach(0)
    assert {id(v) for v in part.variables} <= {id(v) for v in model.variables}
    np.testing.assert_allclose(part(x), before, rtol=1e-5, atol=1e-5)
    block = part.layers[2].layers[-1] if kind == "nested" else part.layers[2]
    assert all(len(layer._inbound_nodes) == 1 for layer in block.layers)
    part.save(tmp_path / "part.keras")
    loaded = keras.saving.load_model(tmp_path / "part.keras")
    np.testing.assert_allclose(loaded(x), before, rtol=1e-5, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part.quantize("int8")
    assert block.get_layer("d2").quantization_mode == "int8"
    np.testing.assert_array_equal(model(x), before)


def test_c8_a_part_with_blocks_that_it_shares_refuses_quantize():
    """C8: layers that are no models keep what is inside them; copies of them can be quantized."""
    x = i = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="a")(x)
    x = layers.TimeDistributed(layers.Dense(4), name="block")(x)
    base = keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="user")
    model, x = CNSN(base, ("a",)), images(2, 8)
    model.class_names = ("x", "y", "z")
    before = np.asarray(model(x))
    for part in (model.detach(1), model.part("base")):
        with pytest.raises(ValueError, match="since block would be .*copy=True"):
            part.quantize("int8")
    small = model.detach(0, copy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small.quantize("int8")
    assert small.get_layer("block").layer.quantization_mode == "int8"
    np.testing.assert_array_equal(model(x), before)
    pickle.loads(pickle.dumps(model.detach(1)))


def test_c1_a_part_has_checkpoint_lists_of_its_own(model):
    """C1: what is set on a layer of a part is not followed by checkpoints of the whole."""
    part = model.part("sub1_w50")
    for layer in part.layers[1:]:
        of = model.get_layer(layer.name)
        both = [value for key, value in vars(layer).items() if key.startswith("_self_")]
        ours = {id(value) for key, value in vars(of).items() if key.startswith("_self_")}
        assert not [v for v in both if isinstance(v, (list, dict, set)) and id(v) in ours]


# ---- C13: `freeze`


def small_parts(**arguments):
    """Two convolutions with norms, a Dense and an activation behind it, at two widths."""
    x = i = keras.Input((8, 8, 3))
    for k in (1, 2):
        x = layers.Conv2D(4, 3, padding="same", use_bias=False, name=f"c{k}")(x)
        x = layers.MaxPooling2D(name=f"p{k}")(layers.BatchNormalization(name=f"b{k}")(x))
    x = layers.Dense(3, name="logits")(layers.GlobalAveragePooling2D()(x))
    base = keras.Model(i, layers.Activation("linear", name="act")(x), name="user")
    return CNSN(base, ("p1",), widths=(1.0, 0.5), **arguments)


@pytest.mark.parametrize("batch_norm", ["own", "shared"])
def test_c13_freeze_of_a_layer_whose_weights_others_use(batch_norm):
    """C13: the layer of the base decides, and batch norms of all models are frozen with it."""
    model = small_parts(batch_norm=batch_norm)
    every = paths(model.trainable_variables)
    assert freeze(model, all_but="head") == 2
    assert paths(model.trainable_variables) == {"logits/kernel", "logits/bias"}
    assert freeze(model, all_but="c2") == 1
    assert paths(model.trainable_variables) == {"c2/kernel"}
    freeze(model, ["c2", "b2"])
    assert every - paths(model.trainable_variables) == {"c2/kernel", "b2/gamma", "b2/beta"}
    frozen = {layer.name for layer in model.layers if not layer.trainable}
    assert frozen == {x.name for x in model.layers if x.name.startswith(("c2", "b2"))}
    freeze(model, "b*")
    assert every - paths(model.trainable_variables) == {p for p in every if p[0] == "b"}
    outer = keras.Sequential([layers.Input((8, 8, 3)), model, layers.Dense(2)])
    assert freeze(outer, "c1") == len(every) + 1
    assert freeze(outer, all_but="c1") == 1
    assert unfreeze(model) == len(every)


@pytest.mark.parametrize("name", ["c1_w50", "*_w50", "b2_sub1"])
def test_c13_freeze_of_a_slice_names_the_layer_that_decides(name):
    """C13: a layer that only uses the weights of another is refused before any change."""
    model = small_parts()
    count = len(model.trainable_variables)
    for arguments in (dict(layers=name), dict(all_but=name)):
        with pytest.raises(ValueError, match=r"uses the weights of (\w\d), .*: name \1$"):
            freeze(model, **arguments)
    assert len(model.trainable_variables) == count


# ---- C6: one notice a model


def test_c6_the_notice_is_given_once():
    """C6: a loop of one's own is told once, not at each step."""
    model = small_parts()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            model(images(2, 8), training=True)
    assert len(base_only(caught)) == 1
