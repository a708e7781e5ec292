import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import copy_by_config

from keras_dynnets.families.puppet.kernels import kernel_of
from keras_dynnets.families.puppet.noise import seeded_noise
from keras_dynnets.layers import GeneratedConv2D, KernelODE, LevelNormalization

HALF = np.array([0.5], "float32")


def built(*args, **kwargs):
    ode = KernelODE(*args, **kwargs)
    ode.build()
    return ode


@pytest.mark.parametrize("channels", [64, 128, 256])
def test_trainable_values(channels):
    assert built(channels).count_params() == channels**2 + 15 * channels
    assert built(channels, state="constant").count_params() == channels**2 + 15 * channels
    assert built(channels, state="rank_one").count_params() == channels**2 + 18 * channels + 9


def test_more_steps_come_near_to_the_same_end():
    """All methods solve one equation; the error falls with the step, faster at a higher order."""
    end = built_like("rk4")(HALF, steps=64)[-1]
    errors = {}
    for method in ("euler", "midpoint", "rk4"):
        for steps in (4, 8):
            errors[method, steps] = np.abs(built_like(method)(HALF, steps=steps)[-1] - end).max()
    assert 1.6 < errors["euler", 4] / errors["euler", 8] < 2.6
    assert 3 < errors["midpoint", 4] / errors["midpoint", 8] < 6
    assert errors["rk4", 4] < errors["midpoint", 4] < errors["euler", 4]


def built_like(method):
    keras.utils.set_random_seed(7)
    return built(8, method=method)


def test_states_of_a_batch_are_those_of_each():
    ode = built(8)
    complexities = np.array([0.1, 0.5, 0.9], "float32")
    together = ode(complexities, steps=3)
    assert [s.shape for s in together] == [(3, 8, 3, 3, 8)] * 3
    for i in range(3):
        np.testing.assert_allclose(
            ode(complexities[i : i + 1], steps=3)[-1][0], together[-1][i], atol=1e-5
        )
    assert np.abs(together[-1][0] - together[-1][2]).max() > 0.1


def test_gradient_through_the_whole_equation():
    """Against finite differences, in every weight."""
    ode = built(4, state="rank_one")
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 3, 3, 4)).astype("float32")

    def value():
        return tf.reduce_sum(tf.tanh(ode(HALF, steps=5)[-1]) * weight)

    with tf.GradientTape() as tape:
        result = value()
    for variable, gradient in zip(
        ode.trainable_variables,
        tape.gradient(result, [v.value for v in ode.trainable_variables]),
        strict=True,
    ):
        direction = rng.normal(size=variable.shape).astype("float32")
        start, step = variable.numpy(), 1e-2
        variable.assign(start + step * direction)
        above = value()
        variable.assign(start - step * direction)
        below = value()
        variable.assign(start)
        assert float(above - below) / (2 * step) == pytest.approx(
            float(np.sum(gradient * direction)), rel=0.02, abs=0.02
        )


def test_noise_is_the_same_everywhere_and_looks_like_noise():
    assert seeded_noise(np.arange(3), 0) == pytest.approx(
        [0.2870955, 0.8257560, -0.0750751], abs=1e-6
    )
    noise = seeded_noise(np.arange(100_000), 5)
    np.testing.assert_array_equal(noise, seeded_noise(tf.range(100_000, dtype=tf.int64), 5))
    assert abs(noise.mean()) < 0.01 and abs(noise.var() - 1) < 0.01
    for lag in (1, 2, 9, 64, 576):
        assert abs((noise[:-lag] * noise[lag:]).mean()) < 0.012
    assert abs((noise * seeded_noise(np.arange(100_000), 6)).mean()) < 0.012


def test_a_constant_start_stays_the_same_for_all_input_channels():
    state = np.asarray(built(8, state="constant")(HALF, steps=4)[-1])
    np.testing.assert_allclose(state[:, :1] + 0 * state, state, atol=1e-6)
    other = np.asarray(built(8)(HALF, steps=4)[-1])
    assert other.std(axis=1).min() > 0.3


def test_kernels_are_pooled_and_scaled():
    state = np.random.default_rng(0).normal(size=(1, 8, 3, 3, 8)).astype("float32")
    kernel = np.asarray(kernel_of(state, (3, 3, 4, 2), normalise=False))
    pooled = state.reshape(1, 4, 2, 3, 3, 2, 4).mean(axis=(2, 6)).transpose(0, 2, 3, 1, 4)
    np.testing.assert_allclose(kernel, pooled / 6, atol=1e-6)
    assert kernel_of(state, (1, 1, 3, 5)).shape == (1, 1, 1, 3, 5)
    normalised = np.asarray(kernel_of(state, (3, 3, 3, 8)))
    np.testing.assert_allclose((normalised**2).sum(axis=(1, 2, 3)), 1, rtol=1e-4)


def test_refusals_and_config():
    with pytest.raises(
        ValueError, match="state is one of noise, rank_one, constant and method one of euler"
    ):
        KernelODE(8, state="random")
    with pytest.raises(ValueError, match="horizon is positive"):
        KernelODE(8, horizon=0)
    copy = copy_by_config(KernelODE(8, 5, method="midpoint", horizon=2.0, seed=3))
    assert (copy.channels, copy.kernel_size, copy.method, copy.horizon, copy.seed) == (
        8,
        5,
        "midpoint",
        2.0,
        3,
    )


@pytest.mark.parametrize(
    "options, shape",
    [
        ({"padding": "same"}, (3, 3, 4, 5)),
        ({"strides": (2, 2)}, (3, 3, 4, 5)),
        ({"groups": 2, "padding": "same"}, (3, 3, 2, 6)),
        ({"depthwise": True, "padding": "same"}, (3, 3, 4, 2)),
    ],
)
def test_a_kernel_for_each_image(options, shape):
    rng = np.random.default_rng(0)
    x, kernels = (
        rng.normal(size=(3, 9, 9, 4)).astype("float32"),
        rng.normal(size=(3, *shape)).astype("float32"),
    )
    layer = GeneratedConv2D(**options)
    together = layer(x, kernel=kernels)
    for i in range(3):
        np.testing.assert_allclose(
            together[i], layer(x[i : i + 1], kernel=kernels[i])[0], atol=1e-4
        )
    np.testing.assert_array_equal(copy_by_config(layer)(x, kernel=kernels), together)


@pytest.mark.parametrize("shape", [(6, 5, 5, 4), (6, 4)])
def test_normalises_as_batch_norm_does(shape):
    x = np.random.default_rng(0).normal(3, 2, shape).astype("float32")
    norm, theirs = (
        LevelNormalization(1e-3),
        keras.layers.BatchNormalization(center=False, scale=False, momentum=0.0),
    )
    y, statistics = norm(x)
    np.testing.assert_allclose(y, theirs(x, training=True), atol=1e-4)
    np.testing.assert_allclose(
        statistics, [theirs.moving_mean, theirs.moving_variance], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(norm(x, statistics=statistics)[0], theirs(x), atol=1e-4)
    assert copy_by_config(norm).epsilon == 1e-3
