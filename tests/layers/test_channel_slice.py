import keras
import numpy as np
import pytest
from helpers import copy_by_config

from keras_dynnets.layers import ChannelSlice


def test_takes_its_channels():
    x = np.arange(2 * 3 * 3 * 8, dtype="float32").reshape(2, 3, 3, 8)
    np.testing.assert_array_equal(ChannelSlice(2, 4)(x), x[..., 2:6])
    np.testing.assert_array_equal(ChannelSlice(0, 8)(x), x)
    np.testing.assert_array_equal(ChannelSlice(7, 1)(x), x[..., 7:])


def test_config_round_trip():
    layer = copy_by_config(ChannelSlice(2, 4, name="s"))
    assert (layer.start, layer.size, layer.name) == (2, 4, "s")


def test_symbolic_shape_is_the_eager_one():
    symbolic = ChannelSlice(2, 4)(keras.KerasTensor((None, None, 5, 8)))
    eager = ChannelSlice(2, 4)(np.zeros((2, 3, 5, 8), "float32"))
    assert symbolic.shape == (None, None, 5, 4) and eager.shape == (2, 3, 5, 4)


def test_fit_step():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), ChannelSlice(1, 2)])
    model.compile("sgd", "mse")
    before = model.layers[0].kernel.numpy()
    model.fit(np.ones((8, 4)), np.zeros((8, 2)), verbose=0)
    changed = (model.layers[0].kernel.numpy() != before).any(0)
    np.testing.assert_array_equal(changed, [False, True, True, False, False, False])


@pytest.mark.parametrize("start, size", [(-1, 2), (0, 0), (6, 3), (8, 1)])
def test_errors(start, size):
    with pytest.raises(
        ValueError, match=f"channels {start} to {start + size} do not lie inside the 8 "
    ):
        ChannelSlice(start, size)(np.zeros((1, 2, 2, 8), "float32"))
