"""MACs of layers and operations against TensorFlow's profiler, or products that it knows."""

import keras
import numpy as np
import pytest
from keras import applications, layers, ops

from keras_dynnets import profile
from keras_dynnets.core import cost

SEQUENCE, IMAGE, VOLUME = (9, 6), (9, 10, 6), (5, 6, 7, 4)


def network(shape, call, dtype=None):
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, call(inputs))


def weights(*shape):
    return np.ones(shape, "float32")


class Shared(layers.Layer):
    """A user's layer that calls a layer twice, and multiplies by weights of its own."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(6, 3, padding="same")

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.kernel = self.add_weight((6, 4))

    def call(self, x):
        return ops.matmul(self.conv(ops.relu(self.conv(x))), self.kernel)


class Scaled(layers.Layer):
    """A user's layer with weights in front of the features."""

    def build(self, input_shape):
        self.scale = self.add_weight((6,))

    def call(self, x):
        return 2.0 - (self.scale + ops.cast(self.scale, "float32") * x) / 2


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.SeparableConv2D(6, 3), layers.BatchNormalization()]
        self.head = layers.Dense(3)

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def subclassed(x):
    model = Subclassed()
    model.build((None, *x.shape[1:]))
    return model(x)


def windows(x):
    """Cuts images into windows of 3x5, which join the batch."""
    x = ops.reshape(x, (-1, 3, 3, 2, 5, 6))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 15, 6))
    return ops.reshape(layers.Dense(4)(x), (-1, 6, 15, 4))


def inner_model(x):
    inner = keras.Input((None, None, 6))
    inner = keras.Model(inner, layers.Conv2D(4, 3)(inner))
    return inner(layers.AveragePooling2D(2)(inner(layers.Conv2D(6, 1)(x)) @ weights(4, 6)))


@pytest.mark.parametrize(
    "shape, call",
    [
        (SEQUENCE, layers.Conv1D(4, 3, strides=2, padding="causal")),
        (SEQUENCE, layers.Conv1D(4, 3, groups=2)),
        (SEQUENCE, layers.DepthwiseConv1D(3, depth_multiplier=2)),
        (SEQUENCE, layers.SeparableConv1D(8, 3)),
        (SEQUENCE, layers.Conv1DTranspose(8, 3, strides=2, padding="same")),
        (IMAGE, layers.Conv2D(8, (3, 2), strides=(2, 1), padding="same")),
        (IMAGE, layers.Conv2D(8, 3, groups=2)),
        (IMAGE, layers.DepthwiseConv2D(3, strides=2)),
        (IMAGE, layers.SeparableConv2D(8, 3, depth_multiplier=2, strides=2, padding="same")),
        (IMAGE, layers.Conv2DTranspose(8, 3, strides=2, padding="same")),
        (IMAGE, layers.Dense(5)),
        (IMAGE, layers.TimeDistributed(layers.Conv1D(5, 3))),
        (IMAGE, layers.SpectralNormalization(layers.Conv2D(5, 3))),
        (VOLUME, layers.Conv3D(8, 3, strides=2, padding="same")),
        (SEQUENCE, lambda x: layers.Dot(axes=(2, 2))([x, x])),
        (SEQUENCE, lambda x: layers.Attention(use_scale=True)([x, x])),
        (IMAGE, lambda x: ops.conv(x, weights(3, 3, 6, 4), strides=2, padding="same")),
        (IMAGE, lambda x: ops.depthwise_conv(x, weights(3, 3, 6, 2))),
        (IMAGE, lambda x: ops.separable_conv(x, weights(3, 3, 6, 1), weights(1, 1, 6, 4))),
        (SEQUENCE, lambda x: ops.matmul(x, weights(6, 4))),
        (SEQUENCE, lambda x: x @ ops.transpose(x, (0, 2, 1))),
        (SEQUENCE, lambda x: ops.matmul(weights(5, 9), x)),
        (IMAGE, lambda x: ops.tensordot(x, weights(10, 6, 4), 2)),
        (IMAGE, lambda x: ops.tensordot(x, weights(9, 4), [[1], [0]])),
        (IMAGE, layers.Lambda(lambda x: (x / 255) @ weights(6, 4))),
        (IMAGE, Shared()),
        (IMAGE, subclassed),
        (IMAGE, windows),
        (IMAGE, inner_model),
        (IMAGE, lambda x: layers.Resizing(4, 4)(layers.RandomFlip()(x))),
    ],
)
def test_tensorflows_profiler_agrees(shape, call):
    model = network(shape, call)
    assert profile.count(model).macs == profile.graph_macs(model)


@pytest.mark.parametrize(
    "shape, call, macs",
    [
        (SEQUENCE, layers.Conv1D(4, 3, dilation_rate=2), 5 * 18 * 4),
        (IMAGE, layers.Conv2D(4, 3, dilation_rate=2), 5 * 6 * 54 * 4),
        ((6, 9, 10), layers.Conv2D(4, 3, data_format="channels_first"), 7 * 8 * 54 * 4),
        (IMAGE, lambda x: ops.conv(x, weights(3, 3, 6, 4), dilation_rate=2), 5 * 6 * 54 * 4),
        (VOLUME, layers.Conv3DTranspose(8, 3, strides=2), 5 * 6 * 7 * 27 * 4 * 8),
        (SEQUENCE, layers.EinsumDense("abc,cde->abde", (None, 2, 3)), 9 * 6 * 2 * 3),
        (SEQUENCE, layers.EinsumDense("...b,bc->...c", 4), 9 * 6 * 4),
        (IMAGE, lambda x: ops.conv_transpose(x, weights(3, 3, 4, 6), 2), 90 * 6 * 9 * 4),
        (IMAGE, lambda x: layers.Dense(4)(ops.squeeze(x[:, :1, :1])), 6 * 4),
        (IMAGE, Scaled(), 0),
        (SEQUENCE, lambda x: ops.einsum("bij,bkj->bik", x, x), 9 * 9 * 6),
        (SEQUENCE, lambda x: ops.einsum("bij,kj", x, weights(4, 6)), 9 * 6 * 4),
        (SEQUENCE, lambda x: ops.einsum("bij,kj->bk", x, weights(4, 6)), 6 * 4),
        (SEQUENCE, lambda x: ops.einsum("bij->bj", x), 0),
        (SEQUENCE, lambda x: ops.dot(x, weights(6, 4)), 9 * 6 * 4),
        (SEQUENCE, lambda x: ops.inner(x, weights(4, 6)), 9 * 6 * 4),
        (SEQUENCE, lambda x: layers.AdditiveAttention()([x, x]), 9 * 9 * 6),
        (SEQUENCE, lambda x: layers.MultiHeadAttention(2, 4)(x, x), 9 * 48 * 4 + 2 * 81 * 8),
        (
            SEQUENCE,
            lambda x: layers.MultiHeadAttention(2, 4, value_dim=5, dropout=0.1)(x, x[:, :4]),
            9 * 48 + 4 * 48 + 4 * 60 + 9 * 4 * 8 + 9 * 4 * 10 + 9 * 60,
        ),
        (
            SEQUENCE,
            lambda x: layers.GroupQueryAttention(4, 4, 2)(x, x),
            2 * 9 * 6 * 16 + 2 * 9 * 6 * 8 + 2 * 81 * 16,
        ),
        (
            (9, 2, 4),
            lambda x: ops.dot_product_attention(x, x[:, :3], x[:, :3]),
            2 * 9 * 3 * 2 * 4,
        ),
        (SEQUENCE, layers.SimpleRNN(5), 9 * 5 * 11),
        (SEQUENCE, layers.GRU(5, return_sequences=True), 9 * 3 * 5 * 11),
        (SEQUENCE, layers.LSTM(5), 9 * 4 * 5 * 11),
        (SEQUENCE, layers.Bidirectional(layers.LSTM(5)), 2 * 9 * 4 * 5 * 11),
        (
            SEQUENCE,
            layers.RNN([layers.LSTMCell(5), layers.GRUCell(3)]),
            9 * (4 * 5 * 11 + 3 * 3 * 8),
        ),
        ((4, 7, 7, 3), layers.ConvLSTM2D(5, 3), 4 * 25 * 9 * 20 * (3 + 5)),
        (IMAGE, lambda x: layers.GaussianNoise(0.1)(layers.PReLU()(x) / 2 + x), 0),
    ],
)
def test_what_the_profiler_does_not_know(shape, call, macs):
    assert profile.count(network(shape, call)).macs == macs


def test_looking_up_values_costs_nothing():
    model = network((7,), lambda x: layers.Embedding(10, 4)(x), "int32")
    assert profile.count(model).macs == 0 and profile.count(model).params == 40


@pytest.mark.parametrize(
    "name, size",
    [
        ("MobileNetV3Small", 32),
        ("EfficientNetV2B0", 32),
        ("ConvNeXtTiny", 32),
        ("DenseNet121", 32),
        ("ResNet50V2", 32),
        ("Xception", 71),
        pytest.param("NASNetMobile", 32, marks=pytest.mark.slow),
    ],
)
def test_tensorflows_profiler_agrees_on_networks_of_keras(name, size):
    build = getattr(applications, name)
    model = build(weights=None, include_top=False, input_shape=(size, size, 3), pooling="avg")
    assert profile.count(model).macs == profile.graph_macs(model) > 0
    assert profile.count(model).params == sum(np.prod(w.shape) for w in model.trainable_weights)


def test_counting_leaves_no_trace():
    layer = Shared()
    model = network(IMAGE, layer)
    before = len(layer.conv._inbound_nodes), [w.numpy() for w in model.weights]
    profile.count(model)
    assert len(layer.conv._inbound_nodes) == before[0]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], model.weights, strict=True))


def test_a_state_that_a_layer_keeps_is_not_changed():
    class Counting(layers.Layer):
        def build(self, input_shape):
            self.seen = self.add_weight((), initializer="zeros", trainable=False)

        def call(self, x):
            self.seen.assign_add(1.0)
            return x

    layer = Counting()
    model = network(IMAGE, layer)
    before = float(layer.seen.numpy())
    profile.count(model)
    assert float(layer.seen.numpy()) == before


def test_a_model_with_a_call_of_its_own_is_followed_by_it():
    class Twice(keras.Model):
        def call(self, x, training=None, mask=None):
            return super().call(super().call(x))

    inputs = keras.Input(SEQUENCE)
    model = Twice(inputs, layers.Dense(6)(inputs))
    with pytest.raises(ValueError, match="keras.Model\\(inputs, outputs\\)"):
        profile.count(model)
    assert profile.count(network(SEQUENCE, model)).macs == 2 * 9 * 36


def test_a_layer_of_keras_with_a_call_of_its_own_is_followed_by_it():
    class Twice(layers.Dense):
        def call(self, x, training=None):
            return super().call(super().call(x))

    assert profile.count(network(SEQUENCE, Twice(6))).macs == 2 * 9 * 36


def test_an_operation_has_a_row():
    model = network(IMAGE, lambda x: layers.Dense(2)(ops.matmul(x, weights(6, 4))))
    rows = profile.count(model).layers
    assert [(row.params, row.macs) for row in rows] == [(0, 90 * 24), (10, 90 * 8)]


def test_a_bias_counts_in_flops():
    layer = layers.SeparableConv2D(8, 3)
    layer.build((None, 17, 18, 6))
    assert cost.layer_flops(layer, (None, 17, 18, 6)) == 2 * (24_480 + 15 * 16 * 8)
