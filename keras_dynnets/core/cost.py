"""Multiply-accumulates (MACs) of one operation.

The convention of the whole project: one MAC is one multiplication with its addition, for one
image, in convolutions and dense layers only. Batch norm (folded at deployment), biases,
activations, pooling and residual additions count zero. FLOPs as TensorFlow's profiler counts
them are twice the MACs.
"""

import math
from collections.abc import Sequence

import keras

from keras_dynnets.core import graph

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


class Costed:
    """A layer that states its own cost, for `layer_macs` and `count`.

    A layer that is made of other layers overrides `inner_calls`. A layer with its own arithmetic
    overrides `macs`. A layer that computes what a plain layer computes overrides `stand_in`.

    Example:
        >>> class Twice(Costed, keras.layers.Layer):
        ...     def inner_calls(self, input_shape):
        ...         return [(self.conv, input_shape)] * 2
    """

    def inner_calls(self, input_shape: tuple) -> list[tuple[keras.Layer, tuple]]:
        """Lists the layers that this one calls, each with the shape that it is called on.

        Args:
            input_shape: shape of the input with the batch first, as in `build`.
        """
        return []

    def macs(self, input_shape: tuple) -> int:
        """Counts the MACs for one image.

        Args:
            input_shape: shape of the input with the batch first, as in `build`.
        """
        return sum(layer_macs(*call) for call in self.inner_calls(input_shape))

    def optional_macs(self, input_shape: tuple) -> tuple[int, ...]:
        """Counts the MACs of each part that an image can skip.

        Args:
            input_shape: shape of the input with the batch first, as in `build`.

        Returns:
            MACs of the parts; empty if an image can skip nothing.
        """
        return ()

    def stand_in(self) -> keras.Layer | None:
        """Gives a plain layer that costs the same; None where there is no such layer."""
        return None

    def used_params(self) -> int | None:
        """Counts the values that this layer uses of another layer's; None where it has its own."""
        return None


def conv_macs(
    output_shape: Sequence[int], kernel_size: Sequence[int], in_channels: int, groups: int = 1
) -> int:
    """Counts the MACs of a convolution.

    Args:
        output_shape: `(height, width, out_channels)` of its output.
        kernel_size: `(height, width)` of the kernel.
        in_channels: channels of its input.
        groups: number of groups; a depthwise convolution has `in_channels`.
    """
    return math.prod(output_shape) * math.prod(kernel_size) * in_channels // groups


def dense_macs(in_features: int, out_features: int) -> int:
    """Counts the MACs of a dense layer on one feature vector."""
    return in_features * out_features


def layer_macs(layer: keras.Layer, input_shape: tuple) -> int:
    """Counts the MACs of one Keras layer for one image.

    Args:
        layer: a built Keras layer, a `Sequential` of such layers, or a `Costed` layer.
        input_shape: its input shape with the batch first, as in `build`.

    Returns:
        MACs; 0 for layers without convolutions or products.

    Raises:
        ValueError: a size that the cost depends on is open (`None`), or the layer has kernels of
            a kind that cannot be counted.
    """
    if isinstance(layer, Costed):
        plain = layer.stand_in()
        return layer.macs(input_shape) if plain is None else layer_macs(plain, input_shape)
    if isinstance(layer, keras.Sequential):
        return sum(layer_macs(*call) for call in inner_calls(layer, input_shape))
    if isinstance(layer, keras.layers.Dense):
        return math.prod(input_shape[1:-1]) * dense_macs(input_shape[-1], layer.units)
    if not isinstance(layer, CONVOLUTIONS):
        has_kernel = any(len(w.shape) > 1 for w in layer.weights)
        if has_kernel and not isinstance(layer, keras.layers.PReLU):
            raise ValueError(
                f"the cost of layer {layer.name!r}, a {type(layer).__name__}, is not known: costs "
                "are known of Dense, Conv2D, DepthwiseConv2D and the layers of this library; "
                "derive yours from keras_dynnets.core.cost.Costed and define macs(input_shape)"
            )
        return 0
    output_shape = layer.compute_output_shape(input_shape)[1:]
    if None in output_shape:
        raise ValueError(
            f"the cost of layer {layer.name!r} depends on its input size, and that is "
            f"{input_shape}: give the model a fixed input_shape"
        )
    channels = input_shape[-1] if layer.data_format == "channels_last" else input_shape[1]
    groups = channels if isinstance(layer, keras.layers.DepthwiseConv2D) else layer.groups
    return conv_macs(output_shape, layer.kernel_size, channels, groups)


def layer_flops(layer: keras.Layer, input_shape: tuple) -> int:
    """Counts the FLOPs of one Keras layer for one image.

    A MAC counts as two FLOPs, a bias that is added to an output value of a convolution as two,
    and a value that batch norm reads as four. The convention is derived from the tables of arXiv
    2205.01508.

    Args:
        layer: see `layer_macs`.
        input_shape: its input shape with the batch first, as in `build`.
    """
    if calls := inner_calls(layer, input_shape):
        return sum(layer_flops(*call) for call in calls)
    return 2 * (layer_macs(layer, input_shape) + _bias_and_norm(layer, input_shape))


def layer_operations(layer: keras.Layer, input_shape: tuple) -> int:
    """Counts the operations of one Keras layer for one image.

    One operation is counted for a MAC, for a bias that is added to an output value of a
    convolution, for a value that ReLU reads and for a value that max-pooling reads. Two are
    counted for a value that batch norm reads. The convention is derived from the figures of doi
    10.2991/jrnal.k.210521.012, which calls the sum MACs.

    Args:
        layer: see `layer_macs`.
        input_shape: its input shape with the batch first, as in `build`.
    """
    more = _bias_and_norm(layer, input_shape)
    if isinstance(layer, (keras.layers.ReLU, keras.layers.MaxPooling2D)):
        more = math.prod(input_shape[1:])
    return layer_macs(layer, input_shape) + more


def _bias_and_norm(layer: keras.Layer, input_shape: tuple) -> int:
    """Counts the additions of biases and the two operations of batch norm on each value."""
    layer = (isinstance(layer, Costed) and layer.stand_in()) or layer
    if isinstance(layer, CONVOLUTIONS) and layer.use_bias:
        return math.prod(layer.compute_output_shape(input_shape)[1:])
    if isinstance(layer, keras.layers.BatchNormalization):
        return 2 * math.prod(input_shape[1:])
    return 0


def inner_calls(layer: keras.Layer, input_shape: tuple) -> list[tuple[keras.Layer, tuple]]:
    """Lists the layers that a layer is made of, each with the shape that it is called on.

    Args:
        layer: any Keras layer.
        input_shape: its input shape with the batch first, as in `build`.

    Returns:
        A list, empty for a layer that is not made of others.
    """
    if isinstance(layer, Costed):
        return list(layer.inner_calls(input_shape))
    calls = []
    if isinstance(layer, keras.Sequential):
        for inner in layer.layers:
            calls.append((inner, input_shape))
            input_shape = inner.compute_output_shape(input_shape)
    return calls


def model_macs(model: keras.Model) -> int:
    """Counts the MACs of a functional Keras model for an image that skips nothing."""
    return sum(layer_macs(*call) for call in graph.calls(model))
