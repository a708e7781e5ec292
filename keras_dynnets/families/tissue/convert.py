"""A user's own CNN to its stacked form."""

import numbers
from typing import NamedTuple

import keras

from keras_dynnets.core.graph import CallGraph, functional, set_weights
from keras_dynnets.layers.grouped_conv import GroupedConv2D

C_IN = 2  # of every unit, as in the paper
BETWEEN = (
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ELU,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
)
DROPOUTS = (keras.layers.Dropout, keras.layers.SpatialDropout2D)
MIXES = "the full layer that mixes the units' results"
OPERATIONS_BETWEEN = (
    "Relu",
    "Relu6",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Gelu",
    "Silu",
    "HardSilu",
    "Tanh",
    "Sigmoid",
)


class Stacked(NamedTuple):
    """What `stack_units` gives.

    Attributes:
        model: the new network.
        replaced: names of the convolutions whose place units have taken.
        kept: names of the other convolutions, each with the reason.
    """

    model: keras.Model
    replaced: tuple
    kept: dict


def stack_units(model, hidden=4, where="all"):
    """The stacked form of a CNN: units 2-c_h-...-2 in place of full convolutions (TissueNet).

    Convolutions that follow each other directly (with nothing but batch norm, activation or dropout
    between them) are a run. Of a run of three or more, as in VGG, the first stays and the rest
    becomes one stack of units as deep; of two, as in a residual block, the first becomes a stack of
    two layers and the second stays; one alone becomes a stack of two layers if what it reads
    has been mixed by a full layer since the last stack. Where the channels change, so do the
    units' outputs; strides stay with their convolution, in a new pair with the second.

    Layers that stay keep their weights; batch norm and the rest are the user's own. New units start
    untrained and trainable.

    Args:
        model: a functional or `Sequential` Keras model.
        hidden: c_h, hidden width of a unit.
        where: "all"; "r" to leave the convolutions of the first and the last resolution alone (the
            paper's strategy of that name); or a function of a convolution that says whether it may be replaced.

    Returns:
        A `Stacked`: the new model, the names of what was replaced, and of what was not, with reasons.

    Raises:
        ValueError: another kind of model, a `hidden` below 1, a `where` that is none of these, or "r"
            of a model with an open input size, whose resolutions are not known.

    Example:
        >>> stacked = stack_units(my_cnn, hidden=4, where="r")
        >>> stacked.model.compile(...), stacked.kept

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, sections 3.3 and 4.2.1.
    """
    network = functional(model, "stack_units")
    if not isinstance(hidden, numbers.Integral) or hidden < 1:
        raise ValueError(f"hidden is the width of a unit, an integer of 1 or more, not {hidden!r}")
    if where not in ("all", "r") and not callable(where):
        raise ValueError(f'where is "all", "r" or a function of a convolution, not {where!r}')
    graph = _Graph(network)
    if where == "r" and any(None in size for size in graph.resolutions):
        raise ValueError(
            'where="r" goes by resolution, and the input size is open: give the model a fixed one'
        )
    kept = {
        layer.name: "a model inside the model"
        for layer in network.layers
        if isinstance(layer, keras.Model)
    }
    for layer in graph.convolutions:
        reason = graph.unfit(layer)
        if not reason and not _wanted(layer, where, graph):
            reason = "not chosen by where"
        if reason:
            kept[layer.name] = reason
    places = {}
    for run in graph.runs([layer for layer in graph.convolutions if layer.name not in kept]):
        _place(run, int(hidden), graph, places, kept)
    return Stacked(_rebuilt(network, graph, places), tuple(places), kept)


def _wanted(layer, where, graph):
    if where == "all":
        return True
    if where == "r":
        return graph.resolution(layer) not in (graph.resolutions[0], graph.resolutions[-1])
    return bool(where(layer))


def _place(run, hidden, graph, places, kept):
    """Decides what becomes of a run: {name of a convolution: (groups, widths of what takes its place)}."""
    before = set(places)
    if len(run) > 2:
        rest = run[1:]
        while len(rest) > 1 and not _unit(rest[0], rest[-1], hidden, len(rest), graph):
            rest.pop()  # the longest start of it that units can lead through
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


def _unit(first, last, hidden, depth, graph):
    """Widths of units from what `first` reads to what `last` writes; None if there are none."""
    channels = graph.channels(first)
    if channels % C_IN or C_IN * last.filters % channels:
        return None
    return (C_IN, *[hidden] * (depth - 1), C_IN * last.filters // channels)


def _no_unit(layer, graph):
    return f"units that read {C_IN} channels do not lead from {graph.channels(layer)} to {layer.filters} channels"


def _rebuilt(network, graph, places):
    """The network with units in their places and the weights of all that stays."""
    before = {}  # convolution in a new pair -> what runs before it

    def clone(layer):
        if layer.name not in places:
            return (
                layer.__class__.from_config(layer.get_config())
                if isinstance(layer, keras.layers.Layer)
                else layer
            )
        groups, unit = places[layer.name]
        config = {
            **layer.get_config(),
            "groups": groups,
            "filters": groups * unit[-1],
            "trainable": True,
        }
        if len(unit) == 3:
            first = {
                **config,
                "filters": groups * unit[1],
                "strides": 1,
                "name": f"{layer.name}_units",
            }
            before[layer.name] = [
                GroupedConv2D.from_config({**first, "activation": "linear"}),
                *graph.manner(layer),
            ]
        return GroupedConv2D.from_config(config)

    def call(layer, x, *args, **kwargs):
        for earlier in before.get(layer.name, []):
            x = earlier(x)
        return layer(x, *args, **kwargs)

    rebuilt = keras.models.clone_model(network, clone_function=clone, call_function=call)
    for layer in (layer for layer in network.layers if layer.weights):
        copy = rebuilt.get_layer(layer.name)
        if [w.shape for w in copy.weights] == [w.shape for w in layer.weights]:
            set_weights(copy, layer.get_weights())
    return rebuilt


class _Graph(CallGraph):
    """The convolutions of a functional model: what each reads and what follows it."""

    def __init__(self, network):
        super().__init__(network)
        self.calls = {}
        for node in self.nodes:
            self.calls.setdefault(node.operation, []).append(node)
        convolutions = [
            n.operation for n in self.nodes if isinstance(n.operation, keras.layers.Conv2D)
        ]
        self.convolutions = list(dict.fromkeys(convolutions))
        self.resolutions = list(
            dict.fromkeys(self.resolution(layer) for layer in self.convolutions)
        )

    def input(self, layer):
        return self.calls[layer][0].arguments.keras_tensors[0]

    def output(self, layer):
        return self.calls[layer][0].outputs[0]

    def channels(self, layer):
        return self.input(layer).shape[-1 if layer.data_format == "channels_last" else 1]

    def resolution(self, layer):
        shape = self.output(layer).shape
        return shape[1:3] if layer.data_format == "channels_last" else shape[2:]

    def _read_once(self, tensor):
        """Says whether one call alone reads a tensor, which is no output of the network."""
        return len(self.readers(tensor)) == 1 and not self.is_output(tensor)

    def unfit(self, layer):
        """Why a convolution cannot be replaced; None if it can."""
        if len(self.calls[layer]) > 1:
            return "called more than once"
        if type(layer) is not keras.layers.Conv2D or layer.groups > 1:
            return "no plain full convolution"
        if layer.kernel_size == (1, 1):
            return "a 1x1 convolution, which mixes channels"
        if layer.padding != "same" or layer.dilation_rate != (1, 1):
            return "its padding is not 'same', or it is dilated"
        return None

    def runs(self, layers):
        """The convolutions, in lists of those that follow each other directly."""
        runs, run_that_ends_in = [], {}
        for layer in layers:
            run = run_that_ends_in.pop(self._followed(layer), None)
            if run is None:
                runs.append(run := [])
            run.append(layer)
            run_that_ends_in[layer] = run
        return runs

    def _followed(self, layer):
        """The convolution whose results reach `layer` alone, through nothing but what may be between; or None."""
        tensor = self.input(layer)
        while self._read_once(tensor) and (node := self.producer(tensor)):
            if isinstance(node.operation, keras.layers.Conv2D):
                return node.operation
            if not _between(node.operation):
                return None
            tensor = node.arguments.keras_tensors[0]
        return None

    def reads_unmixed(self, layer, places):
        """Whether what a layer reads holds results of units that no full layer has mixed since."""
        waiting, seen = [self.input(layer)], set()
        while waiting:
            node = self.producer(waiting.pop())
            if node is None or node in seen:
                continue
            seen.add(node)
            operation = node.operation
            if operation.name in places or getattr(operation, "groups", 1) > 1:
                return True
            if not isinstance(operation, (keras.layers.Conv2D, keras.layers.Dense, keras.Model)):
                waiting += node.arguments.keras_tensors
        return False

    def manner(self, layer):
        """Copies of the batch norm, if any, and of the activation that follow a convolution."""
        norm = None
        own = layer.activation is not keras.activations.linear
        activation = layer.activation if own else keras.activations.relu
        copy = keras.layers.Activation(
            activation, name=f"{layer.name}_units_act", dtype=layer.dtype_policy
        )
        tensor = self.output(layer)
        while self._read_once(tensor) and _between(self.readers(tensor)[0].operation):
            node = self.readers(tensor)[0]
            follower = node.operation
            if isinstance(follower, keras.layers.BatchNormalization):
                norm = norm or _renamed(follower, f"{layer.name}_units_bn")
            elif (
                not own
                and isinstance(follower, keras.layers.Layer)
                and not isinstance(follower, DROPOUTS)
            ):
                copy, own = _renamed(follower, f"{layer.name}_units_act"), True
            tensor = node.outputs[0]
        return [norm, copy] if norm else [copy]


def _between(operation):
    return isinstance(operation, BETWEEN) or type(operation).__name__ in OPERATIONS_BETWEEN


def _renamed(layer, name):
    return type(layer).from_config({**layer.get_config(), "name": name, "trainable": True})
