"""Reported of converters: what they read, share, copy, leave alone and refuse (D1 to D6, D11)."""

import keras
import numpy as np
import pytest
from helpers import assert_close, compiled, images, labels
from keras import layers, ops

from keras_dynnets import cnsn, puppet, tissue
from keras_dynnets.core.copying import copied
from keras_dynnets.export import export_model
from keras_dynnets.families.cnsn.cuts import Cuts
from keras_dynnets.profile import count


def behind(prepare, size=16, norms=False):
    """A network of two convolutions, to cut behind "a", with `prepare` before the first."""
    i = keras.Input((size, size, 3))
    x = layers.Conv2D(8, 3, padding="same", name="first")(prepare(i))
    x = layers.BatchNormalization(name="norm")(x) if norms else x
    x = layers.MaxPooling2D(name="a")(layers.ReLU(name="relu")(x))
    x = layers.Conv2D(8, 3, padding="same", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(i, layers.Dense(3, name="logits")(x), name="user")


def call_of(model, name):
    """The first tensor that a layer reads."""
    return model.get_layer(name).input


def adapted():
    layer = layers.Normalization()
    layer.adapt(images(8))
    return layer


class Halved(layers.Layer):
    """A layer without weights that cannot be made from its config."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)

    def compute_output_shape(self, shape):
        return shape


STEMS = {
    "augmented": lambda i: layers.Rescaling(1 / 255)(layers.RandomFlip()(i)),
    "an operator": lambda i: i / 255,
    "preprocess_input": keras.applications.mobilenet_v2.preprocess_input,
    "caffe": keras.applications.vgg16.preprocess_input,
    "Lambda": lambda i: layers.Lambda(lambda x: x / 255)(i),
    "own layer": lambda i: Halved(lambda x: x / 255)(i),
    "Resizing": lambda i: layers.Resizing(12, 12)(layers.Rescaling(1 / 255)(i)),
    "CenterCrop": lambda i: layers.CenterCrop(12, 12)(i / 255),
    "Normalization": lambda i: layers.GaussianNoise(0.1)(adapted()(i)),
    "a model": lambda i: keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)])(i),
    "two ways that join": lambda i: layers.Concatenate()([i / 255, (i - 128) / 64]),
    "a norm without weights": lambda i: layers.BatchNormalization(center=False, scale=False)(i),
}


@pytest.mark.parametrize("stem", STEMS)
def test_d1_step_downs_read_what_the_first_convolution_reads(stem):
    """D1: and so do the models at widths below 1, in counts, too."""
    base = behind(STEMS[stem])
    read = call_of(base, "first")
    model = cnsn.detachable(base, ["a"], widths=(1.0, 0.5))
    assert call_of(model, "step_down1") is read and call_of(model, "step_down1_w50") is read
    step = model.get_layer("step_down1")
    assert step.output.shape[1:] == (read.shape[1] // 2, read.shape[2] // 2, 8)
    x = images(4)
    small = model.detach(1)
    expected = model.get_layer("step_down1")(keras.Model(base.input, read)(x, training=False))
    expected = keras.Model(base.get_layer("second").input, base.output)(expected)
    assert_close(small(x, training=False), expected)


def test_d1_training_with_sgd_stays_finite():
    """D1: as in the report, raw pixels gave nan."""
    model = cnsn.detachable(behind(STEMS["augmented"], norms=True), ["a"], widths=(1.0, 0.5))
    model = compiled(model, learning_rate=0.1)
    history = model.fit(images(24), labels(24, 3), epochs=3, verbose=0).history
    assert np.isfinite(list(history.values())).all()


def test_d1_random_layers_draw_once_for_all_models():
    """D1: the base and the sub-model see the same noise."""
    model = cnsn.detachable(behind(lambda i: layers.GaussianNoise(0.9)(i)), ["a"])
    noise = model.get_layer("first").input
    seen = keras.Model(model.input, [noise, model.get_layer("step_down1").input])
    one, other = seen(images(2), training=True)
    np.testing.assert_array_equal(one, other)
    calls = [op for op in model.operations if isinstance(op, layers.GaussianNoise)]
    assert len(calls) == 1


def test_d1_counts_and_files_hold_the_preprocessing(tmp_path):
    """D1: saved, loaded and counted."""
    model = cnsn.detachable(behind(lambda i: i / 255, norms=True), ["a"])
    point = next(p for p in cnsn.cut_points(model.base) if p.name == "a")
    assert point.macs == count(model.detach(1)).macs
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    x = images(4)
    np.testing.assert_array_equal(again.detach(1)(x), model.detach(1)(x))


def test_d1_zeros_around_the_images_are_not_read():
    """D1: a ZeroPadding2D is part of the convolution behind it, as padding="same" is."""
    cuts = Cuts(behind(lambda i: layers.ZeroPadding2D(1)(i / 255)))
    assert cuts.images.shape == (None, 16, 16, 3) and cuts.images is not cuts.network.inputs[0]


def test_d1_several_ways_of_preparing_are_refused_and_one_can_be_named():
    """D1: which of them to read is for the user to say."""
    i = keras.Input((16, 16, 3))
    one = layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 255, name="one")(i))
    two = layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 64, name="two")(i))
    x = layers.MaxPooling2D(name="a")(layers.Add()([one, two]))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
    base = keras.Model(i, layers.Dense(3)(x), name="user")
    with pytest.raises(ValueError, match="several ways, 'one', 'two'.*preprocessing="):
        cnsn.detachable(base, ["a"])
    with pytest.raises(ValueError, match="several ways.*preprocessing="):
        cnsn.cut_points(base)
    assert "a" in [point.name for point in cnsn.cut_points(base, preprocessing="two")]
    with pytest.raises(ValueError, match="'one'.*, not 'three'"):
        cnsn.detachable(base, ["a"], preprocessing="three")
    model = cnsn.detachable(base, ["a"], preprocessing="two")
    assert call_of(model, "step_down1") is base.get_layer("two").output
    assert cnsn.detachable(base, widths=0.5).names == ("base", "base_w50")


NORMS = {
    "BatchNormalization": lambda: layers.BatchNormalization(name="images"),
    "LayerNormalization": lambda: layers.LayerNormalization(name="images"),
    "in a model": lambda: keras.Sequential(
        [layers.RandomFlip(), layers.BatchNormalization()], name="images"
    ),
}


@pytest.mark.parametrize("norm", NORMS)
def test_d1_a_norm_on_the_images_belongs_to_all_models(norm, tmp_path):
    """D1: one layer with one set of statistics, whatever the widths and cuts."""
    base = behind(lambda i: NORMS[norm]()(i), norms=True)
    count_of_base = len(base.get_layer("images").variables)
    model = cnsn.detachable(base, ["a"], widths=(1.0, 0.5))
    read = call_of(model, "first")
    assert call_of(model, "step_down1") is read and call_of(model, "first_w50") is read
    assert model.preprocessing == "images"
    assert [layer.name for layer in model.layers if "images" in layer.name] == ["images"]
    x = images(8)
    compiled(model, learning_rate=0.01).fit(x, labels(8, 3), verbose=0)
    assert len(model.get_layer("images").variables) == count_of_base
    point = next(p for p in cnsn.cut_points(model.base) if p.name == "a")
    assert point.macs == count(model.detach(1)).macs
    model.calibrate(x)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    for place in [(0, 1.0), (1, 1.0), (0, 0.5), (1, 0.5)]:
        logits = model.detach(*place)(x, training=False)
        np.testing.assert_array_equal(again.detach(*place)(x, training=False), logits)
        assert_close(model.detach(*place, copy=True)(x, training=False), logits)


def test_d1_a_norm_behind_what_the_step_downs_read_is_of_each_model():
    """D1: as named by the user, and in files of before."""
    base = behind(lambda i: layers.BatchNormalization(name="images")(layers.Rescaling(0.1)(i)))
    name = base.layers[1].name
    model = cnsn.detachable(base, ["a"], widths=(1.0, 0.5), preprocessing=name)
    assert call_of(model, "step_down1") is base.layers[1].output
    assert model.get_layer("images_base_w50").variables
    again = cnsn.CNSN.from_config(model.get_config())
    assert len(again.variables) == len(model.variables)


def test_d1_a_model_inside_that_prepares_the_images_is_refused():
    """D1: nothing outside it reads what its first convolution reads."""
    inner = keras.Sequential(
        [keras.Input((16, 16, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3)], name="inner"
    )
    i = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, name="after")(inner(i))
    base = keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="user")
    with pytest.raises(ValueError, match="model 'inner' inside user prepares its images itself"):
        cnsn.detachable(base, ["inner"])


def test_d1_files_of_before_read_what_they_were_trained_on():
    """D1: a file that does not say what its step-downs read has them read as version 0.1 did."""
    model = cnsn.detachable(behind(lambda i: layers.Rescaling(1 / 255)(i) - 0.5), ["a"])
    config = model.get_config()
    assert config["preprocessing"].startswith("subtract")
    del config["preprocessing"]
    earlier = cnsn.CNSN.from_config({**config, "cuts": ["a"], "name": "earlier"})
    assert str(earlier.preprocessing).startswith("rescaling")


def run_twice():
    """The network of a notebook cell that is run for the second time."""
    for _ in range(2):
        x = i = keras.Input((16, 16, 3))
        for _ in range(3):
            x = layers.ReLU()(layers.Conv2D(4, 3, padding="same")(x))
        x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(i, x, name="user")


def test_d2_a_number_is_no_part_of_a_name():
    """D2: "conv2d" is not "conv2d_5"; the message has the nearest names first, and no more."""
    keras.utils.clear_session()
    base = run_twice()
    with pytest.raises(ValueError, match="no layer 'conv2d'.*legal cuts are 'conv2d_3'"):
        cnsn.detachable(base, ["conv2d"])
    assert cnsn.detachable(base, ["conv2d_4"]).cuts == ("conv2d_4",)
    with pytest.raises(ValueError, match="no layer 're_lu'.*legal cuts are 're_lu_3'"):
        cnsn.detachable(base, ["re_lu"])


def named(*names):
    """A network of convolutions of these names; those with "relu" are activations."""
    x = i = keras.Input((16, 16, 3))
    for name in names:
        layer = layers.ReLU(name=name) if "relu" in name else layers.Conv2D(4, 3, name=name)
        x = layer(x)
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="last")(x)))
    return keras.Model(i, x, name="user")


@pytest.mark.parametrize(
    "names, cut, found",
    [
        (("conv2_block1_1_conv", "conv2_block1_1_relu", "other"), "conv2_block1", 1),
        (("stage1_conv", "stage1_relu", "stage10_conv"), "stage1", 1),
        (("block_1_expand", "block_1_relu", "block_2_expand", "block_2_relu"), "block_1", 1),
        (("stage1_conv", None, "stage1_conv2"), "stage1", 2),
        (("conv2d_5", "conv2d_5_relu"), "conv2d", None),
        (("conv2d_5", "conv2d_5_relu", "conv2d_5_conv"), "conv2d_5", 0),
        (("pool_conv", "other"), "pool", None),
        (("conv_a", "between", "conv_b"), "conv", None),
        (("a", "a_conv", "a_relu"), "a", 0),
        (("a_conv", "a_relu"), "a_", None),
        (("conv1_1", "conv1_2", "conv2_1"), "conv1", 1),
        (("stage1_1", "stage1_relu", "stage2_1"), "stage1", 1),
        (("conv2d_1", "conv2d_2"), "conv2d", None),
    ],
)
def test_d2_which_names_are_blocks(names, cut, found):
    """D2: exact names first, then blocks of two layers or more that follow each other."""
    cuts = Cuts(named(*(name or "" for name in names)) if None not in names else unnamed(names))
    if found is None:
        with pytest.raises(ValueError, match="no layer"):
            cuts.find(cut)
    else:
        assert cuts.find(cut).name == names[found]


def unnamed(names):
    x = i = keras.Input((16, 16, 3))
    for name in names:
        x = layers.Conv2D(4, 3, name=name)(x)
    return keras.Model(i, layers.Conv2D(4, 3)(x))


def shared_layers(norm=True):
    """A network whose batch norm, activation and second convolution are called several times."""
    x = i = keras.Input((16, 16, 3))
    shared = layers.BatchNormalization(name="sharedbn") if norm else layers.Identity()
    again = layers.Conv2D(8, 3, padding="same", name="again")
    relu = layers.ReLU(name="relu")
    x = shared(layers.Conv2D(8, 3, padding="same", name="first")(x))
    x = layers.MaxPooling2D(name="a")(relu(x))
    x = relu(shared(again(x)))
    x = relu(shared(again(x)))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(i, layers.Dense(3, name="logits")(x), name="user")


def test_d3_a_layer_that_is_called_several_times(tmp_path):
    """D3: each model has one batch norm in its place, with the mean of all its calls."""
    model = cnsn.detachable(shared_layers(), ["a"], widths=(1.0, 0.5))
    own = [layer.name for layer in model.layers if layer.name.startswith("sharedbn")]
    names = ["sharedbn", "sharedbn_sub1", "sharedbn_base_w50", "sharedbn_sub1_w50"]
    assert sorted(own) == sorted(names)
    compiled(model).fit(images(8), labels(8, 3), verbose=0)
    model.calibrate(images(8))
    norm, base = model.base.get_layer("sharedbn"), model.base
    read = [node.arguments.keras_tensors[0] for node in norm._inbound_nodes[:3]]
    assert_close(norm.moving_mean, mean_of_calls(base, norm, read), 1e-4)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    assert_close(again.detach(1, 0.5)(images(2)), model.detach(1, 0.5)(images(2)))


def mean_of_calls(base, norm, read):
    """The mean of what a batch norm reads in all its calls, each normalised by its own batch."""
    x, means = ops.convert_to_tensor(images(8)), []
    first, again = (base.get_layer(name) for name in ("first", "again"))
    for convolution in (first, again, again):
        x = convolution(x)
        means.append(ops.mean(x, (0, 1, 2)))
        mean, variance = ops.moments(x, (0, 1, 2))
        x = ops.batch_normalization(
            x, mean, variance, -1, norm.beta, norm.gamma, epsilon=norm.epsilon
        )
        x = ops.relu(x)
        x = ops.max_pool(x, 2) if convolution is first else x
    assert len(read) == 3
    return sum(means) / 3


def test_d3_stack_units_and_puppeteer_of_shared_layers():
    """D3: the same network for the other converters."""
    x, base = images(8), shared_layers()
    stacked = tissue.stack_units(base)
    assert stacked.kept["again"] == "called more than once"
    assert_close(stacked.model.predict(x, verbose=0), base.predict(x, verbose=0))
    model = puppet.puppeteer(base, levels=2)
    model.calibrate(x)
    assert_close(model.predict(x, verbose=0), model(x, training=False), 1e-4)
    compiled(model).fit(x, labels(8, 3), verbose=0)
    alone = puppet.puppeteer(shared_layers(), "none", levels=1)
    alone.calibrate(x)
    found = np.asarray(alone.puppet.statistics)[0, 0]
    seen = []
    alone.puppet.norms[0].call = recording(alone.puppet.norms[0].call, seen)
    alone.puppet.run(ops.convert_to_tensor(x), ops.zeros(8) + 0.5, 0)
    assert_close(found, sum(seen) / 3)


def recording(call, seen):
    """A call of a norm that notes the mean that it used."""

    def noted(x, **arguments):
        x, statistics = call(x, **arguments)
        seen.append(np.asarray(statistics)[0])
        return x, statistics

    return noted


def half_again(x):
    """An activation that Keras does not know."""
    return ops.relu(x) * 1.5


def unknown_to_keras():
    """A network with functions and layers that cannot be made from their config."""
    i = keras.Input((16, 16, 3))
    x = Halved(lambda x: x * 2)(layers.Lambda(lambda x: x / 255, name="scale")(i))
    for k in range(3):
        x = layers.Conv2D(8, 3, padding="same", activation=half_again, name=f"conv{k}")(x)
        x = layers.BatchNormalization(name=f"norm{k}")(x)
    x = layers.MaxPooling2D(name="a")(x)
    inner = [keras.Input((8, 8, 8)), layers.Lambda(lambda x: x + 1), layers.Conv2D(8, 1)]
    x = keras.Sequential(inner, name="inner")(x)
    x = layers.Dense(3, activation=lambda x: x * 1)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(i, x, name="user")


def test_d4_layers_and_functions_that_keras_cannot_read_again(tmp_path):
    """D4: puppeteer, stack_units, detachable, and export of a network with them."""
    x, base = images(8), unknown_to_keras()
    model = compiled(puppet.puppeteer(base, levels=2))
    model.fit(x, labels(8, 3), verbose=0)
    assert_close(model.predict(x, verbose=0), model(x, training=False), 1e-4)
    same = tissue.stack_units(base, where=lambda layer: False).model
    assert_close(same.predict(x, verbose=0), base.predict(x, verbose=0))
    assert same.get_layer("scale") is not base.get_layer("scale")
    assert tissue.stack_units(base).model.predict(x, verbose=0).shape == (8, 3)
    parts = cnsn.detachable(unknown_to_keras(), ["conv2"], batch_norm="shared")
    assert parts.predict(x, verbose=0).shape == (8, 3)
    report = export_model(base, tmp_path / "m.tflite")
    assert report.max_abs_diff is not None and report.max_abs_diff < 1e-4


def test_d4_widths_of_functions_that_keras_does_not_know():
    """D4: the plain layers that slices stand for are copied in the same way."""
    i = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation=lambda x: half_again(x), name="conv")(i)
    base = keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="user")
    assert cnsn.detachable(base, widths=0.5).names == ("base", "base_w50")


class Held(layers.Layer):
    """A layer with weights that cannot be made from its config."""

    def __init__(self, function):
        super().__init__(name="held")
        self.function = function

    def build(self, shape):
        self.scale = self.add_weight((shape[-1],), "ones", name="scale")

    def call(self, x):
        return self.function(x) * self.scale


def test_d4_a_layer_with_weights_that_cannot_be_copied_is_refused_before_training():
    """D4: in one line that names it."""
    i = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(Held(lambda x: x)(layers.Conv2D(4, 3)(i)))
    base = keras.Model(i, layers.Dense(3)(x), name="user")
    for convert in (puppet.puppeteer, tissue.stack_units):
        with pytest.raises(ValueError, match="'held', a Held with weights, cannot be copied") as e:
            convert(base)
        assert "\n" not in str(e.value)


def test_d4_copies_keep_name_policy_and_flag():
    """D4: also of a class without get_config, whose config has only what was given."""

    class Plain(layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def build(self, shape):
            self.scale = self.add_weight((shape[-1],), name="scale")

    layer = Plain(3)
    layer.build((None, 4))
    layer.trainable = False
    copy = copied(layer)
    assert (copy.name, copy.factor, copy.trainable) == (layer.name, 3, False)
    assert copied(layer, name="other", dtype="float16").name == "other"
    assert copied(layer, dtype="float16").compute_dtype == "float16"


class OwnMetric(keras.metrics.Metric):
    """A metric that needs an argument and does not say so."""

    def __init__(self, function):
        super().__init__(name="own")
        self.function, self.value = function, self.add_variable((), "zeros", name="value")

    def update_state(self, *values, **weights):
        self.value.assign(1.0)

    def result(self):
        return self.value


class OwnOptimizer(keras.optimizers.SGD):
    """An optimizer that needs an argument and does not say so."""

    def __init__(self, function):
        super().__init__(0.01)


def test_d5_compiled_with_things_of_the_users_own(tmp_path):
    """D5: a loss, a metric and an optimizer; the conversion leaves the user's network as it is."""
    base, x = shared_layers(), images(8)
    base.get_layer("first").trainable = False

    def loss(y, logits):
        return ops.mean(ops.square(logits))

    base.compile(OwnOptimizer(None), loss, metrics=[OwnMetric(None)])
    before, flags = base.get_weights(), [layer.trainable for layer in base.layers]
    optimizer, names = base.optimizer, [layer.name for layer in base.layers]
    outputs = base.predict(x, verbose=0)
    for converted in (
        tissue.stack_units(base).model,
        puppet.puppeteer(base, levels=2),
        cnsn.detachable(base, ["a"], widths=0.5),
    ):
        assert not converted.compiled and base.compiled and base.optimizer is optimizer
        assert [layer.name for layer in base.layers] == names
        assert [layer.trainable for layer in base.layers] == flags
        for one, other in zip(base.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(base.predict(x, verbose=0), outputs)
    assert (export_model(base, tmp_path / "m.tflite").max_abs_diff or 0) < 1e-4
    base.fit(x, labels(8, 3), verbose=0)


def test_conversions_keep_flags_policies_and_regularizers():
    """Frozen layers stay frozen in all that stays; units and kernels that are new are trained."""
    i = keras.Input((16, 16, 3))
    x = i
    for k in range(3):
        x = layers.Conv2D(
            8, 3, padding="same", name=f"conv{k}", kernel_regularizer="l2", dtype="mixed_float16"
        )(x)
        x = layers.ReLU(dtype="mixed_float16")(x)
    x = layers.GlobalAveragePooling2D()(x)
    base = keras.Model(i, layers.Dense(3, name="logits")(x), name="user")
    base.get_layer("conv0").trainable = base.get_layer("conv1").trainable = False
    stacked = tissue.stack_units(base)
    assert stacked.replaced == ("conv1", "conv2")
    new = stacked.model
    assert [new.get_layer(f"conv{k}").trainable for k in range(3)] == [False, True, True]
    assert len(new.trainable_variables) == 3 * 2
    assert new.get_layer("conv1").kernel_regularizer is not None
    assert {new.get_layer(f"conv{k}").dtype_policy.name for k in range(3)} == {"mixed_float16"}
    parts = cnsn.detachable(base, ["conv0"])
    assert parts.get_layer("step_down1").dtype_policy.name == "mixed_float16"
    assert not base.get_layer("conv1").trainable and len(parts.trainable_variables) == 2 + 2 + 2
    model = puppet.puppeteer(base, levels=2)
    learned = len(model.puppet.ode.trainable_variables) + 2
    assert len(model.trainable_variables) == learned


FREEZE = {
    "as a whole": lambda model: setattr(model, "trainable", False),
    "the base": lambda model: setattr(model.base, "trainable", False),
    "one by one": lambda model: [setattr(layer, "trainable", False) for layer in model.layers],
    "not": lambda model: None,
}


@pytest.mark.parametrize("freeze", FREEZE)
def test_d6_calibration_of_frozen_models(freeze):
    """D6: all statistics are set, and all that was frozen stays so."""
    base = behind(lambda i: layers.Rescaling(1 / 255)(i), norms=True)
    other = cnsn.detachable(keras.models.clone_model(base), ["a"], widths=(1.0, 0.5))
    model = cnsn.detachable(base, ["a"], widths=(1.0, 0.5))
    other.set_weights(model.get_weights())
    FREEZE[freeze](model)
    flags = [layer.trainable for layer in [*model.layers, *base.layers]]
    model.calibrate(images(12), 5)
    other.calibrate(images(12), 5)
    assert [layer.trainable for layer in [*model.layers, *base.layers]] == flags
    for name in model.names:
        for one, same in zip(
            model.part(name).get_weights(), other.part(name).get_weights(), strict=True
        ):
            np.testing.assert_allclose(one, same, atol=1e-6)
    assert np.abs(base.get_layer("norm").moving_mean).max() > 0


def test_d6_statistics_are_the_mean_over_batches_in_half_precision_too(half_precision):
    """D6: weighted by the sizes of the batches."""
    base = behind(lambda i: layers.Rescaling(1 / 255)(i), norms=True)
    model = cnsn.detachable(base, ["a"])
    model.trainable = False
    model.calibrate(images(12), 5)
    read = keras.Model(base.input, base.get_layer("first").output)
    batches = [np.asarray(read(images(12)[i : i + 5]), "float32") for i in (0, 5, 10)]
    wanted = sum(len(b) * b.mean((0, 1, 2)) for b in batches) / 12
    np.testing.assert_allclose(base.get_layer("norm").moving_mean, wanted, atol=1e-3)


def test_d6_an_error_midway_changes_nothing():
    """D6: statistics are set when all images have passed."""
    fails = []

    def fail(x):
        if fails and not fails.pop():
            raise RuntimeError("midway")
        return x

    model = cnsn.detachable(behind(lambda i: Halved(fail)(i / 255), norms=True), ["a"])
    before = model.get_weights()
    fails += [False, True]
    with pytest.raises(Exception, match="midway"):
        model.calibrate(images(6), 2)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="takes images of shape"):
        model.calibrate(images(2)[..., :1])


class Block(layers.Layer):
    """A layer of the user's own with a batch norm inside."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = layers.BatchNormalization(name="hidden")

    def build(self, shape):
        self.norm.build(shape)

    def call(self, x, training=None):
        return self.norm(x, training=training)


def test_d6_norms_inside_models_are_set_and_others_counted():
    """D6: what calibration cannot reach is said."""
    i = keras.Input((16, 16, 3))
    x = layers.MaxPooling2D(name="a")(layers.Conv2D(4, 3, padding="same")(i))
    deep = layers.BatchNormalization(name="deep")
    x = keras.Sequential([keras.Input((8, 8, 4)), deep], name="inner")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
    base = keras.Model(i, layers.Dense(3)(x), name="user")
    model = cnsn.detachable(base, ["a"], batch_norm="shared")
    model.trainable = False
    model.calibrate(images(8))
    assert np.abs(deep.moving_mean).max() > 0
    x = Block()(layers.MaxPooling2D(name="a")(layers.Conv2D(4, 3)(i)))
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x)))
    model = cnsn.detachable(keras.Model(i, x, name="user"), ["a"], batch_norm="shared")
    with pytest.warns(UserWarning, match="has set 0 batch norms and left 1 .*hidden"):
        model.calibrate(images(8))


def test_d6_a_frozen_puppet_is_calibrated():
    """D6: the same for the other family with a calibration."""
    x, base = images(16), behind(lambda i: i / 255, norms=True)
    model, frozen = puppet.puppeteer(base, levels=2), puppet.puppeteer(base, levels=2)
    frozen.set_weights(model.get_weights())
    frozen.trainable = False
    model.calibrate(x)
    frozen.calibrate(x)
    np.testing.assert_array_equal(model.puppet.statistics, frozen.puppet.statistics)
    assert not frozen.trainable and np.abs(model.puppet.statistics[:, 0]).max() > 0


class Subclassed(keras.Model):
    def call(self, x):
        return x


def inputs_of(*shapes):
    return [keras.Input(shape) for shape in shapes]


def two_inputs():
    one, two = inputs_of((16, 16, 3), (16, 16, 3))
    return keras.Model([one, two], layers.Conv2D(4, 3)(layers.Add()([one, two])))


def two_outputs():
    (i,) = inputs_of((16, 16, 3))
    return keras.Model(i, [layers.Conv2D(4, 3)(i), layers.Conv2D(2, 3)(i)])


def of_input(*shape):
    (i,) = inputs_of(shape)
    return keras.Model(i, (layers.Conv2D if len(shape) == 3 else layers.Conv1D)(4, 3)(i))


CALLS = {
    "detachable": lambda model: cnsn.detachable(model, ["a"]),
    "cut_points": cnsn.cut_points,
    "puppeteer": puppet.puppeteer,
    "stack_units": tissue.stack_units,
}
NO_NETWORKS = {
    "None": (lambda: None, "not NoneType"),
    "a path": (lambda: "m.keras", "load it"),
    "a class": (lambda: Subclassed, "not the class Subclassed"),
    "a function": (lambda: len, "not builtin_function_or_method"),
    "a layer": (lambda: layers.Conv2D(4, 3), "not Conv2D"),
    "subclassed": (Subclassed, r"not Subclassed.*keras.Model\(inputs, outputs\)"),
    "not built": (lambda: keras.Sequential([layers.Conv2D(4, 3)]), "no input shape yet"),
    "dynamic": (lambda: puppet.puppeteer(of_input(16, 16, 3), levels=2), "not PuppetCNN"),
}
NO_IMAGES = {
    "two inputs": (two_inputs, "has 2 inputs"),
    "two outputs": (two_outputs, "has 2 outputs"),
    "open size": (lambda: of_input(None, None, 3), r"\(None, None, None, 3\)"),
    "gray without an axis": (lambda: of_input(16, 16), "add the missing axis"),
}


@pytest.mark.parametrize("kind", {**NO_NETWORKS, **NO_IMAGES})
def test_d11_errors_are_of_what_was_called(kind):
    """D11: in one line: what was called and given, what it takes, what to do."""
    make, message = {**NO_NETWORKS, **NO_IMAGES}[kind]
    for name, call in CALLS.items():
        if name == "stack_units" and kind in NO_IMAGES:
            given = make()
            assert [t.shape for t in tissue.stack_units(given).model.outputs] == [
                t.shape for t in given.outputs
            ]
            continue
        with pytest.raises(ValueError, match=f"^{name} takes .*{message}") as error:
            call(make())
        assert "\n" not in str(error.value)


def test_d11_channels_first_and_no_convolution():
    """D11: for what each of them cannot do."""
    (i,) = inputs_of((3, 16, 16))
    x = layers.Conv2D(4, 3, data_format="channels_first", name="conv")(i)
    first = keras.Model(i, layers.Dense(3)(layers.Flatten()(x)), name="user")
    with pytest.raises(ValueError, match="detachable takes networks with channels last.*'conv'"):
        cnsn.detachable(first, ["conv"])
    with pytest.raises(ValueError, match="no convolution to generate"):
        puppet.puppeteer(first)
    (i,) = inputs_of((16, 16, 3))
    dense = keras.Model(i, layers.Dense(3)(layers.Flatten()(i)), name="user")
    with pytest.raises(ValueError, match="legal cuts are none"):
        cnsn.detachable(dense, ["conv"])
    with pytest.raises(ValueError, match="no convolution to generate"):
        puppet.puppeteer(dense)
    assert tissue.stack_units(dense).replaced == ()
    with pytest.raises(ValueError, match="cuts are a list of names, such as"):
        cnsn.detachable(dense, None)  # pyright: ignore[reportArgumentType]
