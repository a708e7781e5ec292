"""The only file that uses names of Keras and TensorFlow that are not public."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras


def is_functional(model: Any) -> bool:
    """Says whether a model is what `keras.Model(inputs, outputs)` makes, or a subclass of it."""
    return isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth")


def is_plain_functional(model: Any) -> bool:
    """Says whether a model is what `keras.Model(inputs, outputs)` makes itself, not a subclass."""
    return isinstance(model, keras.Model) and type(model).__name__ == "Functional"


def functional_inside(model: Any) -> Any:
    """Gives the functional model that a built `Sequential` runs; any other object unchanged."""
    return getattr(model, "_functional", None) or model


def nodes_by_depth(network: keras.Model) -> dict[int, list]:
    """Gives the calls of a functional model by their depth, the outputs at depth 0."""
    return network._nodes_by_depth


def flattened_layers(model: keras.Layer, include_self: bool = True) -> Iterator[keras.Layer]:
    """Gives a layer and all layers inside it, outermost first."""
    return model._flatten_layers(include_self=include_self)


def structured_outputs(model: keras.Model) -> Any:
    """Gives the symbolic outputs of a functional model in the structure that it returns."""
    return model._outputs_struct


def learned_variables(layer: keras.Layer) -> list:
    """Gives the variables that training learns, frozen layers included.

    The public `trainable_weights` leaves out frozen layers.
    """
    return [v for inner in flattened_layers(layer) for v in inner._trainable_variables]


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
        if type(value).__name__.startswith("Tracked"):
            vars(other)[key] = type(value)(value, other._tracker)
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


def takes_training(operation: Any) -> bool:
    """Says whether the `call` of a layer has the argument `training`."""
    return "training" in getattr(operation, "_call_context_args", {})


def add_loss(layer: keras.Layer, loss: Any) -> None:
    """Adds a loss to a functional model, whose own `add_loss` refuses to."""
    keras.layers.Layer.add_loss(layer, loss)


def scaled_for_replicas(model: keras.Model, loss: Any) -> Any:
    """Scales a loss by the number of replicas of a `tf.distribute` strategy, as Keras does."""
    return model._aggregate_additional_loss(loss)


def function_graph(graph: Any, name: str) -> Any:
    """Gives the graph of a function that a TensorFlow graph calls by its name."""
    return graph._get_function(name).graph


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
