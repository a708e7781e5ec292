import keras
import numpy as np
import pytest
from helpers import copy_by_config, images

from keras_dynnets.families.puppet.input_complexity import complexity
from keras_dynnets.layers import InputComplexity


def entropy(values):
    """Computes the entropy of a histogram by NumPy's own functions, divided by 8 bits."""
    counts, _ = np.histogram(np.minimum(values, 255.4), bins=np.arange(257) - 0.5)
    p = counts[counts > 0] / values.size
    return -(p * np.log2(p)).sum() / 8


def test_is_the_mean_entropy_of_pixels_and_spectrum():
    x = images(5, size=16)
    spectrum = np.abs(np.fft.fft2(x, axes=(1, 2))) / 16
    wanted = [0.5 * (entropy(a) + entropy(b)) for a, b in zip(x, spectrum, strict=True)]
    np.testing.assert_allclose(complexity(x), wanted, atol=1e-6)
    np.testing.assert_allclose(
        InputComplexity()(x), wanted, atol=2e-4
    )  # for a magnitude on the border of two bins


@pytest.mark.parametrize("shape", [(16, 16, 3), (15, 9, 1), (64, 32, 3)])
def test_layer_and_arrays_agree(shape):
    x = np.random.default_rng(1).integers(0, 256, (4, *shape)).astype("uint8")
    np.testing.assert_allclose(InputComplexity()(x), complexity(x, chunk=3), atol=5e-4)


def test_flat_images_have_little_and_noise_has_much():
    black, grey = np.zeros((1, 32, 32, 3)), np.full((1, 32, 32, 3), 100.0)
    noise = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3))
    assert complexity(black)[0] == 0 and InputComplexity()(black)[0] == 0
    assert 0 < complexity(grey)[0] < 0.01
    assert complexity(noise)[0] > 0.8


def test_batch_equals_singles_and_no_gradient():
    x = images(3)
    layer = InputComplexity()
    singles = np.concatenate([layer(x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(layer(x), singles, atol=1e-6)
    assert layer.weights == [] and layer.compute_output_spec(
        keras.KerasTensor((4, 8, 8, 3))
    ).shape == (4,)
    assert copy_by_config(layer).dtype == "float32"


def test_pixels_that_are_no_numbers():
    x = images(3)
    x[1, 2, 3, 0] = np.nan
    with pytest.raises(ValueError, match="image 1 has pixels that are not finite"):
        complexity(x)
    assert np.isnan(np.asarray(InputComplexity()(x))[1]) and np.isfinite(
        np.asarray(InputComplexity()(x))[0]
    )
    with pytest.raises(ValueError, match=r"images are \(n, height, width, channels\)"):
        complexity(x[0])
