import keras
import numpy as np
import pytest
from helpers import assert_close, compiled, copy_by_config

from keras_dynnets.families.tissue.grouped_dense import GroupedDense
from keras_dynnets.layers import StackedUnits1D, StackedUnits2D

HYBRID = [(2, 4, 2), (4, 3, 1), (2, 4, 2), (4, 3, 3)]


def images(channels, height=9, width=8):
    return np.random.default_rng(0).normal(size=(3, height, width, channels)).astype("float32")


def randomised(layer, x):
    """The layer, built, with every weight random, biases and statistics too."""
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    layer.set_weights(
        [
            rng.uniform(0.2, 1.0, w.shape) * rng.choice([-1, 1]) ** ("kernel" in w.path)
            for w in layer.weights
        ]
    )
    return layer


def unit_by_unit(layer, x):
    """What the layer is by definition: every unit a network of its own, on its own channels."""
    results, taken, used = [], 0, {}
    for unit in layer.stacked(x.shape[-1]):
        chain = next(
            c for c in layer.side_by_side.chains if c.name.endswith("_".join(map(str, unit)))
        )
        index = used.setdefault(unit, 0)
        used[unit] += 1
        piece, taken = x[..., taken : taken + unit[0]], taken + unit[0]
        for inner in chain.layers:
            width = (
                (inner.filters // inner.groups) if hasattr(inner, "filters") else piece.shape[-1]
            )
            own = slice(index * width, (index + 1) * width)
            if hasattr(inner, "filters"):
                one = keras.layers.Conv2D(
                    width, inner.kernel_size, inner.strides, "same", use_bias=inner.use_bias
                )
                one.build(piece.shape)
                one.set_weights([w[..., own] for w in inner.get_weights()])
            elif isinstance(inner, keras.layers.BatchNormalization):
                one = keras.layers.BatchNormalization(epsilon=inner.epsilon)
                one.build(piece.shape)
                one.set_weights([w[own] for w in inner.get_weights()])
            else:
                one = inner
            piece = np.asarray(one(piece))
        results.append(piece)
    return np.concatenate(results, -1)


@pytest.mark.parametrize("batch_norm, use_bias", [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize(
    "units, strides",
    [
        ((2, 4, 2), 1),
        ((3, 4, 5, 6), (1, 2, 1)),
        ((2, 3, 3, 3, 4), 1),
        ((6, 1, 1), (2, 2)),
        (HYBRID, 1),
        (HYBRID, (1, 2)),
    ],
)
def test_units_are_networks_of_their_own(units, strides, batch_norm, use_bias):
    x = images(12)
    layer = randomised(
        StackedUnits2D(units, strides=strides, batch_norm=batch_norm, use_bias=use_bias), x
    )
    y = layer(x)
    assert_close(y, unit_by_unit(layer, x))
    assert y.shape == layer.compute_output_shape(x.shape)


def test_equal_units_run_together():
    layer = StackedUnits2D(HYBRID)
    layer.build((None, 9, 8, 12))
    convolutions = [
        c
        for chain in layer.side_by_side.chains
        for c in chain.layers
        if isinstance(c, keras.layers.Conv2D)
    ]
    assert [c.groups for c in convolutions] == [2, 2, 1, 1, 1, 1]
    single = StackedUnits2D((2, 4, 2))
    single.build((None, 9, 8, 64))
    assert len(single.side_by_side.chains) == 1


def test_channels_first():
    x = images(12, width=11)  # Keras 3.15 adds a bias along the width where that equals the filters
    last = randomised(StackedUnits2D(HYBRID, strides=(1, 2)), x)
    first = StackedUnits2D(HYBRID, strides=(1, 2), data_format="channels_first")
    first.build((3, 12, 9, 11))
    first.set_weights(last.get_weights())
    y = first(x.transpose(0, 3, 1, 2))
    assert y.shape == first.compute_output_shape((3, 12, 9, 11))
    assert_close(np.transpose(y, (0, 2, 3, 1)), last(x))


@pytest.mark.parametrize(
    "units", [(2, 4, 2), [(2, 4, 2), (4, 3, 1), (2, 4, 2), (4, 3, 3)], (3, 2, 2, 5)]
)
def test_dense_units(units):
    x = np.random.default_rng(0).normal(size=(5, 12)).astype("float32")
    layer = StackedUnits1D(units, activation="tanh")
    y = layer(x)
    results, taken, used = [], 0, {}
    for unit in layer.stacked(12):
        chain = next(
            c for c in layer.side_by_side.chains if c.name.endswith("_".join(map(str, unit)))
        )
        index = used.setdefault(unit, 0)
        used[unit] += 1
        piece, taken = x[:, taken : taken + unit[0]], taken + unit[0]
        for inner in chain.layers:
            kernel, bias = inner.get_weights()
            width = kernel.shape[-1]
            piece = np.tanh(piece @ kernel[index] + bias[index * width : (index + 1) * width])
        results.append(piece)
    assert_close(y, np.concatenate(results, -1))
    assert y.shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize(
    "layer", [StackedUnits2D(HYBRID, 5, (1, 2), activation="elu"), StackedUnits1D((2, 4, 2))]
)
def test_config_and_fit(layer, tmp_path):
    shape = (9, 8, 12) if isinstance(layer, StackedUnits2D) else (12,)
    x = np.random.default_rng(0).normal(size=(8, *shape)).astype("float32")
    copy = copy_by_config(layer)
    assert copy.get_config() == layer.get_config()
    model = compiled(
        keras.Sequential([keras.Input(shape), copy, keras.layers.Flatten(), keras.layers.Dense(10)])
    )
    before = [np.array(w) for w in copy.trainable_weights if "kernel" in w.path]
    model.fit(x, np.arange(8), verbose=0)
    after = [np.array(w) for w in copy.trainable_weights if "kernel" in w.path]
    assert before and all((a != b).any() for a, b in zip(after, before, strict=True))
    model.save(tmp_path / "m.keras")
    assert_close(keras.saving.load_model(tmp_path / "m.keras")(x), model(x))


def test_macs():
    layer = StackedUnits2D((2, 4, 2), strides=(1, 2))
    layer.build((None, 8, 8, 64))
    assert layer.macs((None, 8, 8, 64)) == 32 * (9 * 2 * 4 * 64 + 9 * 4 * 2 * 16)
    dense = StackedUnits1D((2, 4, 2))
    dense.build((None, 784))
    assert dense.macs((None, 784)) == 392 * 16


@pytest.mark.parametrize(
    "unit", [(2, 4), (2, 4, 0), (2, 2, 2, 2, 2, 2), (2, 1.5, 2), "242", 4, None, (2, "x", 2), []]
)
def test_what_is_no_unit(unit):
    with pytest.raises(ValueError, match="a unit is 3 to 5 widths .*such as \\(2, 4, 2\\), not"):
        StackedUnits2D(unit)


def test_units_that_do_not_fit_the_input():
    with pytest.raises(ValueError, match="units that read 2 channels do not go into 7"):
        StackedUnits2D((2, 4, 2)).build((None, 8, 8, 7))
    with pytest.raises(ValueError, match="its 4 units read 12 channels and the input has 16"):
        StackedUnits2D(HYBRID).build((None, 8, 8, 16))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"strides": 2}, "strides is 1 or a stride for each of the unit's 2 layers, not 2"),
        ({"strides": (1, 2, 1)}, "strides is one integer or 2, one for each layer"),
        ({"strides": (1, 0)}, "strides"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size is one integer or 2"),
        ({"units": [(2, 4, 2), (2, 4, 4, 2)]}, "units in one layer have the same number of layers"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        StackedUnits2D(**{"units": (2, 4, 2), **arguments})


def test_grouped_dense_refusals():
    with pytest.raises(ValueError, match="5 in 2 groups"):
        GroupedDense(5, 2)
    with pytest.raises(ValueError, match="7 features do not go into 2 groups"):
        GroupedDense(4, 2).build((None, 7))


def test_dense_units_take_features_only():
    for layer in (StackedUnits1D((2, 4, 2)), GroupedDense(4, 2)):
        with pytest.raises(ValueError, match=r"\(batch, features\)"):
            layer.build((None, 5, 8))


def test_what_is_frozen_stays_frozen_in_a_file(tmp_path):
    inputs = keras.Input((9, 8, 12))
    model = keras.Model(
        inputs,
        keras.layers.Dense(2)(keras.layers.Flatten()(StackedUnits2D((2, 4, 2), name="u")(inputs))),
    )
    model.get_layer("u").trainable = False
    model.save(tmp_path / "m.keras")
    copy = compiled(keras.saving.load_model(tmp_path / "m.keras"))
    before = [np.array(w) for w in copy.get_layer("u").get_weights()]
    copy.fit(images(12) + 3, np.array([0, 1, 0]), verbose=0)
    for a, b in zip(copy.get_layer("u").get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "arguments", [{"strides": 1.5}, {"strides": True}, {"data_format": "channels_frist"}]
)
def test_more_refusals(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} is"):
        StackedUnits2D((2, 4, 2), **arguments)
