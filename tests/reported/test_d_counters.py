"""Reported of counters: what they count, refuse and do not need (D7, D8, D9, D11)."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_dynnets import cnsn, export, profile, puppet
from keras_dynnets.training import evaluate
from keras_dynnets.training.data.datasets import Split


@pytest.mark.parametrize(
    "layer, macs",
    [
        (layers.SeparableConv2D(8, 3), 24_480),
        (layers.Conv2DTranspose(8, 3, strides=2, padding="same"), 132_192),
    ],
)
def test_separable_and_transposed_convolutions_are_counted(layer, macs):
    """D7: `count` refused the layers of Xception, NASNet and U-Nets."""
    inputs = keras.Input((17, 18, 6))
    assert profile.count(keras.Model(inputs, layer(inputs))).macs == macs


class Spectrum(layers.Layer):
    """A layer whose cost is not known."""

    def call(self, x):
        return ops.real(ops.fft((x, ops.zeros_like(x)))[0])


def detachable(block):
    i = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D(name="a")(layers.Conv2D(4, 3, padding="same")(i))
    x = layers.GlobalAveragePooling2D()(block(x))
    model = cnsn.detachable(keras.Model(i, layers.Dense(3)(x)), ["a"])
    model.accuracy = {"base": 0.9, "sub1": 0.8}
    return model


def test_a_choice_by_time_needs_no_macs(monkeypatch):
    """D7: `choose(max_ms=...)` counted MACs that it did not need."""
    monkeypatch.setattr("keras_dynnets.measure.budget.milliseconds", lambda *_: 1.0)
    model = detachable(Spectrum(name="spectrum"))
    choice = cnsn.choose(model, max_ms=5)
    assert (choice.name, choice.ms, choice.macs) == ("base", 1.0, None)
    with pytest.raises(ValueError, match="FFT inside layer 'spectrum'"):
        cnsn.choose(model, max_ms=5, max_macs=1e9)


def test_the_parts_of_a_network_of_separable_convolutions_are_counted():
    """D7: `detachable` networks of other convolutions had cuts of unknown cost."""
    model = detachable(layers.SeparableConv2D(4, 3))
    assert cnsn.choose(model, max_macs=1e9).macs == profile.count(model.part("base")).macs
    point = cnsn.cut_points(model.base)[0]
    assert point.macs == profile.count(model.part("sub1")).macs


def test_operations_are_counted():
    """D8: convolutions of `keras.ops` counted as 0."""
    i = keras.Input((16, 16, 3))
    assert profile.count(keras.Model(i, ops.conv(i, ops.ones((3, 3, 3, 4))))).macs == 21_168


class Attributes(layers.Layer):
    """A layer of the user's with attributes that have the names of the library's methods."""

    macs = params = calls = plain = stand_in = inner_calls = optional_macs = used_params = 7

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(4, 3)

    def build(self, input_shape):
        self.conv.build(input_shape)

    def call(self, x):
        return self.conv(x)


def test_attributes_of_a_layer_are_its_own():
    """D9: an attribute `macs`, `params`, `calls` or `plain` was called."""
    i = keras.Input((8, 8, 3))
    counted = profile.count(keras.Model(i, Attributes()(i)))
    assert (counted.params, counted.macs) == (4 * 27 + 4, 36 * 27 * 4)


@pytest.fixture(scope="module")
def digits():
    i = keras.Input((28, 28, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(i))
    return keras.Model(i, layers.Dense(3)(x))


IMAGES = np.full((4, 28, 28, 1), 9, "uint8")


@pytest.mark.parametrize("images", [IMAGES[..., 0], IMAGES[0], IMAGES[0, ..., 0].tolist(), []])
def test_images_of_another_shape_are_refused_by_what_was_called(digits, images, tmp_path):
    """D11: the error was that of a network to detach."""
    takes = r"images of shape \(n, 28, 28, 1\)"
    with pytest.raises(ValueError, match=f"measure takes {takes}"):
        profile.measure(digits, images)
    with pytest.raises(ValueError, match=f"evaluate takes {takes}"):
        evaluate(digits, Split(images, np.zeros(4, "int64")))
    with pytest.raises(ValueError, match=f"calibration takes {takes}"):
        export.export_model(digits, tmp_path / "d.tflite", precision="int8", calibration=images)
    assert not list(tmp_path.iterdir())


def test_a_network_of_two_inputs_is_refused_by_what_was_called():
    """D11: `measure` runs networks from images to logits."""
    a, b = keras.Input((28, 28, 1)), keras.Input((28, 28, 1))
    model = keras.Model([a, b], layers.Dense(3)(layers.Flatten()(layers.Add()([a, b]))))
    with pytest.raises(ValueError, match="measure takes a network with one input"):
        profile.measure(model, IMAGES)


@pytest.mark.parametrize("images", [IMAGES.astype(float).tolist(), ops.convert_to_tensor(IMAGES)])
def test_images_of_the_right_shape_are_taken(digits, images):
    """D11: lists and tensors of the right shape are images."""
    measured = profile.measure(digits, images)
    assert (measured.macs == profile.count(digits).macs).all() and len(measured.logits) == 4


def of_unknown_cost():
    """A network with a Lambda that calls TensorFlow, which nothing can follow."""
    import tensorflow as tf

    i = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(i)
    x = layers.Lambda(lambda x: tf.nn.relu(x), output_shape=(8, 8, 4), name="own")(x)
    return keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("made", [lambda network: network, puppet.puppeteer])
def test_an_evaluation_needs_no_macs(made):
    """D8: a network whose cost is not known could not be evaluated."""
    model = made(of_unknown_cost())
    images, labels = np.full((4, 8, 8, 3), 9, "uint8"), np.array([0, 1, 2, 0])
    results = evaluate(model, Split(images, labels), classes=("a", "b", "c"))
    expected = (model.predict(images, verbose=0).argmax(-1) == labels).mean()
    assert results["accuracy"] == expected and "macs_mean" not in results
    with pytest.raises(ValueError, match="layer 'own'.* Known are the costs of"):
        profile.measure(model, images)


def test_d7_attention_over_two_axes_is_counted():
    """D7: its softmax, over both axes, is no product."""
    image = keras.Input((3, 4, 8))
    attention = keras.layers.MultiHeadAttention(2, 4, attention_axes=(1, 2))
    # 12 places: four projections of 8 x 8 values, and two products of 12 x 12 by 8.
    counted = profile.count(keras.Model(image, attention(image, image)))
    assert counted.macs == 4 * 12 * 64 + 2 * 144 * 8
