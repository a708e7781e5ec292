"""The only file that uses names of Keras and TensorFlow that are not public."""

from collections.abc import Iterator
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
    return [v for inner in flattened_layers(layer) for v in own_learned_variables(inner)]


def own_learned_variables(layer: keras.Layer) -> list:
    """Gives the variables that training learns of a layer itself, not of layers inside it."""
    return list(layer._trainable_variables)


def layers_with_weights_before(tensors: Any) -> list[keras.Layer]:
    """Gives the last layers with weights on every way to some symbolic tensors.

    Models on the way are entered.
    """
    found = {}
    waiting = list(keras.tree.flatten(tensors))
    while waiting:
        operation, index, _ = waiting.pop()._keras_history
        inner = functional_inside(operation)
        if is_functional(inner):
            waiting += keras.tree.flatten(inner.outputs)
        elif getattr(operation, "weights", None):
            found[id(operation)] = operation
        else:
            waiting += operation._inbound_nodes[index].arguments.keras_tensors
    return list(found.values())


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
