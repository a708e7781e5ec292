import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import assert_close, compiled, copy_by_config, run_python

from keras_dynnets.layers import GroupedConv2D, grouped_conv
from keras_dynnets.layers.grouped_conv import largest_pack, packed_kernel, packing


def grouped_by_hand(x, kernel, groups, strides, padding, dilations=1):
    """A grouped convolution as its definition says: one full convolution a group."""
    parts = zip(np.split(x, groups, -1), np.split(kernel, groups, -1), strict=True)
    convolve = lambda a, k: tf.nn.conv2d(a, k, strides, padding.upper(), dilations=dilations)  # noqa: E731
    return np.concatenate([convolve(a, k) for a, k in parts], -1)


def example(groups=6, channels=24, filters=48, **arguments):
    layer = GroupedConv2D(filters, 3, groups=groups, bias_initializer="normal", **arguments)
    x = np.random.default_rng(0).normal(size=(4, 9, 8, channels)).astype("float32")
    layer.build(x.shape)
    return layer, x


@pytest.fixture(params=["native", "split"])
def form(request, monkeypatch):
    """Both ways to the result on TensorFlow."""
    if request.param == "split":
        monkeypatch.setattr(grouped_conv, "_native_gradient_is_right", lambda dtype: False)
    return request.param


@pytest.mark.parametrize("groups", [2, 6, 24])
@pytest.mark.parametrize(
    "strides, padding, dilations",
    [(1, "same", 1), (2, "same", 1), (1, "valid", 1), (1, "same", 2)],
)
def test_result(form, groups, strides, padding, dilations):
    layer, x = example(groups, strides=strides, padding=padding, dilation_rate=dilations)
    kernel, bias = layer.get_weights()
    assert kernel.shape == (3, 3, 24 // groups, 48)
    y = layer(x)
    assert_close(y, grouped_by_hand(x, kernel, groups, strides, padding, dilations) + bias)
    assert y.shape == layer.compute_output_shape(x.shape)


@pytest.mark.parametrize("pack", ["auto", 1, 2, 3, 6])
def test_gradients(form, pack):
    layer, x = example(pack=pack)
    upstream = np.random.default_rng(1).normal(size=(4, 9, 8, 48)).astype("float32")

    def gradients(call):
        inputs = tf.Variable(x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(call(inputs) * upstream)
        return tape.gradient(loss, [inputs, layer.kernel.value])

    def by_hand(inputs):
        parts = zip(tf.split(inputs, 6, -1), tf.split(layer.kernel.value, 6, -1), strict=True)
        return tf.concat([tf.nn.conv2d(a, k, 1, "VALID") for a, k in parts], -1)

    layer.padding = "valid"
    upstream = upstream[:, :7, :6]
    for found, wanted in zip(gradients(layer), gradients(by_hand), strict=True):
        assert_close(found, wanted)


def test_weights_are_those_of_keras():
    layer, x = example()
    theirs = keras.layers.Conv2D(48, 3, groups=6)
    theirs.build(x.shape)
    theirs.set_weights(layer.get_weights())
    assert_close(layer(x), theirs(x))
    layer.set_weights(theirs.get_weights())
    assert [w.name for w in layer.weights] == [w.name for w in theirs.weights]


def test_channels_first(form):
    layer, x = example(strides=2, padding="same")
    first = GroupedConv2D(48, 3, 2, "same", "channels_first", groups=6)
    first.build((4, 24, 9, 8))
    first.set_weights(layer.get_weights())
    assert_close(np.transpose(first(x.transpose(0, 3, 1, 2)), (0, 2, 3, 1)), layer(x))


def test_half_precision(form, half_precision):
    layer, x = example()
    kernel, bias = layer.get_weights()
    y = layer(x)
    assert y.dtype == "float16"
    assert_close(y, grouped_by_hand(x, kernel, 6, 1, "valid") + bias, 5e-3)


def test_a_group_of_everything_is_a_plain_convolution():
    layer, x = example(groups=1)
    assert layer.supports_jit
    kernel, bias = layer.get_weights()
    assert_close(layer(x), grouped_by_hand(x, kernel, 1, 1, "valid") + bias)


def test_packed_kernel_is_block_diagonal():
    kernel = np.random.default_rng(0).normal(size=(1, 1, 2, 12)).astype("float32")
    packed = np.asarray(packed_kernel(kernel, 4, 2))  # each of the 4 groups: 2 in, 3 out
    assert packed.shape == (1, 1, 4, 12)
    for group in range(4):
        columns = packed[0, 0, :, 3 * group : 3 * group + 3]
        own = slice(0, 2) if group % 2 == 0 else slice(2, 4)
        np.testing.assert_array_equal(columns[own], kernel[0, 0, :, 3 * group : 3 * group + 3])
        assert not np.delete(columns, np.r_[own], 0).any()


@pytest.mark.parametrize(
    "groups, wanted, pack",
    [(32, 4, 4), (32, 7, 4), (12, 16, 4), (5, 16, 1), (8, 1, 1), (8, 0, 1), (256, 512, 256)],
)
def test_largest_pack(groups, wanted, pack):
    assert largest_pack(groups, wanted) == pack


@pytest.mark.parametrize(
    "groups, inputs, outputs", [(32, 2, 4), (12, 2, 2), (5, 2, 2), (64, 16, 16), (256, 1, 1)]
)
def test_packing_divides_the_groups(groups, inputs, outputs):
    for positions in (None, 1, 64, 256, 1024):
        assert groups % packing(groups, inputs, outputs, positions) == 0


def test_packing_is_the_measured_one():
    """The fastest of each column of the measurement that the rule is made from."""
    assert {side: packing(256, 2, 4, side**2) for side in (32, 8, 4)} == {32: 2, 8: 4, 4: 4}
    assert packing(256, 2, 4) == 2  # an open size counts as a large one
    assert packing(32, 6, 2, 64) == 2  # 24 channels are not a multiple of 16
    assert packing(8, 16, 16) == 1  # wide enough


def test_the_rule_of_a_packed_kernel_can_be_chosen():
    asked = []

    def rule(*group):
        asked.append(group)
        return 3

    layer, _ = example()
    kernel, groups = layer.packed(layer.kernel, rule)
    assert groups == 2 and kernel.shape == (3, 3, 12, 48)
    assert asked == [(6, 4, 8, 7 * 6)]
    layer, _ = example(pack=2)
    assert layer.packed(layer.kernel, rule)[1] == 3 and len(asked) == 1


def test_fit_and_config():
    layer, x = example(activation="relu", pack=2)
    copy = copy_by_config(layer)
    assert isinstance(copy, GroupedConv2D) and copy.pack == 2
    copy.set_weights(layer.get_weights())
    assert_close(copy(x), layer(x))
    inputs = keras.Input((9, 8, 24))
    y = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    model = compiled(keras.Model(inputs, keras.layers.Dense(10)(y)), jit_compile="auto")
    before = layer.get_weights()[0]
    model.fit(x, np.arange(4), verbose=0)
    assert not model.jit_compile
    assert (layer.get_weights()[0] != before).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"groups": 5}, "filters must be evenly divisible|number of filters"),
        ({"pack": 4}, "pack is 'auto' or a divisor of the 6 groups, not 4"),
        ({"pack": 0}, "not 0"),
        ({"pack": "best"}, "not 'best'"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        example(**arguments)


def test_channels_that_do_not_go_into_the_groups():
    with pytest.raises(ValueError, match="divisible by the number of groups"):
        example(channels=25)


WITHOUT_ONEDNN = """
import keras, numpy as np, tensorflow as tf
from keras_dynnets.layers import GroupedConv2D
from keras_dynnets.layers.grouped_conv import _native_gradient_is_right
assert not _native_gradient_is_right("float32")
layer = GroupedConv2D(8, 3, groups=4)
outputs = [keras.layers.Flatten(), keras.layers.Dense(2)]
model = keras.Sequential([keras.Input((6, 6, 8)), layer, *outputs])
model.compile("sgd", "mse")
before = layer.get_weights()[0]
model.fit(np.ones((4, 6, 6, 8)), np.ones((4, 2)), verbose=0)
assert (layer.get_weights()[0] != before).any()
"""

JAX = """
import keras, numpy as np
from keras_dynnets.layers import GroupedConv2D
x = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype("float32")
layer = GroupedConv2D(8, 3, groups=4)
layer.build(x.shape)
theirs = keras.layers.Conv2D(8, 3, groups=4)
theirs.build(x.shape)
theirs.set_weights(layer.get_weights())
assert np.abs(np.asarray(layer(x)) - np.asarray(theirs(x))).max() < 1e-5
outputs = [keras.layers.Flatten(), keras.layers.Dense(2)]
model = keras.Sequential([keras.Input((6, 6, 8)), layer, *outputs])
model.compile("sgd", "mse")
model.fit(x, np.ones((2, 2)), verbose=0)
"""


@pytest.mark.slow
def test_without_onednn():
    run_python(WITHOUT_ONEDNN, TF_ENABLE_ONEDNN_OPTS="0")


@pytest.mark.slow
def test_on_jax():
    pytest.importorskip("jax")
    run_python(JAX, KERAS_BACKEND="jax")
