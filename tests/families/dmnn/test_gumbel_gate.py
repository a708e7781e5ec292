import keras
import numpy as np
import pytest
from helpers import copy_by_config
from keras import ops

from keras_dynnets.layers import GumbelGate

LOGITS = np.array([[[0.0, 1.0], [2.0, 1.0]], [[-3.0, -2.9], [0.5, -0.5]]], "float32")


def test_inference_is_argmax():
    gates = GumbelGate()(LOGITS)
    np.testing.assert_array_equal(gates, [[1, 0], [1, 0]])


def test_config_round_trip():
    layer = copy_by_config(GumbelGate(noise=0.5, seed=11, name="g"))
    assert (layer.noise, layer.seed, layer.name) == (0.5, 11, "g")


def test_symbolic_shape_is_the_eager_one():
    symbolic = GumbelGate()(keras.KerasTensor((None, 3, 2)))
    eager = GumbelGate()(np.zeros((5, 3, 2), "float32"))
    assert symbolic.shape == (None, 3) and eager.shape == (5, 3)
    assert symbolic.dtype == keras.backend.standardize_dtype(eager.dtype) == "float32"


def test_training_gives_exact_zeros_and_ones():
    gates = ops.convert_to_numpy(
        GumbelGate(seed=1)(np.zeros((500, 4, 2), "float32"), training=True)
    )
    assert set(np.unique(gates)) == {0.0, 1.0}


def test_noise_opens_a_gate_with_its_softmax_probability():
    logits = np.tile(np.array([[[0.0, 1.0], [0.3, -0.5]]], "float32"), (40_000, 1, 1))
    rates = ops.convert_to_numpy(GumbelGate(seed=1)(logits, training=True)).mean(0)
    np.testing.assert_allclose(rates, 1 / (1 + np.exp([-1.0, 0.8])), atol=0.01)


def test_noise_is_scaled():
    logits = np.tile(np.array([[[0.0, 1.0]]], "float32"), (40_000, 1, 1))
    rate = ops.convert_to_numpy(GumbelGate(noise=0.5, seed=1)(logits, training=True)).mean()
    np.testing.assert_allclose(rate, 1 / (1 + np.exp(-2.0)), atol=0.01)


def test_noise_is_drawn_anew_and_repeats_with_the_seed():
    logits = np.zeros((200, 2, 2), "float32")
    first, again, other = GumbelGate(seed=1), GumbelGate(seed=1), GumbelGate(seed=2)
    draw = ops.convert_to_numpy(first(logits, training=True))
    np.testing.assert_array_equal(draw, again(logits, training=True))
    assert (draw != ops.convert_to_numpy(first(logits, training=True))).any()
    assert (draw != ops.convert_to_numpy(other(logits, training=True))).any()


@pytest.mark.parametrize("case", ["inference", "frozen", "noise 0"])
def test_without_noise(case):
    layer = GumbelGate(noise=0 if case == "noise 0" else 1, seed=1)
    layer.trainable = case != "frozen"
    logits = np.tile(np.array([[[0.0, 0.01], [0.01, 0.0]]], "float32"), (300, 1, 1))
    gates = layer(logits, training=case != "inference")
    np.testing.assert_array_equal(gates, np.tile([[1.0, 0.0]], (300, 1)))


def test_gradient_is_that_of_the_softmax():
    import tensorflow as tf

    logits = tf.Variable(LOGITS)
    upstream = np.array([[1.0, 2.0], [-1.0, 0.5]], "float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(GumbelGate(noise=0)(logits, training=True) * upstream)
    on = 1 / (1 + np.exp(LOGITS[..., 0] - LOGITS[..., 1]))
    slope = upstream * on * (1 - on)
    np.testing.assert_allclose(
        tape.gradient(loss, logits), np.stack([-slope, slope], -1), rtol=1e-5
    )


def test_half_precision(half_precision):
    layer = GumbelGate(seed=1)
    gates = layer(np.full((1000, 1, 2), 60_000, "float16"), training=True)
    assert keras.backend.standardize_dtype(gates.dtype) == "float16"
    assert 0.4 < ops.convert_to_numpy(gates).mean() < 0.6


def test_fit_step():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(6), keras.layers.Reshape((3, 2)), GumbelGate(seed=1)]
    )
    model.compile("sgd", "mse")
    before = model.layers[0].kernel.numpy()
    loss = model.fit(np.ones((8, 4)), np.zeros((8, 3)), verbose=0).history["loss"][0]
    assert 0 <= loss <= 1
    assert (model.layers[0].kernel.numpy() != before).any()


def test_errors():
    with pytest.raises(ValueError, match="noise .* 0 or more, not -1"):
        GumbelGate(noise=-1)
    with pytest.raises(ValueError, match=r"\(batch, gates, 2\), not \(4, 3\)"):
        GumbelGate()(np.zeros((4, 3), "float32"))
    with pytest.raises(ValueError, match=r"not \(4, 2, 3\)"):
        GumbelGate()(np.zeros((4, 2, 3), "float32"))
