from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import assert_close, compiled, images, labels, run_python
from helpers import generated as fitted
from helpers import generated_plain as plain
from keras import layers

from keras_dynnets import puppet, zoo
from keras_dynnets.profile import count, measure


@pytest.mark.parametrize(
    "adapt, depths", [("none", (6,)), ("parameters", (6, 6, 6)), ("depth", (3, 4, 6))]
)
def test_forms(adapt, depths):
    model = fitted(adapt=adapt, levels=3)
    assert model.depths == depths
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 32**2 + 15 * 32
    x = images(7, seed=1)
    whole = keras.ops.convert_to_numpy(model(x))
    assert whole.shape == (7, 10) and np.isfinite(whole).all()
    assert_close(model.predict(x, verbose=0), whole)
    assert_close(np.concatenate([model(x[i : i + 1]) for i in range(7)]), whole)


def test_every_level_materialised():
    model = fitted(normalise_kernels=False, state="rank_one", method="midpoint")
    x = images(40, seed=1)
    levels = model.levels_of(x)
    assert set(levels) == {0, 1, 2, 3}
    whole = keras.ops.convert_to_numpy(model(x))
    for level in range(4):
        network = model.materialise(level)
        assert (
            len(
                [
                    layer
                    for layer in network.layers
                    if "conv" in layer.name or layer.name == "logits"
                ]
            )
            <= model.depths[level]
        )
        assert not any(isinstance(layer, layers.BatchNormalization) for layer in network.layers)
        assert_close(network(x[levels == level]), whole[levels == level])
    for bad in (4, -1, None):
        with pytest.raises(ValueError, match="levels 0 to 3"):
            model.materialise(bad)


def test_predict_follows_the_weights():
    model, x = fitted(), images(6)
    before = model.predict(x, verbose=0)
    model.puppet.ode.gamma2.assign(model.puppet.ode.gamma2 * 3)
    after = model.predict(x, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    assert_close(after, model(x))


def test_depth_follows_complexity():
    model = fitted()
    x = images(60, seed=3)
    levels, complexity = model.levels_of(x), puppet.complexity(x)
    assert (np.diff(levels[np.argsort(complexity)]) >= 0).all()
    assert model.depths == tuple(sorted(model.depths)) and model.depths[0] < model.depths[-1]
    counted = np.bincount(model.levels_of(images(80)), minlength=4)
    assert counted.min() >= 15  # each level has as many of the images that it was ranked by


def test_more_levels_come_near_to_kernels_of_each_image():
    """With more levels, logits tend to those of kernels generated for every image."""
    x = images(24, seed=2)
    exact = fitted(levels=None, adapt="parameters")
    wanted = np.asarray(exact(x))
    errors = []
    for levels in (1, 4, 32):
        model = fitted(levels=levels, adapt="parameters")
        model.puppet.ode.set_weights(exact.puppet.ode.get_weights())
        model.puppet.statistics.assign(np.repeat(exact.puppet.statistics, levels, axis=0))
        errors.append(np.abs(model(x) - wanted).mean())
    assert errors[0] > 2 * errors[1] > 8 * errors[2]
    assert_close(np.concatenate([exact(x[i : i + 1]) for i in range(24)]), wanted)
    assert_close(exact.predict(x, verbose=0), wanted)
    with pytest.raises(ValueError, match="no levels: kernels are each image's own"):
        exact.materialise(0)


def test_counted_and_measured():
    model, x = fitted(), images(10)
    counted = count(model)
    assert counted.params == 32**2 + 15 * 32 and counted.macs == max(counted.level_macs)
    assert [count(model.materialise(i)).macs for i in range(4)] == list(counted.level_macs)
    measured = measure(model, x)
    np.testing.assert_array_equal(measured.macs, np.array(counted.level_macs)[model.levels_of(x)])


def test_classes_do_not_change_the_weights():
    ten, five = (zoo.load("puppet_cnn_128", weights=None, num_classes=n) for n in (10, 5))
    five.set_weights(ten.get_weights())
    with pytest.raises(ValueError, match="tells 128 classes apart at most"):
        zoo.load("puppet_cnn_128", weights=None, num_classes=200)


def test_constant_images_and_bad_input():
    model = fitted()
    flat = np.zeros((2, 16, 16, 3), "float32")
    assert list(model.levels_of(flat)) == [0, 0]
    assert np.isfinite(model.predict(flat, verbose=0)).all()
    with pytest.raises(ValueError, match="pixels that are not finite"):
        model.predict(flat * np.nan, verbose=0)
    with pytest.raises(ValueError, match=r"images of shape \(n, 16, 16, 3\)"):
        model.predict(images(2, 8), verbose=0)
    with pytest.raises(ValueError, match="levels is 1 or more"):
        puppet.puppeteer(plain(), levels=0)
    with pytest.raises(ValueError, match="adapt is one of none, parameters, depth"):
        puppet.puppeteer(plain(), "width")
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="has no convolution to generate"):
        puppet.puppeteer(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(inputs))))
    with pytest.raises(ValueError, match="sides of at least 16"):
        zoo.load("puppet_cnn", weights=None, input_shape=(4, 4, 3))
    with pytest.raises(ValueError, match="calibration needs images"):
        model.calibrate(images(1)[:0])


def jax_run():
    """Runs in a fresh Python with JAX as the backend, see `test_jax`."""
    model, x = fitted(levels=2), images(12)
    assert_close(model.predict(x, verbose=0), model(x), 1e-4)
    compiled(model).fit(x, labels(12), batch_size=4, verbose=0)
    assert np.isfinite(model.evaluate(x, labels(12), verbose=0)).all()


def test_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = fitted()
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.puppet.ode.dtype_policy.name == "float32"
    compiled(model).fit(images(16), labels(16), verbose=0)
    assert np.isfinite(model.predict(images(4), verbose=0)).all()


@pytest.mark.slow
def test_jax():
    pytest.importorskip("jax", reason="jax is not installed")
    here = str(Path(__file__).parent)
    run_python(
        f"import sys; sys.path.append({here!r}); import test_puppet; test_puppet.jax_run()",
        KERAS_BACKEND="jax",
    )


def test_files_of_another_form_are_refused(tmp_path):
    fitted(horizon=3.0).save_weights(tmp_path / "m.weights.h5")
    for options, message in (
        ({}, "horizon in thousandths .3000 there, 1000 here"),
        ({"horizon": 3.0, "seed": 5}, "seed .0 there, 5 here"),
        (
            {"horizon": 3.0, "method": "rk4", "normalise_kernels": False},
            "method .0 there, 2 here.*normalise_kernels",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fitted(**options).load_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="outputs .10 there, 7 here"):
        puppet.puppeteer(plain(7), levels=4, horizon=3.0).load_weights(tmp_path / "m.weights.h5")


def test_a_depthwise_kernel_has_its_own_fan_in():
    model = puppet.puppeteer(plain(), adapt="none")
    kernels = {layer.name: np.asarray(kernel) for layer, kernel in model.puppet.kernels(0).items()}
    assert np.mean(kernels["block_depthwise"] ** 2) == pytest.approx(1 / 9, rel=0.02)
    assert np.mean(kernels["stage2_conv"] ** 2) == pytest.approx(1 / (9 * 16), rel=0.02)


def test_an_image_with_a_nan_pixel_gives_nan_logits():
    model = fitted()
    x = images(6)
    x[2, 0, 0, 0] = np.nan
    assert (
        np.isnan(np.asarray(model(x))[2]).all()
        and np.isfinite(np.asarray(model(x))[[0, 1, 3, 4, 5]]).all()
    )
