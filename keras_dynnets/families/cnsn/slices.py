"""A network on a part of its channels, with the weights of the whole."""

import functools
from collections.abc import Callable, Iterable, Sequence
from math import floor
from typing import Any

import keras

from keras_dynnets.core import graph
from keras_dynnets.families.cnsn.sliced import (
    Sliced,
    SlicedBatchNormalization,
    SlicedConv2D,
    SlicedDense,
)

# Layers and operations that treat every channel alike and by itself.
CHANNELWISE = (
    keras.layers.Activation,
    keras.layers.AveragePooling2D,
    keras.layers.Cropping2D,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Identity,
    keras.layers.LeakyReLU,
    keras.layers.MaxPooling2D,
    keras.layers.ReLU,
    keras.layers.Softmax,
    keras.layers.SpatialDropout2D,
    keras.layers.UpSampling2D,
    keras.layers.ZeroPadding2D,
)
# Layers and operations that combine equal channels of several inputs.
MERGING = (
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
MERGING_OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum")
WITH_FILTERS = (keras.layers.Conv2D, keras.layers.Dense)

Channels = tuple[int, ...]


class Slicer:
    """Makes calls of a network again at a width: each layer with the first of its filters.

    The layers that give the logits keep all their filters. Every batch norm gets statistics of
    its own, at full width too.

    Args:
        network: a functional model, channels last.
        width: share of the filters, in (0, 1]; their number is rounded down.
        name: suffix for the names of the layers with values of their own.
        made: the sliced convolutions and dense layers at this width, which all models of this
            width share; new ones are added.

    Attributes:
        kept: the channels that are left of each tensor that has been made again, by the id of
            the tensor in the network.
    """

    def __init__(self, network: keras.Model, width: float, name: str, made: dict[tuple, Sliced]):
        self.width = width
        self.name = name
        self.made = made
        self.own: dict[tuple, keras.Layer] = {}  # further layers of this model alone
        self.kept: dict[int, Channels] = {}
        self.last = _last_layers(network)

    def run(self, nodes: Iterable, values: dict[int, Any]) -> None:
        """Makes calls again.

        Args:
            nodes: the calls in running order.
            values: the new tensors by the ids of the old ones (see `graph.run_again`).
        """
        graph.run_again(nodes, values, self._sliced)

    def slice(
        self, kind: type[Sliced], layer: keras.Layer, reads: Channels, writes: Channels
    ) -> Sliced:
        """Gives a layer on a part of its channels, made when it is first asked for.

        Args:
            kind: class of the sliced layer.
            layer: the whole layer.
            reads: channels of its input that there are.
            writes: channels of its output that are wanted.
        """
        key = layer, reads, writes
        if key not in self.made:
            name = _numbered(f"{layer.name}_w{round(100 * self.width)}", layer, self.made)
            self.made[key] = kind(layer, reads, writes, name=name)
        return self.made[key]

    def _layer(
        self, make: Callable[[str], keras.Layer], layer: keras.Layer, reads: Channels
    ) -> Any:
        """Gives the layer of this model for all calls of `layer` on the same channels.

        Args:
            make: makes the layer, of the given name.
            layer: the layer of the whole network.
            reads: channels of its input that there are.
        """
        key = layer, reads
        if key not in self.own:
            self.own[key] = make(_numbered(f"{layer.name}_{self.name}", layer, self.own))
        return self.own[key]

    def _sliced(self, node: Any) -> Any:
        """Gives what is called in place of a node's operation, and notes the channels it gives."""
        inputs = node.arguments.keras_tensors
        reads = [self.kept.get(id(tensor), all_channels(tensor)) for tensor in inputs]
        called, kept = self._copy(node, reads)
        for tensor in node.outputs:
            self.kept[id(tensor)] = all_channels(tensor) if kept is None else tuple(kept)
        return called

    def _copy(self, node: Any, reads: list[Channels]) -> tuple[Any, Sequence[int] | None]:
        """Gives an operation on the channels `reads` of its inputs.

        Returns:
            What is called in its place, and the channels of its output; None for all of them.
        """
        operation, output = node.operation, node.outputs[0]
        inputs = node.arguments.keras_tensors
        if isinstance(operation, keras.layers.BatchNormalization) and _on_last(operation, output):
            norm = functools.partial(SlicedBatchNormalization, operation, reads[0])
            return self._layer(lambda name: norm(name=name), operation, reads[0]), reads[0]
        complete = all(r == all_channels(x) for r, x in zip(reads, inputs, strict=True))
        full = getattr(operation, "groups", 1) == 1 and _channels_last(operation)
        if type(operation) in WITH_FILTERS and full:
            writes = self._filters(operation, output.shape[-1])
            if complete and len(writes) == output.shape[-1]:
                return operation, None
            kind = SlicedDense if isinstance(operation, keras.layers.Dense) else SlicedConv2D
            return self.slice(kind, operation, reads[0], writes), writes
        if complete:
            return operation, None
        if type(operation) is keras.layers.DepthwiseConv2D and _channels_last(operation):
            times = operation.depth_multiplier
            writes = tuple(c * times + i for c in reads[0] for i in range(times))
            return self.slice(SlicedConv2D, operation, reads[0], writes), writes
        if isinstance(operation, CHANNELWISE) or graph.is_activation(operation):
            return operation, reads[0]
        if isinstance(operation, MERGING) or type(operation).__name__ in MERGING_OPERATIONS:
            if len(set(reads)) > 1:
                raise ValueError(
                    f"{_cannot(operation)}: the widths of what it merges differ; leave out widths"
                )
            return operation, reads[0]
        size = inputs[0].shape[-1]
        if isinstance(operation, keras.layers.Concatenate) and _on_last(operation, output):
            return operation, _joined(reads, [tensor.shape[-1] for tensor in inputs])
        if isinstance(operation, keras.layers.Flatten) and _channels_last(operation):
            return operation, [
                place * size + c for place in range(output.shape[-1] // size) for c in reads[0]
            ]
        if isinstance(operation, keras.layers.Reshape) and output.shape[1:] == (1, 1, size):
            shape = (1, 1, len(reads[0]))
            reshape = functools.partial(keras.layers.Reshape, shape)
            return self._layer(lambda name: reshape(name=name), operation, reads[0]), reads[0]
        raise ValueError(
            f"{_cannot(operation)}: widths are for convolutions without groups, Dense, "
            "BatchNormalization and layers that treat every channel alike; leave out widths"
        )

    def _filters(self, layer: keras.Layer, count: int) -> Channels:
        """Gives the filters of a layer that are used, of `count`.

        Raises:
            ValueError: none would be left.
        """
        if layer in self.last:
            return tuple(range(count))
        left = floor(self.width * count + 1e-9)
        if not left:
            raise ValueError(
                f"width {self.width} leaves no filters of the {count} of layer {layer.name!r}; "
                "give a larger one"
            )
        return tuple(range(left))


def _numbered(name: str, layer: keras.Layer, made: Iterable[tuple]) -> str:
    """Gives a name with a number where others were made of the layer, for other channels."""
    others = sum(of is layer for of, *_ in made)
    return f"{name}_{others + 1}" if others else name


def all_channels(tensor: keras.KerasTensor) -> Channels:
    """Gives the indices of all channels of a tensor, channels last."""
    return tuple(range(tensor.shape[-1]))


def _cannot(operation: Any) -> str:
    kind = type(operation).__name__
    return f"layer {operation.name!r}, a {kind}, does not run on a part of its channels"


def _channels_last(layer: keras.Layer) -> bool:
    return getattr(layer, "data_format", None) in (None, "channels_last")


def _on_last(layer: keras.Layer, output: keras.KerasTensor) -> bool:
    """Says whether a layer with an axis acts along the last one."""
    return layer.axis in (-1, len(output.shape) - 1)


def _joined(reads: Sequence[Channels], sizes: Sequence[int]) -> list[int]:
    """Gives the channels that are left of inputs of these sizes, joined along the channels."""
    joined, first = [], 0
    for kept, size in zip(reads, sizes, strict=True):
        joined += [first + c for c in kept]
        first += size
    return joined


def _last_layers(network: keras.Model) -> set:
    """Finds the layers whose filters are the logits: no layer that mixes channels follows them."""
    producers = {id(tensor): node for node in graph.nodes(network) for tensor in node.outputs}
    waiting, last = [id(tensor) for tensor in network.outputs], set()
    while waiting:
        node = producers[waiting.pop()]
        if isinstance(node.operation, WITH_FILTERS):
            last.add(node.operation)
        else:
            waiting += [id(tensor) for tensor in node.arguments.keras_tensors]
    return last
