import keras
import numpy as np
import pytest
from keras import layers

from keras_dynnets.core import cost
from keras_dynnets.layers import SlicedBatchNormalization, SlicedConv2D, SlicedDense


def built(layer, *shape):
    layer(np.random.default_rng(0).normal(size=shape).astype("float32"))
    return layer


CONV = lambda: built(layers.Conv2D(6, 3, 2, "same", activation="relu"), 1, 8, 8, 5)  # noqa: E731
DEPTHWISE = lambda: built(layers.DepthwiseConv2D(3, depth_multiplier=2), 1, 8, 8, 5)  # noqa: E731
DENSE = lambda: built(layers.Dense(6, use_bias=False), 1, 5)  # noqa: E731
CASES = {
    "conv": (SlicedConv2D, CONV, (3, 8, 8, 5), (0, 1, 2), (0, 1, 2, 3)),
    "gaps": (SlicedConv2D, CONV, (3, 8, 8, 5), (0, 2, 4), (1, 5)),
    "depthwise": (SlicedConv2D, DEPTHWISE, (3, 8, 8, 5), (1, 2), (2, 3, 4, 5)),
    "dense": (SlicedDense, DENSE, (3, 5), (0, 1), (0, 1, 2)),
}


@pytest.fixture(params=CASES)
def case(request):
    kind, of, shape, reads, writes = CASES[request.param]
    x = np.random.default_rng(1).normal(size=shape).astype("float32")
    layer = of()
    return layer, kind(layer, reads, writes), x, reads, writes


def test_gives_what_the_whole_gives_where_the_other_channels_are_zero(case):
    of, sliced, x, reads, writes = case
    alone = np.zeros_like(x)
    alone[..., list(reads)] = x[..., list(reads)]
    np.testing.assert_allclose(
        sliced(x[..., list(reads)]), np.asarray(of(alone))[..., list(writes)], atol=1e-6
    )


def test_plain_layer_gives_the_same(case):
    _, sliced, x, reads, _ = case
    x = x[..., list(reads)]
    plain = sliced.stand_in()
    plain.build(x.shape)
    plain.set_weights([np.asarray(v) for v in sliced.values()])
    np.testing.assert_allclose(plain(x), sliced(x), atol=1e-6)
    assert sliced.used_params() == plain.count_params()
    assert cost.layer_macs(sliced, x.shape) == cost.layer_macs(plain, x.shape) > 0
    assert tuple(sliced.compute_output_shape(x.shape)) == plain(x).shape == sliced(x).shape


def test_config_round_trip(case):
    _, sliced, x, reads, _ = case
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(sliced))
    copy.of.set_weights(sliced.of.get_weights())
    np.testing.assert_array_equal(copy(x[..., list(reads)]), sliced(x[..., list(reads)]))


def test_gradients_reach_the_whole_layers_weights(case):
    of, sliced, x, reads, _ = case
    model = keras.Sequential([keras.Input(x[..., list(reads)].shape[1:]), sliced])
    before = of.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = x[..., list(reads)]
    model.fit(x, np.ones(model(x).shape), verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, of.get_weights(), strict=True))


def test_batch_norm_has_statistics_of_its_own():
    of = built(layers.BatchNormalization(momentum=0.0), 4, 2, 2, 5)
    of.gamma.assign(np.arange(1, 6))
    of.beta.assign(np.arange(5))
    sliced = SlicedBatchNormalization(of, (0, 1, 3))
    x = np.random.default_rng(1).normal(2, 3, (16, 2, 2, 3)).astype("float32")
    sliced(x, training=True)
    assert not np.any(of.moving_mean)
    np.testing.assert_allclose(sliced.moving_mean, x.mean((0, 1, 2)), atol=1e-5)
    wanted = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3) * [1, 2, 4] + [0, 1, 3]
    np.testing.assert_allclose(sliced(x), wanted, atol=1e-4)
    plain = sliced.stand_in()
    plain.build(x.shape)
    plain.set_weights([np.asarray(v) for v in sliced.values()])
    np.testing.assert_allclose(plain(x), wanted, atol=1e-4)
    assert len(sliced.trainable_weights) == 2 and all(
        w is v for w, v in zip(sliced.trainable_weights, (of.gamma, of.beta), strict=True)
    )


def test_batch_norm_config_round_trip():
    sliced = SlicedBatchNormalization(
        built(layers.BatchNormalization(scale=False), 2, 2, 2, 4), (0, 1)
    )
    sliced.build((None, 2, 2, 2))
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(sliced))
    assert copy.gamma is None and copy.beta.shape == (2,) and copy.reads == (0, 1)
