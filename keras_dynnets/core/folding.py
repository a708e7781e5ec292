"""Batch norm folded into the convolution before it."""

from typing import Any

import keras
import numpy as np

from keras_dynnets.core.layer_kinds import CONVOLUTIONS


def can_fold(convolution: Any, following: Any) -> bool:
    """Says whether a batch norm can be folded into the convolution whose result it reads."""
    return (
        isinstance(convolution, CONVOLUTIONS)
        and isinstance(following, keras.layers.BatchNormalization)
        and following.axis in (-1, 3)
        and convolution.data_format == "channels_last"
        and convolution.activation is keras.activations.linear
    )


def scale_and_shift(
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
    gamma: Any = 1.0,
    beta: Any = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Gives batch norm as `scale * x + shift`, two arrays (channels,)."""
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def transform_of(norm: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Gives a batch-norm layer in inference as `scale * x + shift`, two arrays (channels,)."""
    return scale_and_shift(
        np.asarray(norm.moving_mean),
        np.asarray(norm.moving_variance),
        norm.epsilon,
        np.asarray(norm.gamma) if norm.scale else 1.0,
        np.asarray(norm.beta) if norm.center else 0.0,
    )


def for_kernel(scale: np.ndarray, kernel_shape: tuple) -> np.ndarray:
    """Shapes the scale of each output channel so that a kernel can be multiplied by it.

    The outputs of a depthwise kernel, (height, width, channels, multiplier), are its last two axes.
    """
    return scale if kernel_shape[3] == len(scale) else scale.reshape(kernel_shape[2:])
