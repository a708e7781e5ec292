"""Multiply-accumulates (MACs) of a network, call by call.

The convention of the whole project: one MAC is one multiplication with its addition, for one
image, in convolutions and in products of matrices, whether of features with weights or of
features with features, as in attention. Batch norm (folded at deployment), biases, activations,
pooling, residual additions and what weights alone are multiplied with count zero. FLOPs as
TensorFlow's profiler counts them are twice the MACs.

Whatever is known neither to multiply matrices nor not to is refused, and never counted as zero.
"""

import math
from collections.abc import Sequence

import keras

from keras_dynnets.core import keras_private, symbolic
from keras_dynnets.core.layer_kinds import BIASED, DEPTHWISE, FREE, PLAIN
from keras_dynnets.core.operation_costs import OpenSize, operation_macs, size
from keras_dynnets.core.symbolic import Call


class UnknownCost(ValueError):
    """The cost of a layer or of an operation is not known."""


class Costed:
    """A layer that states its own cost, for `layer_macs` and `count`.

    A layer that is made of other layers overrides `inner_calls`. A layer with its own arithmetic
    overrides `macs`. A layer that computes what a plain layer computes overrides `stand_in`. A
    layer that overrides none of them is counted by what its `call` computes, as any other layer.

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
        if calls := self.inner_calls(input_shape):
            return sum(layer_macs(*call) for call in calls)
        followed = symbolic.single_call(
            self, input_shape, lambda layer: layer is not self and _whole(layer)
        )
        return call_macs(followed)

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


def calls(network: keras.Model) -> list[Call]:
    """Lists the calls of a functional model in running order, to be counted.

    Models that the network holds as layers are entered.

    Args:
        network: a functional model.
    """
    return [inner for call in own_calls(network) for inner in entered(call)]


def own_calls(network: keras.Model) -> list[Call]:
    """Lists the calls of a functional model in running order, those inside other models left out.

    Args:
        network: a functional model.
    """
    return symbolic.follow(network, _whole)


def entered(call: Call) -> list[Call]:
    """Lists the calls that a call of a model is made of; a list of any other call alone.

    Args:
        call: one of `own_calls(network)`.
    """
    if not call.is_graph:
        return [call]
    return [inner for step in call.inside or () for inner in entered(step)]


def _whole(layer: keras.Layer) -> bool:
    """Says whether a layer is counted without looking into what it is made of."""
    return isinstance(layer, Costed) or keras_private.computes_as(layer, (*PLAIN, *FREE))


def call_macs(call: Call) -> int:
    """Counts the MACs of one call of a layer or of an operation of `keras.ops` for one image.

    Args:
        call: one of `calls(network)`.

    Raises:
        ValueError: a size that the cost depends on is open (`None`).
        UnknownCost: something is computed that cannot be counted.
    """
    return _batch_macs(call, call) // call.images


def layer_macs(layer: keras.Layer, input_shape: tuple) -> int:
    """Counts the MACs of one Keras layer for one image.

    Args:
        layer: a built Keras layer that takes one tensor, or a `Costed` layer.
        input_shape: its input shape with the batch first, as in `build`.

    Returns:
        MACs; 0 for layers without convolutions or products.

    Raises:
        ValueError: see `call_macs`.
    """
    return call_macs(symbolic.single_call(layer, input_shape, _whole))


def model_macs(model: keras.Model) -> int:
    """Counts the MACs of a functional Keras model for an image that skips nothing."""
    return sum(map(call_macs, calls(model)))


def _batch_macs(call: Call, outer: Call) -> int:
    """Counts the MACs of a call for its whole batch; `outer` is the call that users know."""
    try:
        macs = _macs_if_known(call, outer)
    except OpenSize as error:
        raise ValueError(
            f"the cost of {_described(call, outer)}, depends on its input size: {error}"
        ) from None
    if macs is None:
        reason = f" ({call.problem})" if call.problem else ""
        raise UnknownCost(
            f"the cost of {_described(call, outer)}, is not known{reason}. Known are the costs of "
            "most layers of Keras and operations of keras.ops, and of layers made of these; derive "
            "any other from keras_dynnets.core.cost.Costed and define macs(input_shape)"
        )
    return macs


def _macs_if_known(call: Call, outer: Call) -> int | None:
    layer, shape = call.operation, call.input_shape
    if call.inside is not None:
        return sum(_batch_macs(inner, outer) * size([inner.times]) for inner in call.inside)
    if call.problem:
        return None
    if not isinstance(layer, keras.Layer):
        return operation_macs(layer, call.args, call.kwargs, call.outputs)
    if isinstance(layer, Costed):
        plain = layer.stand_in()
        macs = layer.macs(shape) if plain is None else layer_macs(_usable(plain, shape), shape)
        return macs * size(shape[:1])
    if isinstance(layer, keras.layers.Dense):
        return size(shape[:-1]) * dense_macs(size(shape[-1:]), layer.units)
    if not isinstance(layer, PLAIN):
        return 0
    output = call.outputs[0].shape
    channels = shape[-1] if layer.data_format == "channels_last" else shape[1]
    groups = channels if isinstance(layer, DEPTHWISE) else layer.groups
    return size(output) * size(layer.kernel_size) * channels // groups


def _usable(plain: keras.Layer, input_shape: tuple) -> keras.Layer:
    """Builds a layer that is counted by following its `call`."""
    if not plain.built and not _whole(plain):
        plain.build(input_shape)
    return plain


def _described(call: Call, outer: Call) -> str:
    def named(some: Call) -> str:
        kind = "layer" if isinstance(some.operation, keras.Layer) else "operation"
        return f"{kind} {some.operation.name!r}, a {type(some.operation).__name__}"

    return named(call) if call is outer else f"{named(call)} inside {named(outer)}"


def call_flops(call: Call) -> int:
    """Counts the FLOPs of one call for one image.

    A MAC counts as two FLOPs, a bias that is added to an output value of a convolution as two,
    and a value that batch norm reads as four. The convention is derived from the tables of arXiv
    2205.01508.

    Args:
        call: one of `calls(network)`.
    """
    return 2 * (call_macs(call) + _bias_and_norm(call))


def layer_flops(layer: keras.Layer, input_shape: tuple) -> int:
    """Counts the FLOPs of one Keras layer for one image as `call_flops` does.

    Args:
        layer: see `layer_macs`.
        input_shape: its input shape with the batch first, as in `build`.
    """
    return call_flops(symbolic.single_call(layer, input_shape, _whole))


def call_operations(call: Call) -> int:
    """Counts the operations of one call for one image.

    One operation is counted for a MAC, for a bias that is added to an output value of a
    convolution, for a value that ReLU reads and for a value that max-pooling reads. Two are
    counted for a value that batch norm reads. The convention is derived from the figures of doi
    10.2991/jrnal.k.210521.012, which calls the sum MACs.

    Args:
        call: one of `calls(network)`.
    """
    more = _bias_and_norm(call)
    if isinstance(call.operation, (keras.layers.ReLU, keras.layers.MaxPooling2D)):
        more = size(call.input_shape) // call.images
    return call_macs(call) + more


def layer_operations(layer: keras.Layer, input_shape: tuple) -> int:
    """Counts the operations of one Keras layer for one image as `call_operations` does.

    Args:
        layer: see `layer_macs`.
        input_shape: its input shape with the batch first, as in `build`.
    """
    return call_operations(symbolic.single_call(layer, input_shape, _whole))


def _bias_and_norm(call: Call) -> int:
    """Counts the additions of biases and the two operations of batch norm on each value."""
    layer, shape = call.operation, call.input_shape
    if isinstance(layer, Costed):
        plain = layer.stand_in()
        made_of = layer.inner_calls(shape) if plain is None else [(plain, shape)]
        return sum(_bias_and_norm(symbolic.single_call(*each, _whole)) for each in made_of)
    if isinstance(layer, BIASED) and layer.use_bias:
        return size(call.outputs[0].shape) // call.images
    if isinstance(layer, keras.layers.BatchNormalization):
        return 2 * size(shape) // call.images
    return sum(_bias_and_norm(inner) * (inner.times or 0) for inner in call.inside or ())
