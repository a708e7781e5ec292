"""The only file that uses names of Keras and TensorFlow that are not public."""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src import backend

_SYMBOLS = threading.RLock()


def is_functional(model: Any) -> bool:
    """Says whether a model is what `keras.Model(inputs, outputs)` makes, or a subclass of it."""
    return isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth")


def is_plain_functional(model: Any) -> bool:
    """Says whether a model is what `keras.Model(inputs, outputs)` makes itself, not a subclass.

    A `NamedModel`, which is such a model with names of classes, counts as one.
    """
    return isinstance(model, keras.Model) and type(model).__name__ in ("Functional", "NamedModel")


def functional_inside(model: Any) -> Any:
    """Gives the functional model that a built `Sequential` runs; any other object unchanged."""
    return getattr(model, "_functional", None) or model


def runs_its_graph(model: Any) -> bool:
    """Says whether a model is functional and has no `call` of its own."""
    if not (isinstance(model, keras.Model) and isinstance(model, keras.Function)):
        return False
    return type(model).call.__module__.startswith("keras.")


def nodes_by_depth(network: keras.Model) -> dict[int, list]:
    """Gives the calls of a functional model by their depth, the outputs at depth 0."""
    return network._nodes_by_depth


def flattened_layers(model: keras.Layer, include_self: bool = True) -> Iterator[keras.Layer]:
    """Gives a layer and all layers inside it, outermost first."""
    return model._flatten_layers(include_self=include_self)


def structured_inputs(model: keras.Model) -> Any:
    """Gives the symbolic inputs of a functional model in the structure that it takes."""
    return model._inputs_struct


def structured_outputs(model: keras.Model) -> Any:
    """Gives the symbolic outputs of a functional model in the structure that it returns."""
    return model._outputs_struct


def learned_variables(layer: keras.Layer) -> list:
    """Gives the variables that training learns, frozen layers included.

    The public `trainable_weights` leaves out frozen layers.
    """
    return [v for inner in flattened_layers(layer) for v in own_learned_variables(inner)]


def own_learned_variables(layer: keras.Layer) -> list:
    """Gives the variables that training learns of a layer itself, not of layers inside it."""
    return list(layer._trainable_variables)


def layers_with_weights_before(tensors: Any) -> list[keras.Layer]:
    """Gives the last layers with weights on every way to some symbolic tensors.

    Models on the way are entered, and left again where nothing in them has weights.
    """
    found = {}
    waiting = [(tensor, ()) for tensor in keras.tree.flatten(tensors)]
    while waiting:
        tensor, around = waiting.pop()  # the calls of the models that the tensor lies in
        operation, index, place = tensor._keras_history
        call = operation._inbound_nodes[index]
        inner = functional_inside(operation)
        if is_functional(inner):
            made = list(inner.outputs)
            made = [made[place]] if len(made) == len(call.outputs) else made
            waiting += [(x, (*around, (inner, call))) for x in made]
        elif getattr(operation, "weights", None):
            found[id(operation)] = operation
        elif not call.is_input:
            waiting += [(x, around) for x in call.arguments.keras_tensors]
        elif around:
            *around, (model, outer) = around
            given = outer.arguments.keras_tensors
            same = [x for x, own in zip(given, model.inputs, strict=False) if own is tensor]
            waiting += [(x, tuple(around)) for x in same or given]
    return list(found.values())


def twin(layer: keras.Layer) -> keras.Layer:
    """Gives another layer on the same variables and sub-layers, which has been called nowhere yet.

    What is changed of one of the two afterwards (`trainable`, `quantize`) leaves the other as it
    is, save that Keras keeps in each variable whether it is trained.
    """
    kind: Any = type(layer)
    other = kind.__new__(kind)  # its own `build` and `quantize`, which Keras wraps
    tracked = ("_trainable_variables", "_non_trainable_variables", "_layers", "_metrics")
    own = {"build", "quantize", "_tracker", "_seed_generators", *tracked}
    vars(other).update((key, value) for key, value in vars(layer).items() if key not in own)
    vars(other).update(_inbound_nodes=[], _outbound_nodes=[], _losses=[], _loss_ids=set())
    other._initialize_tracker()
    for store, (_, values) in layer._tracker.config.items():
        for value in values:
            other._tracker.add_to_store(store, value)
    for key, value in list(vars(other).items()):
        container: Any = type(value)
        if container.__name__.startswith("Tracked"):
            vars(other)[key] = container(value, other._tracker)
        elif key.startswith("_self_") and container in (list, dict, set):
            vars(other)[key] = container(value)  # what TensorFlow's checkpoints follow
    if layer._tracker.locked:
        other._lock_state()
    return other


def adopt_variables(layer: keras.Layer, variables: Iterable) -> None:
    """Adds variables of another layer to those that training learns of `layer`."""
    locked, layer._tracker.locked = layer._tracker.locked, False
    for variable in variables:
        if not layer._tracker.is_in_store("trainable_variables", variable):
            layer._tracker.add_to_store("trainable_variables", variable)
    layer._tracker.locked = locked


def set_untracked(layer: keras.Layer, name: str, value: Any) -> None:
    """Sets an attribute of a layer that does not become a part of the layer.

    It can be set before Keras's `__init__` has run.
    """
    object.__setattr__(layer, name, value)


def set_own_flag(layer: keras.Layer, trainable: bool) -> None:
    """Says whether a layer is trainable without changing its variables and sub-layers."""
    layer._trainable = bool(trainable)


def quantised(model: keras.Layer) -> list[str]:
    """Lists how the weights of layers in a model are quantised, such as "int8"; none are: []."""
    modes = {getattr(layer, "quantization_mode", None) for layer in flattened_layers(model)}
    return sorted(str(mode) for mode in modes - {None})


def quantisable(layer: keras.Layer) -> bool:
    """Says whether Keras's `quantize` of a model changes a layer itself."""
    return type(layer).quantize is not keras.layers.Layer.quantize and bool(layer.variables)


def takes_training(operation: Any) -> bool:
    """Says whether the `call` of a layer has the argument `training`."""
    return "training" in getattr(operation, "_call_context_args", {})


def call_takes_training(layer: keras.Layer) -> bool:
    """Says whether `training` is an argument of a layer's own `call`."""
    return layer._call_has_training_arg


def copied_lambda(layer: Any, **changes: Any) -> keras.Layer:
    """Gives a `Lambda` of the same function as another one, with some arguments changed."""
    own = dict(name=layer.name, trainable=layer.trainable, dtype=layer.dtype_policy)
    return keras.layers.Lambda(
        layer.function, layer._output_shape, layer.mask, layer.arguments, **{**own, **changes}
    )


def add_loss(layer: keras.Layer, loss: Any) -> None:
    """Adds a loss to a functional model, whose own `add_loss` refuses to."""
    keras.layers.Layer.add_loss(layer, loss)


def scaled_for_replicas(model: keras.Model, loss: Any) -> Any:
    """Scales a loss by the number of replicas of a `tf.distribute` strategy, as Keras does."""
    return model._aggregate_additional_loss(loss)


def function_graph(graph: Any, name: str) -> Any:
    """Gives the graph of a function that a TensorFlow graph calls by its name."""
    return graph._get_function(name).graph


@contextlib.contextmanager
def without_new_nodes(layer: keras.Layer) -> Iterator[None]:
    """Forgets afterwards the symbolic calls that the layers inside a layer get meanwhile."""
    inner = list(flattened_layers(layer))
    before = [(len(each._inbound_nodes), len(each._outbound_nodes)) for each in inner]
    try:
        yield
    finally:
        for each, (inbound, outbound) in zip(inner, before, strict=True):
            del each._inbound_nodes[inbound:], each._outbound_nodes[outbound:]


def computes_as(layer: keras.Layer, kinds: tuple[type, ...]) -> bool:
    """Says whether a layer is of one of some kinds, with the `call` of Keras or of this library."""
    package = type(layer).call.__module__.split(".")[0]
    return isinstance(layer, kinds) and package in ("keras", __name__.split(".")[0])


def operation_name(operation: Any) -> str | None:
    """Gives the name of the class of an operation of Keras; None for any other operation."""
    kind = type(operation)
    return kind.__name__ if kind.__module__.startswith("keras.src.") else None


@contextlib.contextmanager
def symbols_for_values() -> Iterator[None]:
    """Lets symbolic tensors stand meanwhile where Keras hands tensors to the backend.

    So `self.scale * x` is recorded as `x * self.scale` is, and so are activations that convert
    their argument first. One thread at a time does so, since it changes Keras for all; it may
    again while it does.
    """
    with _SYMBOLS:
        yield from _symbols_for_values()


def _symbols_for_values() -> Iterator[None]:
    """Changes Keras and, afterwards, changes it back; see `symbols_for_values`."""
    operators = {
        "__add__": keras.ops.add,
        "__sub__": keras.ops.subtract,
        "__mul__": keras.ops.multiply,
        "__truediv__": keras.ops.divide,
        "__matmul__": keras.ops.matmul,
    }
    kept = {name: getattr(keras.Variable, name) for name in operators}

    def either(name: str) -> Any:
        def operator(variable: Any, other: Any) -> Any:
            symbolic = isinstance(other, keras.KerasTensor)
            return (operators if symbolic else kept)[name](variable, other)

        return operator

    convert = backend.convert_to_tensor

    def converted(x: Any, *args: Any, **kwargs: Any) -> Any:
        return x if isinstance(x, keras.KerasTensor) else convert(x, *args, **kwargs)

    for name in operators:
        setattr(keras.Variable, name, either(name))
    backend.convert_to_tensor = converted
    try:
        yield
    finally:
        backend.convert_to_tensor = convert
        for name, operator in kept.items():
            setattr(keras.Variable, name, operator)


class Uncloned:
    """A functional model that `keras.models.clone_model` must not copy layer by layer.

    Mixed into a subclass of `keras.Model`.
    """

    def why_not_cloned(self) -> str:
        """Gives the message of the error, with what to do instead."""
        raise NotImplementedError(f"{type(self).__name__} must define why_not_cloned()")

    def _run_through_graph(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        for given in (*args, *kwargs.values()):
            if str(getattr(given, "__module__", "")).endswith(".models.cloning"):
                raise ValueError(self.why_not_cloned())
        return super()._run_through_graph(inputs, *args, **kwargs)  # pyright: ignore
