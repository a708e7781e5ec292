"""The only file that uses names of Keras and TensorFlow that are not public."""

from collections.abc import Iterator
from typing import Any

import keras


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
    return [v for inner in flattened_layers(layer) for v in inner._trainable_variables]


def quantised(model: keras.Layer) -> list[str]:
    """Lists how the weights of layers in a model are quantised, such as "int8"; none are: []."""
    modes = {getattr(layer, "quantization_mode", None) for layer in flattened_layers(model)}
    return sorted(str(mode) for mode in modes - {None})


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
