"""Multiply-accumulates (MACs) of one operation.

The convention of the whole project: one MAC is one multiplication with its
addition, per image, in convolutions and dense layers only. Batch norm (folded
at deployment), biases, activations, pooling and residual additions count zero.
FLOPs in the sense of TensorFlow's profiler are twice the MACs.
"""

import math

import keras

from keras_dynnets import graph

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def conv_macs(output_shape, kernel_size, in_channels, groups=1):
    """MACs of a convolution.

    Args:
        output_shape: `(height, width, out_channels)` of its output.
        kernel_size: `(height, width)` of the kernel.
        in_channels: channels of its input.
        groups: number of groups; a depthwise convolution has `in_channels`.
    """
    return math.prod(output_shape) * math.prod(kernel_size) * in_channels // groups


def dense_macs(in_features, out_features):
    """MACs of a dense layer on one feature vector."""
    return in_features * out_features


def layer_macs(layer, input_shape):
    """MACs of one Keras layer for one image.

    A layer that is made of others says its own cost: it has a method
    `macs(input_shape)`. Layers without convolutions or products cost zero.

    Args:
        layer: a built Keras layer (or a `Sequential` of such layers).
        input_shape: its input shape with the batch first, as in `build`.

    Raises:
        ValueError: a size that the cost depends on is unknown (`None`), or a layer with kernels of another kind.
    """
    layer = _plain(layer)
    if hasattr(layer, "macs"):
        return layer.macs(input_shape)
    if isinstance(layer, keras.Sequential):
        return sum(layer_macs(*call) for call in inner_calls(layer, input_shape))
    if isinstance(layer, keras.layers.Dense):
        return math.prod(input_shape[1:-1]) * dense_macs(input_shape[-1], layer.units)
    if not isinstance(layer, CONVOLUTIONS):
        if any(len(w.shape) > 1 for w in layer.weights) and not isinstance(layer, keras.layers.PReLU):
            raise ValueError(
                f"the cost of layer {layer.name!r}, a {type(layer).__name__}, is not known: costs are those of Dense, "
                "Conv2D, DepthwiseConv2D and the layers of this library; give yours a method macs(input_shape)"
            )
        return 0
    output_shape = layer.compute_output_shape(input_shape)[1:]
    if None in output_shape:
        raise ValueError(
            f"the cost of layer {layer.name!r} depends on its input size, and that is {input_shape}: "
            "give the model a fixed input_shape"
        )
    channels = input_shape[-1] if layer.data_format == "channels_last" else input_shape[1]
    groups = channels if isinstance(layer, keras.layers.DepthwiseConv2D) else layer.groups
    return conv_macs(output_shape, layer.kernel_size, channels, groups)


def layer_flops(layer, input_shape):
    """FLOPs of one Keras layer for one image, in the convention of TissueNet's tables.

    Two for a MAC, for a bias added to the output of a convolution and for each of the two
    operations of batch norm on a value (derived from the tables of arXiv 2205.01508).
    """
    if calls := inner_calls(layer, input_shape):
        return sum(layer_flops(*call) for call in calls)
    layer = _plain(layer)
    more = 0
    if isinstance(layer, CONVOLUTIONS) and layer.use_bias:
        more = math.prod(layer.compute_output_shape(input_shape)[1:])
    elif isinstance(layer, keras.layers.BatchNormalization):
        more = 2 * math.prod(input_shape[1:])
    return 2 * (layer_macs(layer, input_shape) + more)


def layer_operations(layer, input_shape):
    """Operations of one Keras layer for one image, in the convention of CNSN's tables, which they call MACs.

    One for a MAC, for a bias added to the output of a convolution, for a ReLU and for a value that
    max-pooling reads; two for batch norm on a value (derived from the paper's three figures, doi 10.2991/jrnal.k.210521.012).
    """
    more = 0
    if isinstance(layer, CONVOLUTIONS) and layer.use_bias:
        more = math.prod(layer.compute_output_shape(input_shape)[1:])
    elif isinstance(layer, keras.layers.BatchNormalization):
        more = 2 * math.prod(input_shape[1:])
    elif isinstance(layer, (keras.layers.ReLU, keras.layers.MaxPooling2D)):
        more = math.prod(input_shape[1:])
    return layer_macs(layer, input_shape) + more


def inner_calls(layer, input_shape):
    """The layers that a layer is made of, each with the shape it is called on; empty if it is one piece.

    A layer of ours that is made of others says so by a method `calls(input_shape)`.
    """
    if hasattr(layer, "calls"):
        return list(layer.calls(input_shape))
    calls = []
    if isinstance(layer, keras.Sequential):
        for inner in layer.layers:
            calls.append((inner, input_shape))
            input_shape = inner.compute_output_shape(input_shape)
    return calls


def _plain(layer):
    """What a layer of ours that uses a part of another's weights amounts to; any other, itself."""
    return layer.plain() if hasattr(layer, "plain") else layer


def model_macs(model):
    """MACs of a functional Keras model for one image, every conditional part running."""
    return sum(layer_macs(*call) for call in graph.calls(model))
