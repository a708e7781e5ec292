"""What of a CNN its puppeteer generates, and which of its layers an image can do without."""

from dataclasses import dataclass, field

import keras

from keras_dynnets.core import cost
from keras_dynnets.core.cost import CONVOLUTIONS
from keras_dynnets.core.folding import can_fold
from keras_dynnets.core.graph import CallGraph, image_call_graph


@dataclass(frozen=True)
class Piece:
    """Calls in a row.

    Attributes:
        nodes: they.
        source, target: where the calls can be left out, the feature maps before and behind them, of one shape.
        turn: how many others are left out before them; None where they always run.
    """

    nodes: tuple = field(repr=False)
    source: keras.KerasTensor | None = field(default=None, repr=False)
    target: keras.KerasTensor | None = field(default=None, repr=False)
    turn: int | None = None

    def runs(self, dropped):
        """Whether it does, of a network that has dropped so many pieces."""
        return self.turn is None or self.turn >= dropped


class Plan:
    """A functional CNN taken apart.

    Attributes:
        network: it.
        pieces: all its calls but the input's, in running order; `droppable` of them can be left out: from the
            stages with the most such pieces left, the last first.
        convolutions: the layers whose kernels are generated, in running order.
        norms: batch norms, in running order. folds: a convolution's norm, where nothing else reads the convolution.
        kept: the other layers, with what weights they have.

    Raises:
        ValueError: no functional model of one image, or one without a convolution.
    """

    def __init__(self, network):
        graph = image_call_graph(network, "puppeteer")
        self.network, nodes = graph.network, graph.nodes
        layers = list(
            dict.fromkeys(n.operation for n in nodes if isinstance(n.operation, keras.Layer))
        )
        self.convolutions = [layer for layer in layers if _generates(layer)]
        if not self.convolutions:
            raise ValueError(
                f"{network.name!r} has no convolution to generate: Conv2D and DepthwiseConv2D, channels last, "
                "and not inside a model that it holds as a layer"
            )
        self.norms = [layer for layer in layers if _normalises(layer)]
        replaced = {*self.convolutions, *self.norms}
        self.kept = [layer for layer in layers if layer not in replaced]
        self.folds = _folds(graph, self.convolutions)
        segments = _alone(_segments(graph, set(self.convolutions)), nodes, set(self.convolutions))
        self.droppable = len(segments)
        self.pieces = _pieces(nodes, segments, _turns(nodes, segments))

    @property
    def channels(self):
        """The most channels that a generated convolution reads or writes."""
        return max(max(layer.kernel.shape[2:]) for layer in self.convolutions)

    @property
    def kernel_size(self):
        """Side of the largest kernel."""
        return max(max(layer.kernel_size) for layer in self.convolutions)

    def running(self, dropped):
        """The convolutions that run when so many pieces are dropped, in running order."""
        present = {
            node.operation for piece in self.pieces if piece.runs(dropped) for node in piece.nodes
        }
        return [layer for layer in self.convolutions if layer in present]

    def macs(self, dropped):
        """MACs an image when so many pieces are dropped (see `cost`)."""
        running = [node for piece in self.pieces if piece.runs(dropped) for node in piece.nodes]
        calls = [
            (n.operation, n.arguments.keras_tensors[0].shape)
            for n in running
            if isinstance(n.operation, keras.Layer)
        ]
        return sum(cost.layer_macs(*call) for call in calls)


def _generates(layer):
    return type(layer) in CONVOLUTIONS and layer.data_format == "channels_last"


def _normalises(layer):
    return isinstance(layer, keras.layers.BatchNormalization) and layer.axis in (-1, 3)


def _folds(graph: CallGraph, convolutions):
    """The batch norm that folds into each convolution: nothing else reads it, both run once."""
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


def _segments(graph, convolutions):
    """Pairs of positions of calls: what lies behind the first, up to the second, can be left out and has a convolution."""
    through = [
        i
        for i, needed in enumerate(graph.needed_besides())
        if not needed and len(graph.nodes[i].outputs) == 1
    ]
    heavy = [i for i, node in enumerate(graph.nodes) if node.operation in convolutions]
    # Between two results that everything leads through; what has a convolution there begins a segment.
    steps = list(zip(through, through[1:], strict=False))
    begins = [n for n, (a, b) in enumerate(steps) if any(a < i <= b for i in heavy)]
    segments = []
    for n, following in zip(begins, [*begins, len(steps)][1:], strict=True):
        start = steps[n][0]
        shape = graph.nodes[start].outputs[0].shape
        ends = [end for _, end in steps[n:following] if graph.nodes[end].outputs[0].shape == shape]
        if ends and len(shape) == 4:
            segments.append((start, ends[-1]))
    return segments


def _alone(segments, nodes, convolutions):
    """Those whose convolutions run nowhere else, for one that does would be of two pieces at once, and without a loss of their
    own, which a condition would keep inside.
    """

    def inside(segment):
        return {node.operation for node in nodes[segment[0] + 1 : segment[1] + 1]} & convolutions

    def outside(segment):
        return {node.operation for node in [*nodes[: segment[0] + 1], *nodes[segment[1] + 1 :]]}

    def with_loss(segment):
        operations = [node.operation for node in nodes[segment[0] + 1 : segment[1] + 1]]
        return any(getattr(operation, "activity_regularizer", None) for operation in operations)

    return [
        segment
        for segment in segments
        if not inside(segment) & outside(segment) and not with_loss(segment)
    ]


def _turns(nodes, segments):
    """When each segment is dropped."""
    stages = {}
    for segment in segments:
        stages.setdefault(nodes[segment[0]].outputs[0].shape, []).append(segment)
    order = []
    while any(stages.values()):
        most = max(map(len, stages.values()))
        order.append([stage for stage in stages.values() if len(stage) == most][-1].pop())
    return {segment: turn for turn, segment in enumerate(order)}


def _pieces(nodes, segments, turns):
    pieces, position = [], 0
    for start, end in segments:
        if start + 1 > position:
            pieces.append(Piece(tuple(nodes[position : start + 1])))
        source, target = nodes[start].outputs[0], nodes[end].outputs[0]
        pieces.append(Piece(tuple(nodes[start + 1 : end + 1]), source, target, turns[start, end]))
        position = end + 1
    return [*pieces, Piece(tuple(nodes[position:]))] if position < len(nodes) else pieces
