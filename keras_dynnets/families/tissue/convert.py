"""The stacked form of a user's own CNN."""

import functools
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from keras_dynnets.core.copying import copied, copied_call, rebuilt
from keras_dynnets.core.graph import functional, set_weights
from keras_dynnets.families.tissue.convolutions import ConvolutionGraph
from keras_dynnets.families.tissue.units import Unit
from keras_dynnets.layers.grouped_conv import GroupedConv2D

C_IN = 2  # channels that a unit reads, as in the paper
MIXES = "the full layer that mixes the results of the units"

Where = str | Callable[[keras.Layer], bool]
Places = dict[str, tuple[int, Unit]]  # name of a convolution: groups and widths in its place


class Stacked(NamedTuple):
    """The result of `stack_units`.

    Attributes:
        model: the new network, a functional keras.Model.
        replaced: names of the convolutions that units have replaced.
        kept: the reason for each other convolution, by its name.
    """

    model: keras.Model
    replaced: tuple[str, ...]
    kept: dict[str, str]


def stack_units(model: keras.Model, hidden: int = 4, where: Where = "all") -> Stacked:
    """Gives the stacked form of a CNN, with units 2-c_h-...-2 in place of full convolutions.

    A run is a list of convolutions that follow each other directly, with nothing but batch norm,
    activation and dropout between them. In a run of three or more, as in VGG, the first
    convolution stays and one stack of units, as deep as the rest, replaces the rest. In a run of
    two, as in a residual block, a stack of two layers replaces the first and the second stays. A
    convolution alone becomes a stack of two layers if a full layer has mixed its input since the
    last stack. The outputs of the units follow the channels of the network. Strides stay with
    their convolution; where a stack of two layers replaces one convolution, its second layer has
    the stride.

    Layers that stay keep their weights. New units are untrained and trainable, with the batch
    norm and activation of the convolutions that they replace.

    Deviations from the paper: section 3.3 replaces the first layers of a run in VGG and keeps the
    last full; here the first stays full, as the paper's parameter counts imply. The paper gives
    no rule for networks other than its own.

    Args:
        model: keras.Model, functional or `Sequential`.
        hidden: int, c_h, hidden width of a unit.
        where: "all"; "r" to keep the convolutions of the first and the last resolution (the
            paper's strategy of that name, section 4.4.1); or a function of a convolution that
            says whether it may be replaced.

    Returns:
        A `Stacked`: the new model, the names of the replaced convolutions, and a reason for each
        convolution that stays.

    Raises:
        ValueError: the model is of another kind, `hidden` is below 1, `where` is none of these,
            or "r" is given for a model with an open input size, whose resolutions are not known.

    Example:
        >>> stacked = tissue.stack_units(my_cnn, hidden=4, where="r")
        >>> stacked.model.compile("sgd", loss)
        >>> print(stacked.kept)

    Reference: Lan et al., Compact Neural Networks via Stacking Designed Basic Units (TissueNet),
    arXiv 2205.01508, sections 3.3 and 4.2.1.
    """
    network = functional(model, "stack_units")
    if not isinstance(hidden, numbers.Integral) or hidden < 1:
        raise ValueError(f"hidden is the width of a unit, an integer of 1 or more, not {hidden!r}")
    if where not in ("all", "r") and not callable(where):
        raise ValueError(f'where is "all", "r" or a function of a convolution, not {where!r}')
    graph = ConvolutionGraph(network)
    if where == "r" and any(None in size for size in graph.resolutions):
        raise ValueError(
            'where="r" goes by resolution, and the input size is open: give the model a fixed one'
        )
    inner = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    kept = {layer.name: "a model inside the model" for layer in inner}
    for layer in graph.convolutions:
        reason = graph.unfit(layer)
        if not reason and not _wanted(layer, where, graph):
            reason = "not chosen by where"
        if reason:
            kept[layer.name] = reason
    places: Places = {}
    for run in graph.runs([layer for layer in graph.convolutions if layer.name not in kept]):
        _place(run, int(hidden), graph, places, kept)
    return Stacked(_rebuilt(network, graph, places), tuple(places), kept)


def _wanted(layer: keras.Layer, where: Where, graph: ConvolutionGraph) -> bool:
    """Says whether `where` allows a convolution to be replaced."""
    if where == "r":
        return graph.resolution(layer) not in (graph.resolutions[0], graph.resolutions[-1])
    return bool(where(layer)) if callable(where) else True


def _place(
    run: list[keras.Layer],
    hidden: int,
    graph: ConvolutionGraph,
    places: Places,
    kept: dict[str, str],
) -> None:
    """Decides what becomes of the convolutions of a run; adds them to `places` or to `kept`."""
    before = set(places)
    if len(run) > 2:
        rest = run[1:]
        # The longest start of the rest that units can lead through.
        while len(rest) > 1 and not _unit(rest[0], rest[-1], hidden, len(rest), graph):
            rest.pop()
        if unit := _unit(rest[0], rest[-1], hidden, max(2, len(rest)), graph):
            for i, layer in enumerate(rest):
                widths = unit if len(rest) == 1 else unit[i : i + 2]
                places[layer.name] = (graph.channels(rest[0]) // C_IN, widths)
    elif not graph.reads_unmixed(run[0], places):
        for layer in run:
            if unit := _unit(layer, layer, hidden, 2, graph):
                places[layer.name] = (graph.channels(layer) // C_IN, unit)
                break
    for layer in run:
        if layer.name in places:
            continue
        if set(places) > before:
            mixes = graph.reads_unmixed(layer, places) or layer is run[0]
            kept[layer.name] = MIXES if mixes else _no_unit(layer, graph)
        elif graph.reads_unmixed(run[0], places):
            kept[layer.name] = (
                "what it reads comes from stacked units, and only a full layer mixes their results"
            )
        else:
            kept[layer.name] = _no_unit(layer, graph)


def _unit(
    first: keras.Layer, last: keras.Layer, hidden: int, depth: int, graph: ConvolutionGraph
) -> Unit | None:
    """Gives the unit from what `first` reads to what `last` writes; None if there is none."""
    channels = graph.channels(first)
    if channels % C_IN or C_IN * last.filters % channels:
        return None
    return (C_IN, *[hidden] * (depth - 1), C_IN * last.filters // channels)


def _no_unit(layer: keras.Layer, graph: ConvolutionGraph) -> str:
    return (
        f"units that read {C_IN} channels do not lead from {graph.channels(layer)} to "
        f"{layer.filters} channels"
    )


def _rebuilt(network: keras.Model, graph: ConvolutionGraph, places: Places) -> keras.Model:
    """Gives the network with units in their places and the weights of all layers that stay."""
    before: dict[str, list] = {}  # layers that are new before a convolution, by its name

    def clone(layer: Any) -> Any:
        if layer.name not in places:
            return copied_call(layer)
        groups, unit = places[layer.name]
        units = functools.partial(copied, layer, GroupedConv2D, groups=groups, trainable=True)
        if len(unit) == 3:
            first = units(
                filters=groups * unit[1],
                strides=1,
                name=f"{layer.name}_units",
                activation="linear",
            )
            before[layer.name] = [first, *graph.followers(layer)]
        return units(filters=groups * unit[-1])

    def call(layer: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        for earlier in before.get(layer.name, []):
            x = earlier(x)
        return layer(x, *args, **kwargs)

    new = rebuilt(network, clone, call)
    for layer in (layer for layer in network.layers if layer.weights):
        copy = new.get_layer(layer.name)
        if [w.shape for w in copy.weights] == [w.shape for w in layer.weights]:
            set_weights(copy, layer.get_weights())
    return new
