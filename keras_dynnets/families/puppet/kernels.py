"""From a state of the puppeteer's equation to the kernel of a layer."""

from typing import Any

import keras
import numpy as np
from keras import ops


def kernel_for(layer: keras.Layer, state: Any, normalise: bool) -> Any:
    """Computes the kernel of a layer from a state.

    Args:
        layer: a built `Conv2D` or `DepthwiseConv2D`, whose own kernel gives the shape.
        state: (batch, C, k, k, C), see `KernelODE`.
        normalise: see `kernel_of`.

    Returns:
        Kernels with the batch as the first axis, (batch, height, width, inputs, outputs).
    """
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return kernel_of(state, tuple(layer.kernel.shape), normalise, depthwise)


def kernel_of(
    state: Any, shape: tuple[int, ...], normalise: bool = True, depthwise: bool = False
) -> Any:
    """Computes a kernel from a state by average pooling (section 3.3), scaled to its fan-in.

    The scale differs from the paper, which uses the pooled values as they are. Here they are
    divided by the square root of the fan-in, the number of values that an output reads; with
    `normalise` the kernel of each output channel first gets a mean square of 1. Pooling averages
    away what differs between neighbouring values, far more in narrow layers than in wide ones.

    Args:
        state: (batch, C, k, k, C), see `KernelODE`.
        shape: shape of the kernel, (height, width, inputs, outputs), of which no size is larger
            than that of the state.
        normalise: whether the kernel of every output channel gets a mean square of 1.
        depthwise: whether the kernel is that of a depthwise convolution, (height, width,
            channels, multiplier), in which an output reads one channel.

    Returns:
        (batch, height, width, inputs, outputs).

    Reference: Xing and Wang, Puppet-CNN, arXiv 2411.12876v1, section 3.3.
    """
    height, width, inputs, outputs = shape
    x = _pooled(state, 1, inputs)
    x = _pooled(x, 4, outputs)
    x = _pooled(_pooled(x, 2, height), 3, width)
    x = ops.transpose(x, (0, 2, 3, 1, 4))
    read_axes = (1, 2) if depthwise else (1, 2, 3)
    if normalise:
        x = x * ops.rsqrt(ops.mean(x * x, axis=read_axes, keepdims=True) + 1e-8)
    return x / float(np.sqrt(height * width * (1 if depthwise else inputs)))


def _pooled(x: Any, axis: int, size: int) -> Any:
    """Reduces an axis of length m to `size` by adaptive average pooling.

    Bin i averages the values from floor(i m / size) to ceil((i + 1) m / size).
    """
    before = x.shape[axis]
    if size == before:
        return x
    if before % size == 0:
        return ops.mean(
            ops.reshape(x, (-1, *x.shape[1:axis], size, before // size, *x.shape[axis + 1 :])),
            axis=axis + 1,
        )
    weights = np.zeros((before, size), "float32")
    for i in range(size):
        start, end = i * before // size, -(-(i + 1) * before // size)
        weights[start:end, i] = 1 / (end - start)
    return ops.moveaxis(
        ops.tensordot(x, ops.convert_to_tensor(weights), axes=([axis], [0])), -1, axis
    )
