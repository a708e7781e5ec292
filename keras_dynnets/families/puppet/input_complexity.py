"""The complexity of an image: one number from the entropies of its pixels and its spectrum."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core.images import array_or_files

BINS = 256
BASE = 16  # the number of a bin is written as two digits to this base
# The smallest probability. Half precision can represent it, and a value that is so rare occurs
# once in an image of ten million values.
SMALLEST = 1e-7


@keras.saving.register_keras_serializable(package="keras_dynnets")
class InputComplexity(keras.layers.Layer):
    """Computes the complexity of images: the mean entropy of their pixels and of their spectra.

    `H = (E(X) + E(|F(X)|)) / 2` with `E(v) = -sum p log2(p) / 8` (equations 8 and 9). F is the
    two-dimensional discrete Fourier transform of each channel. p is the share of the values v
    that fall into each of 256 bins; the bins are 1 wide, their centres are 0, 1, ..., 255, and
    the outer two also count all values beyond them.

    The paper does not say which bins, base and scale it uses. The base of 2, the division by 8,
    by which H lies in [0, 1], and the division of the Fourier transform by the square root of the
    number of pixels, by which magnitudes have the order of pixel values, are choices of this
    project.

    The transform is computed by products with constant matrices, and the histogram by a product
    of one-hot digits, so that every exporter writes the layer in built-in operations. The layer
    has no weights and passes no gradient. The function `complexity` computes the same from
    arrays, faster.

    Call arguments:
        inputs: images in [0, 255], (batch, height, width, channels).

    Output shape: (batch,), float32 in [0, 1]. A black image gives 0, an image with a NaN pixel
    gives NaN.

    Example:
        >>> float(InputComplexity()(keras.ops.zeros((1, 32, 32, 3)))[0])
        0.0

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, section 3.4, equations 8 and 9.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs: Any) -> Any:
        images = ops.transpose(ops.cast(inputs, "float32"), (0, 3, 1, 2))
        magnitudes, multiplicities = _magnitudes(images)
        pixels = _entropy(images, np.ones(images.shape[1:]))
        spectrum = _entropy(magnitudes, np.broadcast_to(multiplicities, magnitudes.shape[1:]))
        return ops.stop_gradient(0.5 * (pixels + spectrum))

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((inputs.shape[0],), dtype="float32")


def _magnitudes(images: Any) -> tuple[Any, np.ndarray]:
    """Computes the Fourier magnitudes of images (batch, channels, height, width).

    The spectrum of real values is symmetric, so that half of its columns have all magnitudes.

    Returns:
        The magnitudes (batch, channels, height, kept columns), and how often each kept column
        occurs in the whole spectrum, (kept columns,).
    """
    height, width = images.shape[2:]
    kept = width // 2 + 1
    (ch, sh), (cw, sw) = _fourier(height, height), _fourier(width, kept)
    cosines, sines = ops.matmul(ch, images), ops.matmul(sh, images)
    real = ops.matmul(cosines, cw) - ops.matmul(sines, sw)
    imaginary = ops.matmul(cosines, sw) + ops.matmul(sines, cw)
    columns = np.arange(kept)
    return ops.sqrt(real * real + imaginary * imaginary), 2.0 - np.isin(columns, (0, width / 2))


def _fourier(side: int, kept: int) -> list[Any]:
    """Gives the cosines and sines of the unitary Fourier transform, each (side, kept)."""
    angles = 2 * np.pi / side * (np.outer(np.arange(side), np.arange(kept)) % side)
    return [
        ops.convert_to_tensor((f(angles) / np.sqrt(side)).astype("float32"))
        for f in (np.cos, np.sin)
    ]


def _entropy(values: Any, multiplicities: np.ndarray) -> Any:
    """Computes the entropy of the values of each image, divided by 8 bits.

    Args:
        values: (batch, ...).
        multiplicities: how often each value counts, (...).

    Returns:
        (batch,) in [0, 1].
    """
    values = ops.reshape(values, (-1, multiplicities.size, 1))
    bins = ops.clip(ops.floor(values + 0.5), 0, BINS - 1)
    high = ops.floor(bins / BASE)
    digits = ops.convert_to_tensor(np.arange(BASE, dtype="float32"))
    high, low = (ops.cast(ops.equal(d, digits), "float32") for d in (high, bins - BASE * high))
    if (multiplicities != 1).any():
        high = high * ops.convert_to_tensor(multiplicities.reshape(-1, 1).astype("float32"))
    p = ops.matmul(ops.transpose(high, (0, 2, 1)), low) / float(multiplicities.sum())
    entropy = -ops.sum(p * ops.log(ops.maximum(p, SMALLEST)), axis=(1, 2)) / np.log(BINS)
    # NaN equals no digit and would be counted nowhere; the sum makes the entropy NaN.
    return entropy + 0.0 * ops.sum(values, axis=(1, 2))


def complexity(images: Any, chunk: int = 256) -> np.ndarray:
    """Computes the complexity of images in an array, as `InputComplexity` defines it.

    Args:
        images: (n, height, width, channels) in [0, 255], uint8 or float; an array or images in
            files.
        chunk: number of images that are computed at once.

    Returns:
        (n,) float32 in [0, 1].

    Raises:
        ValueError: the images have another shape, or a pixel is NaN or infinite.

    Example:
        >>> complexity(np.zeros((1, 32, 32, 3), "uint8"))
        array([0.], dtype=float32)

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, section 3.4, equations 8 and 9.
    """
    images = array_or_files(images)
    if images.ndim != 4:
        raise ValueError(
            f"images are (n, height, width, channels), not {images.shape}; give a single image as "
            "image[None]"
        )
    found = np.zeros(len(images), "float32")
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].astype("float32")
        if not np.isfinite(part).all():
            bad = np.flatnonzero(~np.isfinite(part).all(axis=(1, 2, 3)))[0] + start
            raise ValueError(
                f"image {bad} has pixels that are not finite numbers; images lie in [0, 255], so "
                "leave this image out or repair it"
            )
        counts = _counts(part), _spectral_counts(part)
        found[start : start + chunk] = sum(_entropies(c) for c in counts) / 2
    return found


def _counts(values: np.ndarray) -> np.ndarray:
    """Counts the values of each image by bin, (n, 256)."""
    n = len(values)
    bins = (np.clip(values, 0, BINS - 1) + 0.5).reshape(n, -1).astype("int64")
    bins += BINS * np.arange(n)[:, None]
    return np.bincount(bins.ravel(), minlength=n * BINS).reshape(n, BINS)


def _spectral_counts(images: np.ndarray) -> np.ndarray:
    """Counts the Fourier magnitudes of each image by bin, (n, 256).

    The transform gives half of the columns; those with a mirror image in the other half count
    twice.
    """
    width = images.shape[2]
    spectrum = np.fft.rfft(images, axis=2)
    magnitudes = np.abs(np.fft.fft(spectrum, axis=1)) / np.float32(np.sqrt(images[0, :, :, 0].size))
    unmirrored = [0, width // 2] if width % 2 == 0 else [0]
    return 2 * _counts(magnitudes) - _counts(magnitudes[:, :, unmirrored])


def _entropies(counts: np.ndarray) -> np.ndarray:
    """Computes the entropy of each histogram, divided by 8 bits."""
    p = counts / counts.sum(1, keepdims=True)
    return -(p * np.log(np.maximum(p, SMALLEST))).sum(1) / np.log(BINS)
