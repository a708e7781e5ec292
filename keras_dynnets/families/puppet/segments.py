"""The calls of a network in segments, some of which can be dropped."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from keras_dynnets.core.graph import CallGraph


@dataclass(frozen=True)
class Segment:
    """Consecutive calls of a network, which are dropped together or not at all.

    Attributes:
        nodes: the calls of this segment in running order.
        source: for a segment that can be dropped, the feature map before it, on which alone its
            calls depend; None for other segments.
        target: for a segment that can be dropped, its result, which has the shape of `source` and
            is replaced by it when the segment is dropped; None for other segments.
        drop_order: number of segments that are dropped before this one; None if it always runs.
    """

    nodes: tuple = field(repr=False)
    source: keras.KerasTensor | None = field(default=None, repr=False)
    target: keras.KerasTensor | None = field(default=None, repr=False)
    drop_order: int | None = None

    def runs(self, dropped: int) -> bool:
        """Says whether the segment runs in a network that drops `dropped` segments."""
        return self.drop_order is None or self.drop_order >= dropped


def segments_of(graph: CallGraph, convolutions: Collection[Any]) -> list[Segment]:
    """Divides the calls of a network into segments.

    A segment can be dropped if all paths from the image to the output lead through the feature map
    before it and through the one behind it, both have the same shape, and it holds convolutions
    that run nowhere else. A stage is all segments of this kind whose feature maps have one shape.
    Segments are dropped one after the other: always the last one of the stage that has most of
    them left, and of the last such stage if there are several.

    Args:
        graph: the network.
        convolutions: the layers for whose sake segments are dropped.

    Returns:
        All segments in running order, those that always run included.
    """
    spans = [
        span
        for span in _spans(graph, convolutions)
        if _stands_alone(span, graph.nodes, convolutions)
    ]
    drop_order = _drop_order(graph.nodes, spans)
    segments, position = [], 0
    for start, end in spans:
        if start + 1 > position:
            segments.append(Segment(tuple(graph.nodes[position : start + 1])))
        source, target = graph.nodes[start].outputs[0], graph.nodes[end].outputs[0]
        nodes = tuple(graph.nodes[start + 1 : end + 1])
        segments.append(Segment(nodes, source, target, drop_order[start, end]))
        position = end + 1
    if position < len(graph.nodes):
        segments.append(Segment(tuple(graph.nodes[position:])))
    return segments


def _spans(graph: CallGraph, convolutions: Collection[Any]) -> list[tuple[int, int]]:
    """Finds spans of calls between two feature maps of the same shape, with convolutions.

    Returns:
        Pairs of positions in `graph.nodes`: the call that makes the feature map before the span,
        and the last call of the span.
    """
    bottlenecks = [  # calls through whose result all paths lead
        i
        for i, needed in enumerate(graph.needed_besides())
        if not needed and len(graph.nodes[i].outputs) == 1
    ]
    with_kernels = [i for i, node in enumerate(graph.nodes) if node.operation in convolutions]
    # A span begins at a bottleneck if there is a convolution before the next bottleneck.
    steps = list(zip(bottlenecks, bottlenecks[1:], strict=False))
    begins = [n for n, (a, b) in enumerate(steps) if any(a < i <= b for i in with_kernels)]
    spans = []
    for n, following in zip(begins, [*begins, len(steps)][1:], strict=True):
        start = steps[n][0]
        shape = graph.nodes[start].outputs[0].shape
        ends = [end for _, end in steps[n:following] if graph.nodes[end].outputs[0].shape == shape]
        if ends and len(shape) == 4:
            spans.append((start, ends[-1]))
    return spans


def _stands_alone(
    span: tuple[int, int], nodes: Sequence[Any], convolutions: Collection[Any]
) -> bool:
    """Says whether the convolutions of a span run nowhere else and no call of it adds a loss.

    A convolution that also runs elsewhere would belong to two segments. A loss that is added
    inside a condition could not leave it.
    """
    start, end = span[0] + 1, span[1] + 1
    inside = [node.operation for node in nodes[start:end]]
    outside = {node.operation for node in [*nodes[:start], *nodes[end:]]}
    shared = set(inside) & set(convolutions) & outside
    return not shared and not any(getattr(op, "activity_regularizer", None) for op in inside)


def _drop_order(
    nodes: Sequence[Any], spans: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """Gives the number of segments that are dropped before each one, by its span."""
    stages = {}
    for span in spans:
        stages.setdefault(nodes[span[0]].outputs[0].shape, []).append(span)
    order = []
    while any(stages.values()):
        most = max(map(len, stages.values()))
        order.append([stage for stage in stages.values() if len(stage) == most][-1].pop())
    return {span: number for number, span in enumerate(order)}
