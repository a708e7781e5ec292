"""How complex an image is, one number."""

import keras
import numpy as np
from keras import ops

BINS = 256
DIGIT = 16  # a bin's number has two digits to this base
LEAST = (
    1e-7  # share of a value: half precision has it, an image with a value as rare has ten million
)


@keras.saving.register_keras_serializable(package="keras_dynnets")
class InputComplexity(keras.layers.Layer):
    """Complexity of images: half the entropy of their pixels, half that of their Fourier magnitudes (Puppet-CNN, section 3.3).

    `H = (E(X) + E(|F(X)|)) / 2`, `E(v) = -sum p log2 p / 8` with p the share of the values in each of 256 bins
    of width 1 round 0, 1, ..., 255; further values count in the last one. F is the two-dimensional discrete Fourier
    transform of each channel, divided by the root of the number of pixels, so that its magnitudes are of the
    order of the pixels. (The paper leaves bins, base and scale open.)

    The transform is a product with constant matrices and the histogram one of two one-hot digits, so that
    the layer exports to builtin operations everywhere. It has no weights and passes no gradient on. `complexity` is
    the same for arrays, and faster.

    Call arguments:
        inputs: images in [0, 255], (batch, height, width, channels).

    Output shape: (batch,), float32 in [0, 1]. 0 for an image of one black; not a number where a pixel is none.

    Example:
        >>> InputComplexity()(keras.ops.zeros((1, 32, 32, 3)))
        [0.]

    Reference: Ma et al., Puppet-CNN, arXiv 2411.12876.
    """

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, inputs):
        images = ops.transpose(ops.cast(inputs, "float32"), (0, 3, 1, 2))
        magnitudes, times = _magnitudes(images)
        pixels = _entropy(images, np.ones(images.shape[1:]))
        return ops.stop_gradient(
            0.5 * (pixels + _entropy(magnitudes, np.broadcast_to(times, magnitudes.shape[1:])))
        )

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((inputs.shape[0],), dtype="float32")


def _magnitudes(images):
    """Fourier magnitudes of (batch, channels, height, width): the half of the plane that has them all, and how often each
    stands in the whole.
    """
    height, width = images.shape[2:]
    half = width // 2 + 1
    (ch, sh), (cw, sw) = _fourier(height, height), _fourier(width, half)
    cosines, sines = ops.matmul(ch, images), ops.matmul(sh, images)
    real = ops.matmul(cosines, cw) - ops.matmul(sines, sw)
    imaginary = ops.matmul(cosines, sw) + ops.matmul(sines, cw)
    columns = np.arange(half)
    return ops.sqrt(real * real + imaginary * imaginary), 2.0 - np.isin(columns, (0, width / 2))


def _fourier(side, kept):
    """Cosines and sines of the unitary transform, (side, kept)."""
    angles = 2 * np.pi / side * (np.outer(np.arange(side), np.arange(kept)) % side)
    return [
        ops.convert_to_tensor((f(angles) / np.sqrt(side)).astype("float32"))
        for f in (np.cos, np.sin)
    ]


def _entropy(values, times):
    """Of (batch, ...) values that each stand for so many, an array (...)."""
    values = ops.reshape(values, (-1, times.size, 1))
    bins = ops.clip(ops.floor(values + 0.5), 0, BINS - 1)
    high = ops.floor(bins / DIGIT)
    digits = ops.convert_to_tensor(np.arange(DIGIT, dtype="float32"))
    high, low = (ops.cast(ops.equal(d, digits), "float32") for d in (high, bins - DIGIT * high))
    if (times != 1).any():
        high = high * ops.convert_to_tensor(times.reshape(-1, 1).astype("float32"))
    p = ops.matmul(ops.transpose(high, (0, 2, 1)), low) / float(times.sum())
    entropy = -ops.sum(p * ops.log(ops.maximum(p, LEAST)), axis=(1, 2)) / np.log(BINS)
    # Comparisons would hide what is not a number.
    return entropy + 0.0 * ops.sum(values, axis=(1, 2))


def complexity(images, chunk=256):
    """The complexity of images in arrays (see `InputComplexity`).

    Args:
        images: (n, height, width, channels) in [0, 255], uint8 or float. chunk: images at a time.

    Returns:
        (n,) float32 in [0, 1].

    Raises:
        ValueError: another shape, or pixels that are no number.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"images are (n, height, width, channels), not {images.shape}; give a single one as image[None]"
        )
    found = np.zeros(len(images), "float32")
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].astype("float32")
        if not np.isfinite(part).all():
            bad = np.flatnonzero(~np.isfinite(part).all(axis=(1, 2, 3)))[0] + start
            raise ValueError(
                f"image {bad} has pixels that are not finite numbers; images are in [0, 255]"
            )
        counts = _counts(part), _spectral_counts(part)
        found[start : start + chunk] = sum(_entropies(c) for c in counts) / 2
    return found


def _counts(values):
    """Histograms of each image's values, (n, 256)."""
    n = len(values)
    bins = (np.clip(values, 0, BINS - 1) + 0.5).reshape(n, -1).astype("int64")
    bins += BINS * np.arange(n)[:, None]
    return np.bincount(bins.ravel(), minlength=n * BINS).reshape(n, BINS)


def _spectral_counts(images):
    """Those of the Fourier magnitudes: half of the plane, in which all that has a mirror image counts twice."""
    width = images.shape[2]
    spectrum = np.fft.rfft(images, axis=2)
    magnitudes = np.abs(np.fft.fft(spectrum, axis=1)) / np.float32(np.sqrt(images[0, :, :, 0].size))
    alone = [0, width // 2] if width % 2 == 0 else [0]
    return 2 * _counts(magnitudes) - _counts(magnitudes[:, :, alone])


def _entropies(counts):
    p = counts / counts.sum(1, keepdims=True)
    return -(p * np.log(np.maximum(p, LEAST))).sum(1) / np.log(BINS)
