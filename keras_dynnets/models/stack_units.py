"""A user's own CNN to its stacked form."""

from typing import NamedTuple

import keras

from keras_dynnets.layers import GroupedConv2D

C_IN = 2  # of every unit, as in the paper
BETWEEN = (
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
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

    Layers that stay keep their weights; batch norm and the rest are the user's own.

    Args:
        model: a functional or `Sequential` Keras model.
        hidden: c_h, hidden width of a unit.
        where: "all"; "r" to leave the convolutions of the first and the last resolution alone (the
            paper's strategy of that name); or a function of a convolution that says whether it may be replaced.

    Returns:
        A `Stacked`: the new model, the names of what was replaced, and of what was not, with reasons.

    Raises:
        ValueError: another kind of model, a `hidden` below 1, or a `where` that is none of these.

    Example:
        >>> stacked = stack_units(my_cnn, hidden=4, where="r")
        >>> stacked.model.compile(...), stacked.kept

    Reference: Jiang et al., TissueNet, arXiv 2205.01508, sections 3.3 and 4.2.1.
    """
    network = getattr(model, "_functional", model)
    if not isinstance(network, keras.Model) or type(network).__name__ != "Functional":
        raise ValueError(f"stack_units takes a functional or Sequential Keras model, not {type(model).__name__}")
    if not isinstance(hidden, int) or hidden < 1:
        raise ValueError(f"hidden is the width of a unit, an integer of 1 or more, not {hidden!r}")
    if where not in ("all", "r") and not callable(where):
        raise ValueError(f'where is "all", "r" or a function of a convolution, not {where!r}')
    graph = _Graph(network)
    kept = {}
    for layer in graph.convolutions:
        reason = graph.unfit(layer)
        if not reason and not _wanted(layer, where, graph):
            reason = "not chosen by where"
        if reason:
            kept[layer.name] = reason
    places = {}
    for run in graph.runs([layer for layer in graph.convolutions if layer.name not in kept]):
        _place(run, hidden, graph, places, kept)
    return Stacked(_rebuilt(network, graph, places), tuple(places), kept)


def _wanted(layer, where, graph):
    if where == "all":
        return True
    if where == "r":
        return graph.resolution(layer) not in (graph.resolutions[0], graph.resolutions[-1])
    return bool(where(layer))


def _place(run, hidden, graph, places, kept):
    """Decides what becomes of a run: {name of a convolution: widths of what takes its place}."""
    if len(run) <= 2:
        chosen, *stays = run
        if graph.reads_unmixed(chosen, places):
            kept[chosen.name] = "what it reads comes from stacked units, and only a full layer mixes their results"
        elif unit := _unit(chosen, chosen, hidden, 2, graph):
            places[chosen.name] = (graph.channels(chosen) // C_IN, unit)
        else:
            kept[chosen.name] = _no_unit(chosen, chosen, graph)
    else:
        first, *rest = run
        stays = [first]
        if unit := _unit(rest[0], rest[-1], hidden, len(rest), graph):
            for i, layer in enumerate(rest):
                places[layer.name] = (graph.channels(rest[0]) // C_IN, unit[i : i + 2])
        else:
            kept.update({layer.name: _no_unit(rest[0], rest[-1], graph) for layer in rest})
    kept.update({layer.name: "the full layer that mixes the units' results" for layer in stays})


def _unit(first, last, hidden, depth, graph):
    """Widths of units from what `first` reads to what `last` writes; None if there are none."""
    channels = graph.channels(first)
    if channels % C_IN or C_IN * last.filters % channels:
        return None
    return (C_IN, *[hidden] * (depth - 1), C_IN * last.filters // channels)


def _no_unit(first, last, graph):
    return f"units that read {C_IN} channels do not lead from {graph.channels(first)} to {last.filters} channels"


def _rebuilt(network, graph, places):
    """The network with units in their places and the weights of all that stays."""
    before = {}  # convolution in a new pair -> what runs before it

    def clone(layer):
        if layer.name not in places:
            return layer.__class__.from_config(layer.get_config())
        groups, unit = places[layer.name]
        config = {**layer.get_config(), "groups": groups, "filters": groups * unit[-1], "pack": "auto"}
        if len(unit) == 3:
            first = {**config, "filters": groups * unit[1], "strides": 1, "name": f"{layer.name}_units"}
            norm, activation = graph.manner(layer)
            before[layer.name] = [GroupedConv2D.from_config({**first, "activation": "linear"})]
            if norm is not None:
                before[layer.name].append(type(norm).from_config({**norm.get_config(), "name": f"{layer.name}_units_bn"}))
            before[layer.name].append(keras.layers.Activation(activation, name=f"{layer.name}_units_act"))
        return GroupedConv2D.from_config(config)

    def call(layer, x, *args, **kwargs):
        for earlier in before.get(layer.name, []):
            x = earlier(x)
        return layer(x, *args, **kwargs)

    rebuilt = keras.models.clone_model(network, clone_function=clone, call_function=call)
    for layer in (layer for layer in network.layers if layer.weights):
        copy = rebuilt.get_layer(layer.name)
        if [w.shape for w in copy.weights] == [w.shape for w in layer.weights]:
            copy.set_weights(layer.get_weights())
    return rebuilt


class _Graph:
    """What follows what in a functional model."""

    def __init__(self, network):
        ordered = [node for _, nodes in sorted(network._nodes_by_depth.items(), reverse=True) for node in nodes]
        self.node = {}
        self.calls, self.producer, self.readers = {}, {}, {}
        for node in ordered:
            layer = node.operation
            self.node[layer] = node
            self.calls[layer] = self.calls.get(layer, 0) + 1
            for tensor in node.arguments.keras_tensors:
                self.readers.setdefault(id(tensor), []).append(layer)
            for tensor in node.outputs:
                self.producer[id(tensor)] = layer
        self.convolutions = [n.operation for n in ordered if isinstance(n.operation, keras.layers.Conv2D)]
        self.convolutions = list(dict.fromkeys(self.convolutions))
        self.resolutions = list(dict.fromkeys(self.resolution(layer) for layer in self.convolutions))

    def input(self, layer):
        return self.node[layer].arguments.keras_tensors[0]

    def output(self, layer):
        return self.node[layer].outputs[0]

    def channels(self, layer):
        return self.input(layer).shape[-1 if layer.data_format == "channels_last" else 1]

    def resolution(self, layer):
        shape = self.output(layer).shape
        return shape[1:3] if layer.data_format == "channels_last" else shape[2:]

    def unfit(self, layer):
        """Why a convolution cannot be replaced; None if it can."""
        if self.calls[layer] > 1:
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
        runs = []
        for layer in layers:
            origin = self.producer.get(id(self._behind(self.input(layer))))
            if runs and origin is runs[-1][-1] and self._only_reader(origin, layer):
                runs[-1].append(layer)
            else:
                runs.append([layer])
        return runs

    def _behind(self, tensor):
        """The tensor from which batch norm, activation and dropout have made this one."""
        while isinstance(layer := self.producer.get(id(tensor)), BETWEEN):
            tensor = self.input(layer)
        return tensor

    def _only_reader(self, origin, layer):
        """Whether everything from one convolution to the next is read by nothing else."""
        tensor = self.input(layer)
        while True:
            if len(self.readers[id(tensor)]) > 1:
                return False
            if self.producer[id(tensor)] is origin:
                return True
            tensor = self.input(self.producer[id(tensor)])

    def reads_unmixed(self, layer, places):
        """Whether what a layer reads holds results of units that no full layer has mixed since."""
        waiting = [self.input(layer)]
        while waiting:
            producer = self.producer.get(id(waiting.pop()))
            if producer is None:
                continue
            if producer.name in places:
                return True
            if not isinstance(producer, (keras.layers.Conv2D, keras.layers.Dense)):
                waiting += self.node[producer].arguments.keras_tensors
        return False

    def manner(self, layer):
        """The batch norm (or None) and the activation that follow a convolution."""
        norm, activation = None, layer.activation
        readers = self.readers.get(id(self.output(layer)), [])
        while len(readers) == 1 and isinstance(readers[0], BETWEEN):
            follower = readers[0]
            if isinstance(follower, keras.layers.BatchNormalization):
                norm = norm or follower
            elif activation is keras.activations.linear and not isinstance(follower, keras.layers.Dropout):
                activation = getattr(follower, "activation", keras.activations.relu)
            readers = self.readers.get(id(self.output(follower)), [])
        return norm, keras.activations.relu if activation is keras.activations.linear else activation
