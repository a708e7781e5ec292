"""Copies of layers, and networks made again of other layers."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from keras_dynnets.core import graph, keras_private

ATTRIBUTES = ("name", "trainable", "dtype")  # of every layer


def copied(layer: keras.Layer, kind: Any = None, **changes: Any) -> Any:
    """Gives a copy of a layer, not yet built, without the values of its weights.

    Functions that the layer has been given, such as an activation of the user's own, need not be
    registered with Keras.

    Args:
        layer: any layer, or a model that is used as one.
        kind: class of the copy; None for that of the layer.
        **changes: values that its config gets, such as `name` or `dtype`.

    Returns:
        The copy. A layer without weights that cannot be made from its config, such as one of the
        user's own, is given back itself: it computes the same in every network.

    Raises:
        ValueError: a layer with weights cannot be made from its config.

    Example:
        >>> copy = copied(keras.layers.Conv2D(8, 3, name="conv"), name="another")
    """
    if type(layer) is keras.layers.Lambda:
        # Its config would hold the function as bytes, which Keras refuses to run.
        return keras_private.copied_lambda(layer, **changes)
    try:
        return _named_as(_from_config(layer, kind or type(layer), changes), layer, changes)
    except Exception as error:  # whatever the user's own code raises
        if not layer.weights:
            return layer
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"layer {layer.name!r}, a {type(layer).__name__} with weights, cannot be copied from "
            f"its config ({reason}): give the class a get_config() with all arguments of its "
            "__init__, and register it with keras.saving.register_keras_serializable()"
        ) from error


def copied_call(called: Any) -> Any:
    """Gives a copy of a layer, and an operation of `keras.ops`, which has no state, itself."""
    return copied(called) if isinstance(called, keras.Layer) else called


def _from_config(layer: keras.Layer, kind: Any, changes: dict[str, Any]) -> Any:
    """Makes a layer from the config of another one, with some values changed."""
    config = layer.get_config()
    # What Keras notes of a class without a get_config() of its own has only what was given.
    changes = {key: v for key, v in changes.items() if key in config or key not in ATTRIBUTES}
    try:
        return kind.from_config({**config, **changes})
    except Exception:  # a name in the config that Keras does not know
        if isinstance(layer, keras.Sequential):
            return keras.Sequential([copied(inner) for inner in layer.layers])
        if keras_private.is_plain_functional(layer):
            return rebuilt(layer, copied_call)
        given = {key: getattr(layer, key, None) for key in config}
        given = {key: value for key, value in given.items() if _is_function(value)}
        return kind.from_config({**config, **given, **changes})


def _named_as(copy: Any, layer: keras.Layer, changes: dict[str, Any]) -> Any:
    """Gives a copy the name, flag and policy of its original, which not every config has."""
    copy.name = changes.get("name", layer.name)
    if isinstance(copy, keras.Model):
        return copy
    trainable = changes.get("trainable", layer.trainable)
    policy = keras.dtype_policies.get(changes.get("dtype", layer.dtype_policy))
    if copy.trainable != trainable:
        copy.trainable = trainable
    if copy.dtype_policy != policy:
        copy.dtype_policy = policy
    return copy


def _is_function(value: Any) -> bool:
    """Says whether a value is a function, initializer, regularizer or constraint."""
    return callable(value) and not isinstance(value, keras.Layer)


def rebuilt(
    network: keras.Model,
    layer_of: Callable[[Any], Any],
    call: Callable | None = None,
    inputs: Any = None,
) -> keras.Model:
    """Makes a functional model again, on other inputs.

    Other than `keras.models.clone_model` it does not compile the result, for which the losses
    and metrics of the user would have to be copied.

    Args:
        network: a functional model.
        layer_of: gives what takes the place of a layer or operation; it is asked once for each.
        call: calls that, `call(layer, *args, **kwargs)`; None for a plain call.
        inputs: symbolic inputs in the structure of the network's; None for new ones of the same
            names.

    Returns:
        A functional model with outputs of the same names and structure.

    Example:
        >>> copy = rebuilt(network, copied_call)
    """
    made: dict[Any, Any] = {}

    def operation(node: Any) -> Any:
        if node.operation not in made:
            made[node.operation] = layer_of(node.operation)
        layer = made[node.operation]
        return layer if call is None else functools.partial(call, layer)

    if inputs is None:
        inputs = keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), network.input
        )
    old, new = keras.tree.flatten(network.input), keras.tree.flatten(inputs)
    values = {id(a): b for a, b in zip(old, new, strict=True)}
    calls = [node for node in graph.nodes(network) if not node.is_input]
    graph.run_again(calls, values, operation)
    structure = keras_private.structured_outputs(network)
    outputs = keras.tree.map_structure(lambda tensor: values[id(tensor)], structure)
    return keras.Model(inputs, outputs, name=network.name)
