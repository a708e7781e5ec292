"""C: models of DMNN, TissueNet and Puppet-CNN as layers, cut open, copied, frozen and exported."""

import threading
import warnings

import keras
import numpy as np
import pytest
from helpers import (
    CNSN,
    compiled,
    copy_by_config,
    crossentropy,
    detachable_base,
    gates_of,
    images,
    labels,
    layers_of,
    scatter_gates,
    tiny,
)

import keras_dynnets
from keras_dynnets import puppet
from keras_dynnets.core import keras_private
from keras_dynnets.layers import MultiPath, PathController, StackedUnits1D, StackedUnits2D

L = keras.layers
SHAPE = (16, 16, 3)


def generated(levels=2):
    """A puppet with a head of its own."""
    return puppet.puppeteer(detachable_base((8,), classes=3, size=16), levels=levels)


def tissue():
    x = inputs = keras.Input(SHAPE)
    x = L.Conv2D(8, 3, padding="same")(x)
    x = StackedUnits2D((2, 4, 2), name="units2d")(x)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    x = StackedUnits1D((2, 3, 2), name="units1d")(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="tissue")


def inside(model, *before):
    """A new head of three classes on a model."""
    return keras.Sequential([keras.Input(SHAPE), *before, model, L.Dense(3, name="new")])


def said(action):
    """The warnings of this library that an action gives."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        action()
    return [str(w.message) for w in found if "train" in str(w.message)]


def fit(model, epochs=1):
    return model.fit(images(8), labels(8, 3), batch_size=4, epochs=epochs, verbose=0)


def values(weights):
    return [np.array(w) for w in weights]


# ---- C3


@pytest.mark.parametrize("functional", [False, True])
def test_c3_a_frozen_puppet_under_a_new_head(functional):
    """C3: only the head trains, in a Sequential and in a functional model."""
    inner = generated()
    inner.trainable = False
    model = inside(inner)
    if functional:
        x = keras.Input(SHAPE)
        model = keras.Model(x, L.Dense(3, name="new")(inner(x)))
    frozen, head = values(inner.weights), values(model.get_layer("new").weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # a frozen puppet loses nothing
        fit(compiled(model))
    assert all((a == b).all() for a, b in zip(frozen, values(inner.weights), strict=True))
    new = values(model.get_layer("new").weights)
    assert all((a != b).any() for a, b in zip(head, new, strict=True))
    wanted = model.get_layer("new")(inner.predict(images(6), verbose=0))
    np.testing.assert_allclose(model.predict(images(6), verbose=0), wanted, atol=1e-4)


# ---- C4


def frozen_flags(model):
    layers = model._flatten_layers()
    # Keras does not keep the flag of an input, which has no variables.
    return [layer.trainable for layer in layers if not isinstance(layer, L.InputLayer)]


FREEZE = {
    "dmnn": (tiny, lambda m: m),
    "dmnn controller": (tiny, lambda m: layers_of(m, PathController)[1]),
    "dmnn layer of a controller": (tiny, lambda m: layers_of(m, PathController)[1].logits),
    "dmnn path": (tiny, lambda m: layers_of(m, MultiPath)[1].paths[0]),
    "dmnn layer of a path": (tiny, lambda m: layers_of(m, MultiPath)[1].paths[1].layers[0]),
    "puppet": (generated, lambda m: m),
    "puppet puppeteer": (generated, lambda m: m.puppet.ode),
    "puppet head": (generated, lambda m: m.puppet.kept[-1]),
    "tissue": (tissue, lambda m: m),
    "tissue units": (tissue, lambda m: m.get_layer("units1d")),
    "tissue layer of units": (
        tissue,
        lambda m: m.get_layer("units2d").side_by_side.chains[0].layers[0],
    ),
}


@pytest.mark.parametrize("case", FREEZE)
def test_c4_what_is_frozen_is_still_frozen_in_a_saved_model(case, tmp_path):
    """C4: of the model alone and as a layer of another one."""
    make, chosen = FREEZE[case]
    model = make()
    chosen(model).trainable = False
    outer = inside(model)
    outer.save(tmp_path / "outer.keras")
    loaded = keras.models.load_model(tmp_path / "outer.keras")
    assert frozen_flags(loaded) == frozen_flags(outer)
    assert not all(frozen_flags(loaded)) and any(frozen_flags(loaded))
    assert [w.shape for w in loaded.trainable_weights] == [w.shape for w in outer.trainable_weights]
    assert frozen_flags(copy_by_config(model)) == frozen_flags(model)


def test_c4_layers_alone_keep_it_too():
    """C4: a controller and units in a network of the user's own."""
    x = keras.Input((8, 8, 4))
    gates, state = PathController(2, units=4, name="controller")(x)
    model = keras.Model(x, [gates, StackedUnits1D((2, 3, 2), name="units")(state)])
    model.get_layer("controller").embed_input.trainable = False
    model.get_layer("units").side_by_side.chains[0].layers[1].trainable = False
    assert frozen_flags(copy_by_config(model)) == frozen_flags(model)
    assert frozen_flags(model).count(False) == 2


# ---- C6


def test_c6_a_puppet_in_another_models_fit_says_what_is_lost():
    """C6: once, with what to do; own `fit`, inference and prepared batches say nothing."""
    inner = generated()
    model = compiled(inside(inner, L.RandomFlip()))
    assert not said(lambda: model.predict(images(4), verbose=0))
    (message,) = said(lambda: fit(model))
    assert "median level" in message and "by_level" in message
    assert not said(lambda: fit(compiled(model)))
    assert not said(lambda: fit(compiled(generated())))


def test_c6_batches_of_one_level_need_no_warning():
    """C6: what the warning advises."""
    import tensorflow as tf

    inner = generated()
    inner.rank(images(16))
    data = tf.data.Dataset.from_tensor_slices((images(8), labels(8, 3)))
    batches = puppet.by_level(data, inner, 4)
    assert not said(lambda: inner.puppet(next(iter(batches))[0], training=True))


def test_c6_a_dmnn_in_another_models_fit_has_its_resource_loss():
    """C6: and says that its category loss, which needs labels, is missing."""
    inner = tiny(gate_noise=0, resource_weight=1000.0)
    x = images(4)
    assert not said(lambda: inside(inner, L.RandomFlip())(x, training=True))
    assert len(inner.losses) == 1 and float(inner.losses[0]) > 10
    inner = tiny(categories=[0, 1] * 5)
    (message,) = said(lambda: [inside(inner)(x, training=True) for _ in range(2)])
    assert "category loss" in message


# ---- C8


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
@pytest.mark.parametrize("make", [tiny, generated])
def test_c8_quantize_is_refused_before_any_change(make, mode):
    """C8: with the name of the export that quantizes."""
    model = make()
    before = values(model.weights)
    with pytest.raises(ValueError, match=r"export_model\(.*precision='int8'"):
        model.quantize(mode)
    assert all((a == b).all() for a, b in zip(before, values(model.weights), strict=True))


def test_c8_quantize_of_a_model_around_leaves_the_gates():
    """C8: a DMNN as a layer; its head is quantized and its controllers are not."""
    inner = scatter_gates(tiny())
    outer, x = inside(inner), images(16)
    gates, before = gates_of(inner, x), np.array(outer(x))
    assert 0 < gates.mean() < 1
    outer.quantize("int8")
    np.testing.assert_array_equal(gates_of(inner, x), gates)
    assert 0 < np.abs(outer(x) - before).max() < 0.05 * np.abs(before).max()


def test_c8_units_are_close_after_quantize():
    """C8: a tissue network is a plain Keras model, and what Keras quantizes stays close."""
    model, x = tissue(), images(16)
    before = np.array(model(x))
    model.quantize("int8")
    assert 0 < np.abs(model(x) - before).max() < 0.05 * np.abs(before).max()


# ---- C9


@pytest.mark.parametrize("categories", [None, [0, 1] * 5])
def test_c9_the_output_of_a_dmnn_is_its_logits(categories):
    """C9: however it is cut open."""
    model, x = scatter_gates(tiny(categories=categories)), images(6)
    assert model.output_shape == (None, 10) and len(model.outputs) == 1
    wanted = np.array(model(x))
    for tensor in (model.outputs[0], model.output, model.layers[-1].output):
        assert_equal(keras.Model(model.input, tensor)(x), wanted)
    shares = keras.Model(model.input, L.Softmax()(model.outputs[0]))(x)
    np.testing.assert_allclose(np.sum(shares, 1), 1, atol=1e-5)
    assert (np.argmax(shares, 1) == np.argmax(wanted, 1)).all()


@pytest.mark.parametrize("make", [generated, tissue])
def test_c9_the_output_of_other_families(make):
    """C9: one output, the logits."""
    model, x = make(), images(4)
    assert model.output_shape == (None, 3)
    assert_equal(keras.Model(model.input, model.outputs[0])(x), model(x))
    assert_equal(keras.Model(model.input, model.layers[-1].output)(x), model(x))


def assert_equal(a, b):
    np.testing.assert_allclose(np.array(a), np.array(b), atol=1e-4)


def test_a_clone_of_a_dmnn_gives_its_logits():
    """`keras.models.clone_model` once gave a network with two outputs."""
    model, x = scatter_gates(tiny()), images(6)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_equal(clone(x), model(x))
    assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}


# ---- C10


def test_c10_gates_that_train_without_their_model_say_so():
    """C10: once for all gates of the network, and not where they are frozen or not trained."""
    model = tiny()
    cut = compiled(keras.Model(model.input, L.Dense(3)(model.get_layer("pool").output)))
    assert not said(lambda: cut.predict(images(4), verbose=0))
    (message,) = said(lambda: fit(cut, epochs=2))
    assert "resource loss" in message and "num_classes" in message
    assert not said(lambda: cut(images(4), training=True))

    for use in (lambda m: keras.Model(m.input, m.outputs[0]), keras.models.clone_model):
        (message,) = said(lambda use=use: use(tiny())(images(4), training=True)) or [None]
        assert "resource loss" in message


def test_c10_nested_and_frozen_gates_say_nothing():
    """C10: a model that is called as a whole has its loss; frozen gates do not train."""
    model = tiny()
    assert not said(lambda: inside(model)(images(4), training=True))
    keras_dynnets.freeze(model, "*_controller")
    cut = keras.Model(model.input, L.Dense(3)(model.get_layer("pool").output))
    assert not said(lambda: cut(images(4), training=True))


# ---- C12


@pytest.mark.parametrize("format, name", [("onnx", "m.onnx"), ("litert", "m.tflite")])
@pytest.mark.parametrize("make", [tiny, generated])
def test_c12_kerass_own_export_is_refused(make, format, name, tmp_path):
    """C12: before anything is written, with what to use."""
    with pytest.raises(ValueError, match=r"keras_dynnets\.export\.export_model"):
        make().export(tmp_path / name, format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny, generated, tissue])
def test_c12_kerass_own_saved_model_is_right(make, tmp_path):
    """C12: for one image and for several."""
    import tensorflow as tf

    model = make()
    if make is tiny:
        scatter_gates(model)
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    for count in (1, 4):
        assert_equal(loaded.serve(images(count)), model(images(count)))


# ---- C13


def paths(weights):
    return {w.path for w in weights}


def detachable():
    return CNSN(detachable_base(classes=3), ("stage1",), name="parts")


HEADS = {"dmnn": tiny, "tissue": tissue, "puppet": generated, "plain": detachable_base}
HEADS["cnsn"] = detachable


@pytest.mark.parametrize("family", HEADS)
def test_c13_freeze_is_exact_for_every_family(family):
    """C13: all but the head, then everything again; what was frozen before does not matter."""
    model = HEADS[family]()
    every = paths(model.trainable_weights)
    keras_dynnets.freeze(model, "*")
    assert keras_dynnets.freeze(model, all_but="head") == 2
    assert paths(model.trainable_weights) == {"logits/kernel", "logits/bias"}
    model.trainable = True  # what dropped nearly all of them
    assert keras_dynnets.unfreeze(model) == len(every)
    assert paths(model.trainable_weights) == every


def test_c13_freeze_by_name_at_any_depth():
    """C13: by patterns, by several names, and only what is inside a named layer."""
    model = tiny()
    every = paths(model.trainable_weights)
    controllers = {path for path in every if "_controller/" in path}
    count = keras_dynnets.freeze(model, "*_controller")
    assert count == len(every) - len(controllers) and controllers
    assert paths(model.trainable_weights) == every - controllers
    keras_dynnets.freeze(model, all_but=["logits", "stage2_block1_paths"])
    trained = paths(model.trainable_weights)
    assert {path.split("/")[0] for path in trained if "logits" not in path} and all(
        "stage2_block1_path" in path or path.endswith(("logits/kernel", "logits/bias"))
        for path in trained
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "either"),
        ({"layers": "stem*", "all_but": "head"}, "either"),
        ({"layers": "no_such"}, "no layer 'no_such'; its layers are"),
        ({"all_but": "stem_relu"}, "no weights"),
    ],
)
def test_c13_freeze_refuses_before_any_change(arguments, message):
    """C13: a name that is wrong."""
    model = tiny()
    model.get_layer("stem_conv").trainable = False
    before = frozen_flags(model)
    with pytest.raises(ValueError, match=message):
        keras_dynnets.freeze(model, **arguments)
    assert frozen_flags(model) == before


def test_c13_a_generated_head_cannot_train_alone():
    """C13: the puppeteer generates it."""
    x = inputs = keras.Input(SHAPE)
    x = L.Conv2D(3, 3, name="logits")(x)
    plain = keras.Model(inputs, L.GlobalAveragePooling2D()(x), name="plain")
    with pytest.raises(ValueError, match="head of plain has no weights of its own"):
        keras_dynnets.freeze(puppet.puppeteer(plain), all_but="head")


# ---- D12, of Keras's own `evaluate`


def test_d12_evaluate_reports_the_execution_rate():
    """D12: Keras's own `evaluate` gives the work of the images beside their accuracy."""
    model, x, y = compiled(scatter_gates(tiny())), images(12), labels(12)
    gates = gates_of(model, x)
    found = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["execution_rate"], gates.mean(), rtol=1e-5)
    share = model.macs_of(gates).mean() / model.macs_of(np.ones_like(gates)).mean()
    np.testing.assert_allclose(found["macs_share"], share, rtol=1e-5)
    np.testing.assert_allclose(found["loss"], crossentropy()(y, model(x)), rtol=1e-5)


def _with_end(*end):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    return keras.Sequential([network, *end])


@pytest.mark.parametrize("deep", [0, 1, 2])
def test_c_a_model_without_weights_at_the_end_is_no_head(deep):
    """C: "head has no weights" where a `Sequential` of a softmax stood behind it."""
    end = keras.layers.Softmax()
    for _ in range(deep):
        end = keras.Sequential([end])
    model = _with_end(end)
    model.build((None, 16, 16, 3))
    assert keras_dynnets.freeze(model, all_but="head") == 2
    assert [w.path.split("/")[-2] for w in model.trainable_weights] == ["logits"] * 2


def test_c_a_way_through_a_model_beside_its_weights():
    """C: only what lies before the input that the way comes from."""
    a, b = keras.Input((4,)), keras.Input((4,))
    twice = keras.Model([a, b], [keras.layers.Dense(2)(a), keras.layers.ReLU()(b)])
    x = keras.Input((4,))
    left, right = (keras.layers.Dense(4, name=name)(x) for name in ("left", "right"))
    found = keras_private.layers_with_weights_before(twice([left, right])[1])
    assert [layer.name for layer in found] == ["right"]
    found = keras_private.layers_with_weights_before(twice([left, right])[0])
    assert found == [layer for layer in twice.layers if layer.weights]


def test_c_following_layers_changes_keras_for_one_thread_at_a_time():
    """C: two threads that count at once left Keras changed."""
    before, entered = keras.Variable.__add__, []
    with keras_private.symbols_for_values():
        with keras_private.symbols_for_values():
            pass

        def other():
            with keras_private.symbols_for_values():
                entered.append(1)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert not entered
    thread.join()
    assert entered and keras.Variable.__add__ is before
