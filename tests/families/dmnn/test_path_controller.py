import keras
import numpy as np
import pytest
from helpers import copy_by_config, images
from keras import ops

from keras_dynnets.layers import PathController


def randomised(layer, seed=0):
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def by_hand(weights, x, state=None):
    """Computes equations 5 to 8 in NumPy: gates and state."""
    if state is None:
        w1, b1, w3, b3 = weights
        h = np.maximum(x.mean((1, 2)) @ w1 + b1, 0)
    else:
        w1, b1, w2, w3, b3 = weights
        h = np.maximum(x.mean((1, 2)) @ w1 + b1, 0) + np.maximum(state @ w2, 0)
    logits = (h @ w3 + b3).reshape(len(x), -1, 2)
    return logits.argmax(-1), h


def test_first_controller_by_hand():
    x = images(20) / 255
    layer = PathController(3, units=5)
    layer(x)
    gates, state = randomised(layer)(x)
    wanted_gates, wanted_state = by_hand(layer.get_weights(), x)
    assert 0 < wanted_gates.mean() < 1
    np.testing.assert_array_equal(gates, wanted_gates)
    np.testing.assert_allclose(state, wanted_state, rtol=1e-5)


def test_later_controller_by_hand():
    x, previous = images(20) / 255, np.random.default_rng(1).normal(size=(20, 5)).astype("float32")
    layer = PathController(2, units=5)
    layer(x, previous)
    gates, state = randomised(layer)(x, previous)
    wanted_gates, wanted_state = by_hand(layer.get_weights(), x, previous)
    assert 0 < wanted_gates.mean() < 1
    np.testing.assert_array_equal(gates, wanted_gates)
    np.testing.assert_allclose(state, wanted_state, rtol=1e-5)


def test_starts_with_every_path_on():
    gates, state = PathController(4)(images(8) / 255)
    assert state.shape == (8, 32)
    np.testing.assert_array_equal(gates, np.ones((8, 4)))


def test_trainable_values():
    first, later = PathController(2), PathController(2)
    first.build((None, 8, 8, 64))
    later.build((None, 8, 8, 64), (None, 32))
    own = 64 * 32 + 32 + 32 * 4 + 4
    assert first.count_params() == own
    assert later.count_params() == own + 32 * 32


def test_macs():
    first, later = PathController(2), PathController(2)
    first.build((None, 8, 8, 64))
    later.build((None, 8, 8, 64), (None, 32))
    assert first.macs((None, 8, 8, 64)) == 64 * 32 + 32 * 2
    assert later.macs((None, 8, 8, 64)) == 64 * 32 + 32 * 32 + 32 * 2


def test_forced_gates():
    x, pattern = images(4), np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
    gates, _ = PathController(2)(x, forced=np.where(pattern, 1e4, -1e4).astype("float32"))
    np.testing.assert_array_equal(gates, pattern)


def test_config_round_trip():
    layer = PathController(3, units=7, noise=0.25, seed=5, name="c")
    copy = copy_by_config(layer)
    assert copy.get_config() == layer.get_config()
    assert (copy.sub_blocks, copy.units, copy.gate.noise, copy.gate.seed, copy.name) == (
        3,
        7,
        0.25,
        5,
        "c",
    )
    x = images(6) / 255
    layer(x), copy(x)
    copy.set_weights(randomised(layer).get_weights())
    for a, b in zip(layer(x), copy(x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("has_state", [False, True])
def test_symbolic_shape_is_the_eager_one(has_state):
    def outputs(batch, tensor):
        arguments = [tensor((batch, 8, 8, 6))] + ([tensor((batch, 32))] if has_state else [])
        return PathController(3)(*arguments)

    eager = outputs(4, lambda shape: np.zeros(shape, "float32"))
    symbolic = outputs(None, keras.KerasTensor)
    for e, s in zip(eager, symbolic, strict=True):
        assert s.shape[0] is None and s.shape[1:] == e.shape[1:]
        assert s.dtype == keras.backend.standardize_dtype(e.dtype)


def test_half_precision(half_precision):
    gates, state = PathController(2)(images(4) / 255)
    assert {keras.backend.standardize_dtype(t.dtype) for t in (gates, state)} == {"float16"}
    np.testing.assert_array_equal(ops.convert_to_numpy(gates), np.ones((4, 2)))


def test_fit_step_moves_every_weight():
    x = keras.Input((8, 8, 3))
    first, state = PathController(2, seed=1)(x)
    second, _ = PathController(2, seed=2)(x, state)
    model = keras.Model(x, [first, second])
    model.compile(keras.optimizers.SGD(0.1), ["mse", "mse"])
    before = model.get_weights()
    model.fit(images(16, 8) / 255, [np.zeros((16, 2))] * 2, verbose=0)
    assert [
        w.path for w, b in zip(model.weights, before, strict=True) if (w.numpy() == b).all()
    ] == []


@pytest.mark.parametrize("sub_blocks, units", [(0, 32), (2, 0)])
def test_errors(sub_blocks, units):
    with pytest.raises(ValueError, match=f"1 or more, not {sub_blocks} and {units}"):
        PathController(sub_blocks, units)
