import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import copy_by_config

from keras_dynnets.layers import BatchNormalization


def pair(shape, dtype="float32", **arguments):
    """Our layer and Keras's, with the same random weights."""
    rng = np.random.default_rng(0)
    kinds = BatchNormalization, keras.layers.BatchNormalization
    ours, theirs = (kind(dtype=dtype, **arguments) for kind in kinds)
    ours.build(shape), theirs.build(shape)
    values = [rng.uniform(0.5, 1.5, w.shape) for w in theirs.weights]
    ours.set_weights(values), theirs.set_weights(values)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    return ours, theirs


def run(layer, x, training):
    """Output, its gradients at a fixed upstream and the weights afterwards."""
    x = tf.Variable(x)
    upstream = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    with tf.GradientTape() as tape:
        y = layer(x, training=training)
        loss = tf.reduce_sum(tf.cast(y, "float32") * upstream)
    trainable = [w.value for w in layer.trainable_weights]
    return [y, *tape.gradient(loss, [x, *trainable]), *[w.numpy() for w in layer.weights]]


def assert_same(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        a, b = a.astype("float64"), b.astype("float64")
        scale = max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("mixed_float16", 4e-3)])
@pytest.mark.parametrize("shape", [(8, 5, 6, 4), (3, 1, 1, 4)])
def test_equals_keras(shape, dtype, tolerance, training):
    x = np.random.default_rng(2).normal(1, 2, shape)
    x = x.astype("float16" if "16" in dtype else "float32")
    ours, theirs = pair(shape, dtype, momentum=0.9, epsilon=1e-3)
    assert_same(run(ours, x, training), run(theirs, x, training), tolerance)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
        {"epsilon": 1e-7},
        {"epsilon": 0.1, "momentum": 0.5},
        {"axis": 3},
        {"axis": 1},
        {"trainable": False},
    ],
    ids=str,
)
def test_equals_keras_with(arguments, training):
    shape = (6, 4, 5, 4)
    # The variance is near the smallest epsilon.
    x = np.random.default_rng(2).normal(0, 0.001, shape).astype("float32")
    ours, theirs = pair(shape, **arguments)
    assert_same(run(ours, x, training), run(theirs, x, training), 1e-5)


@pytest.mark.parametrize("shape", [(8, 4), (8, 5, 4), (4, 3, 3, 3, 4)])
def test_equals_keras_on_other_ranks(shape):
    x = np.random.default_rng(2).normal(1, 2, shape).astype("float32")
    ours, theirs = pair(shape)
    assert_same(run(ours, x, True), run(theirs, x, True), 1e-5)


def test_frozen_keeps_its_statistics():
    layer = BatchNormalization()
    layer.build((None, 4, 4, 3))
    layer.trainable = False
    x = np.random.default_rng(0).normal(3, 2, (8, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(3))


def test_config_round_trip():
    layer = BatchNormalization(momentum=0.7, epsilon=1e-4, scale=False, name="n")
    copy = copy_by_config(layer)
    assert type(copy) is BatchNormalization
    assert copy.get_config() == layer.get_config()


def test_symbolic_shape_is_the_eager_one():
    symbolic = BatchNormalization()(keras.KerasTensor((None, None, 5, 3)))
    eager = BatchNormalization()(np.zeros((2, 4, 5, 3), "float32"))
    assert symbolic.shape == (None, None, 5, 3) and eager.shape == (2, 4, 5, 3)


def test_fit_step():
    def trained(cls):
        pool = keras.layers.GlobalAveragePooling2D()
        model = keras.Sequential([keras.Input((4, 4, 3)), cls(), pool])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        x = np.random.default_rng(0).normal(1, 2, (8, 4, 4, 3))
        model.fit(x, np.arange(24.0).reshape(8, 3), batch_size=8, shuffle=False, verbose=0)
        return model.get_weights()

    ours, theirs = trained(BatchNormalization), trained(keras.layers.BatchNormalization)
    assert np.abs(ours[1]).max() > 0
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
