"""Which layers of a CNN get generated kernels, and which segments of it can be dropped."""

import functools
from typing import Any

import keras

from keras_dynnets.core import cost
from keras_dynnets.core.copying import copied
from keras_dynnets.core.folding import can_fold
from keras_dynnets.core.graph import CallGraph, image_call_graph
from keras_dynnets.core.layer_kinds import CONVOLUTIONS
from keras_dynnets.families.puppet.segments import segments_of


class Plan:
    """The layers and segments of a functional CNN that becomes a puppet.

    Args:
        network: a functional or `Sequential` Keras model with one input, images of a fixed size,
            and one output.

    Attributes:
        network: the functional model.
        segments: all calls of the network except its input, in running order, as `Segment`s.
        droppable: number of segments that can be dropped.
        convolutions: the layers whose kernels are generated, in running order: every `Conv2D` and
            `DepthwiseConv2D` with channels last.
        norms: the batch norms over channels, in running order.
        kept: the other layers, which keep their weights.
        folds: the batch norm that can be folded into a convolution, by the convolution.

    Raises:
        ValueError: the model is of another kind, or has no convolution to generate.
    """

    def __init__(self, network: keras.Model):
        graph = image_call_graph(network, "puppeteer")
        self.network, nodes = graph.network, graph.nodes
        self._calls = nodes
        layers = list(
            dict.fromkeys(n.operation for n in nodes if isinstance(n.operation, keras.Layer))
        )
        self.convolutions = [layer for layer in layers if _is_generated(layer)]
        if not self.convolutions:
            raise ValueError(
                f"{network.name!r} has no convolution to generate; give a network whose own layers "
                "(not those of a model inside it) include a Conv2D or DepthwiseConv2D with "
                "channels last"
            )
        self.norms = [layer for layer in layers if _is_norm(layer)]
        replaced = {*self.convolutions, *self.norms}
        self.kept = [layer for layer in layers if layer not in replaced]
        for layer in self.kept:
            copied(layer)  # inference copies it: what cannot be copied is refused now
        self.folds = _folds(graph, self.convolutions)
        self.segments = segments_of(graph, set(self.convolutions))
        self.droppable = sum(segment.drop_order is not None for segment in self.segments)

    @property
    def channels(self) -> int:
        """The largest number of channels that a generated convolution reads or writes."""
        return max(max(layer.kernel.shape[2:]) for layer in self.convolutions)

    @property
    def kernel_size(self) -> int:
        """The side of the largest kernel."""
        return max(max(layer.kernel_size) for layer in self.convolutions)

    def running(self, dropped: int) -> list[keras.Layer]:
        """Lists the generated convolutions that run, in running order.

        Args:
            dropped: number of segments that are dropped.
        """
        present = {node.operation for node in self._nodes(dropped)}
        return [layer for layer in self.convolutions if layer in present]

    def macs(self, dropped: int) -> int:
        """Counts the MACs for one image (see `keras_dynnets.core.cost`).

        Args:
            dropped: number of segments that are dropped.
        """
        return sum(self._macs[node] for node in self._nodes(dropped))

    @functools.cached_property
    def _macs(self) -> dict[Any, int]:
        """The MACs of every call."""
        calls = cost.own_calls(self.network)
        return dict(zip(self._calls, map(cost.call_macs, calls), strict=True))

    def _nodes(self, dropped: int) -> list[Any]:
        """Lists the calls that run."""
        return [
            node for segment in self.segments if segment.runs(dropped) for node in segment.nodes
        ]


def _is_generated(layer: keras.Layer) -> bool:
    return type(layer) in CONVOLUTIONS and layer.data_format == "channels_last"


def _is_norm(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and layer.axis in (-1, 3)


def _folds(graph: CallGraph, convolutions: list[keras.Layer]) -> dict[keras.Layer, keras.Layer]:
    """Finds the batch norm that can be folded into each convolution.

    It must be the only reader of the convolution's result, and both must be called once.
    """
    folds = {}
    for layer in convolutions:
        calls = graph.calls_of(layer)
        readers = graph.readers(calls[0].outputs[0])
        if len(calls) != 1 or len(readers) != 1:
            continue
        norm = readers[0].operation
        if can_fold(layer, norm) and len(graph.calls_of(norm)) == 1:
            folds[layer] = norm
    return folds
