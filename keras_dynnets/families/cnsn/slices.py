"""A network on a part of its channels, with the weights of the whole."""

from math import floor

import keras

from keras_dynnets.core import graph
from keras_dynnets.families.cnsn.sliced import (
    SlicedBatchNormalization,
    SlicedConv2D,
    SlicedDense,
)

# Layers that treat every channel alike and by itself.
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
MERGING = (
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Maximum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
OPERATIONS = (
    "Relu",
    "Relu6",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Gelu",
    "Silu",
    "HardSilu",
    "HardSigmoid",
    "Tanh",
    "Sigmoid",
)
MERGING_OPERATIONS = ("Add", "Subtract", "Multiply", "Maximum")
SPLITTING = (keras.layers.Conv2D, keras.layers.Dense)


class Slicer:
    """Runs calls of a network again at a width: every layer with the first so many of its filters.

    The layers that give the logits keep all of theirs. Batch norm gets statistics of its own, at full width too.

    Args:
        network: a functional model, channels last.
        width: share of the filters, in (0, 1]; their number is rounded down.
        name: put behind the names of the layers with values of their own.
        made: slices of convolutions and dense layers at this width, which all models of it share; taken up.

    Attributes:
        kept: for the id of every tensor of the network that has been made again, which of its channels are there.
    """

    def __init__(self, network, width, name, made):
        self.width = width
        self.name = name
        self.made = made
        self.kept = {}
        self.last = _last_layers(network)

    def run(self, nodes, values):
        """Makes the calls of `nodes` again; `values` as in `graph.run_again`."""
        graph.run_again(nodes, values, self._sliced)

    def filters(self, layer, count):
        """How many of a layer's filters are used.

        Raises:
            ValueError: none would be left.
        """
        left = floor(self.width * count + 1e-9)
        if not left:
            raise ValueError(
                f"width {self.width} leaves no filters of the {count} of layer {layer.name!r}; give a larger one"
            )
        return range(left)

    def all_of(self, tensor):
        return tuple(range(tensor.shape[-1]))

    def slice(self, kind, layer, reads, writes):
        """A layer on a part of its channels, the one there is if it has been made."""
        key = layer, reads, writes
        if key not in self.made:
            self.made[key] = kind(
                layer, reads, writes, name=f"{layer.name}_w{round(100 * self.width)}"
            )
        return self.made[key]

    def _sliced(self, node):
        """What runs in place of a node's operation."""
        operation, inputs = node.operation, node.arguments.keras_tensors
        reads = [self.kept.get(id(tensor), self.all_of(tensor)) for tensor in inputs]
        complete = all(
            kept == self.all_of(tensor) for kept, tensor in zip(reads, inputs, strict=True)
        )
        copy, kept = self._copy(node, operation, reads, complete)
        for tensor in node.outputs:
            self.kept[id(tensor)] = self.all_of(tensor) if kept is None else tuple(kept)
        return copy

    def _copy(self, node, operation, reads, complete):
        """The operation on a part of its channels, and the channels that it gives; None for all."""
        output = node.outputs[0]
        if isinstance(operation, keras.layers.BatchNormalization) and operation.axis in (
            -1,
            len(output.shape) - 1,
        ):
            return SlicedBatchNormalization(
                operation, reads[0], name=self._named(operation)
            ), reads[0]
        if (
            type(operation) in SPLITTING
            and getattr(operation, "groups", 1) == 1
            and _channels_last(operation)
        ):
            count = output.shape[-1]
            writes = tuple(
                range(count) if operation in self.last else self.filters(operation, count)
            )
            if complete and len(writes) == count:
                return operation, None
            kind = SlicedDense if isinstance(operation, keras.layers.Dense) else SlicedConv2D
            return self.slice(kind, operation, reads[0], writes), writes
        if complete:
            return operation, None
        if type(operation) is keras.layers.DepthwiseConv2D and _channels_last(operation):
            times = operation.depth_multiplier
            writes = [c * times + i for c in reads[0] for i in range(times)]
            return self.slice(SlicedConv2D, operation, reads[0], tuple(writes)), writes
        if isinstance(operation, CHANNELWISE) or type(operation).__name__ in OPERATIONS:
            return operation, reads[0]
        if isinstance(operation, MERGING) or type(operation).__name__ in MERGING_OPERATIONS:
            if len(set(reads)) > 1:
                raise ValueError(f"{self._cannot(operation)}: the widths of what it merges differ")
            return operation, reads[0]
        if isinstance(operation, keras.layers.Concatenate) and operation.axis in (
            -1,
            len(output.shape) - 1,
        ):
            return operation, _joined(
                reads, [tensor.shape[-1] for tensor in node.arguments.keras_tensors]
            )
        if isinstance(operation, keras.layers.Flatten) and _channels_last(operation):
            places, channels = (
                output.shape[-1] // (size := node.arguments.keras_tensors[0].shape[-1]),
                reads[0],
            )
            return operation, [place * size + c for place in range(places) for c in channels]
        if isinstance(operation, keras.layers.Reshape) and output.shape[1:] == (
            1,
            1,
            len(self.all_of(node.arguments.keras_tensors[0])),
        ):
            return keras.layers.Reshape((1, 1, len(reads[0])), name=self._named(operation)), reads[
                0
            ]
        raise ValueError(
            f"{self._cannot(operation)}: widths are for convolutions without groups, Dense, BatchNormalization and "
            "layers that treat every channel alike; leave out widths"
        )

    def _named(self, layer):
        return f"{layer.name}_{self.name}"

    def _cannot(self, operation):
        return f"layer {operation.name!r}, a {type(operation).__name__}, does not run on a part of its channels"


def _channels_last(layer):
    return getattr(layer, "data_format", None) in (None, "channels_last")


def _joined(reads, sizes):
    joined, first = [], 0
    for kept, size in zip(reads, sizes, strict=True):
        joined += [first + c for c in kept]
        first += size
    return joined


def _last_layers(network):
    """The layers whose filters are the logits: no other layer that could mix them comes after."""
    producers = {id(tensor): node for node in graph.nodes(network) for tensor in node.outputs}
    waiting, last = [id(tensor) for tensor in network.outputs], set()
    while waiting:
        node = producers[waiting.pop()]
        if isinstance(node.operation, SPLITTING):
            last.add(node.operation)
        else:
            waiting += [id(tensor) for tensor in node.arguments.keras_tensors]
    return last
