"""The models of a CNSN as functional models with layers of their own."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_dynnets.core import graph, keras_private
from keras_dynnets.core.copying import rebuilt
from keras_dynnets.core.deployable import SharesWeights
from keras_dynnets.families.cnsn.sliced import SlicedLayer
from keras_dynnets.families.cnsn.step_down_conv import StepDownConv2D
from keras_dynnets.layers.batch_normalization import BatchNormalization

# Layers of this library that compute what one of Keras's computes, from the same config.
PLAIN = {
    StepDownConv2D: keras.layers.Conv2D,
    BatchNormalization: keras.layers.BatchNormalization,
}


def with_own_layers(network: keras.Model) -> keras.Model:
    """Gives a functional model with layers of its own on the variables of another.

    Args:
        network: a functional model with one input and one output, whose layers are called in
            other models too.

    Returns:
        A model on the same symbolic input, in which no layer has calls of other models. Models
        inside it have layers of their own, too; other layers with layers inside share these (see
        `not_quantised`).
    """
    made: dict[Any, Any] = {}

    def own(called: Any) -> Any:
        if isinstance(called, keras.Layer) and called not in made:
            made[called] = _twin(called, own)
        return made.get(called, called)

    return _made_again(network, network.input, own)


def not_quantised(part: keras.Model) -> keras.Model:
    """Lets a model refuse `quantize` where it would change layers of the model it is a part of.

    Args:
        part: what `with_own_layers` gives, with or without names of classes.

    Returns:
        The model.
    """
    layers = keras_private.flattened_layers(part)
    if blocks := [layer.name for layer in layers if _shares_quantisable(layer)]:
        keras_private.set_untracked(part, "quantize", functools.partial(_refuse, part.name, blocks))
    return part


def _shares_quantisable(layer: keras.Layer) -> bool:
    """Says whether a twin shares layers that `quantize` changes with its original."""
    if type(layer) is keras.Sequential or keras_private.is_plain_functional(layer):
        return False
    inner = keras_private.flattened_layers(layer, include_self=False)
    return any(map(keras_private.quantisable, inner))


def _refuse(name: str, blocks: Sequence[str], *unused: Any, **options: Any) -> None:
    """Stands for the `quantize` of a part that would change the whole."""
    raise ValueError(
        f"{name} is not quantized, since {', '.join(blocks)} would be in the whole model, too; "
        "quantize a copy, detach(i, copy=True)"
    )


def _twin(layer: Any, own: Callable[[Any], Any]) -> keras.Layer:
    """Gives another layer on the same variables; `own` does so for what is inside a model."""
    if isinstance(layer, SlicedLayer):
        return layer.twin()
    if type(layer) is keras.Sequential and layer.built:
        image = keras.Input(batch_shape=layer.inputs[0].shape, dtype=layer.inputs[0].dtype)
        other = keras.Sequential([image, *map(own, layer.layers)], name=layer.name)
    elif keras_private.is_plain_functional(layer):
        other = rebuilt(layer, own)
    else:
        return keras_private.twin(layer)
    keras_private.set_own_flag(other, layer.trainable)
    return other


def plain_copy(network: keras.Model) -> keras.Model:
    """Gives a functional model of plain layers with small weights of their own.

    Args:
        network: a functional model with one input and one output.

    Returns:
        An independent model that computes the same. Its layers have the names of those whose
        weights they used, as long as these are all different.
    """
    names: dict[Any, str] = {
        layer: layer.of.name for layer in network.layers if isinstance(layer, SlicedLayer)
    }
    if len({names.get(layer, layer.name) for layer in network.layers}) < len(network.layers):
        names = {}
    weights: dict[keras.Layer, list[Any]] = {}

    def plain(layer: Any) -> keras.Layer:
        if not layer.variables:
            return keras_private.twin(layer)
        shares: Any = isinstance(layer, SharesWeights)
        values, same = (layer.values(), layer.stand_in()) if shares else (layer.weights, layer)
        kind = PLAIN.get(type(same), type(same))
        copy = kind.from_config({**same.get_config(), "trainable": layer.trainable})
        copy.name = names.get(layer, layer.name)
        weights[copy] = [keras.ops.convert_to_numpy(v) for v in values]
        return copy

    images = keras.Input(batch_shape=network.input.shape, dtype=network.input.dtype)
    copied = _made_again(network, images, plain)
    for layer, values in weights.items():
        graph.set_weights(layer, values)
    return copied


def _made_again(
    network: keras.Model, images: keras.KerasTensor, copy: Callable[[keras.Layer], keras.Layer]
) -> keras.Model:
    """Makes the calls of a network again with a copy of each layer."""
    copies: dict[Any, Any] = {}

    def called(node: Any) -> Any:
        operation = node.operation
        if not isinstance(operation, keras.Layer):
            return operation
        if operation not in copies:
            copies[operation] = copy(operation)
        return copies[operation]

    values = {id(network.input): images}
    graph.run_again([node for node in graph.nodes(network) if not node.is_input], values, called)
    return keras.Model(images, values[id(network.outputs[0])], name=network.name)
