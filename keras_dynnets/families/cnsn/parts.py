"""The models of a CNSN as functional models with layers of their own."""

from collections.abc import Callable
from typing import Any

import keras

from keras_dynnets.core import graph, keras_private
from keras_dynnets.core.deployable import SharesWeights
from keras_dynnets.families.cnsn.sliced import SliceOfLayer
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
        A model on the same symbolic input, in which no layer has calls of other models.
    """
    return _made_again(network, network.input, _twin)


def _twin(layer: keras.Layer) -> keras.Layer:
    return layer.twin() if isinstance(layer, SliceOfLayer) else keras_private.twin(layer)


def plain_copy(network: keras.Model) -> keras.Model:
    """Gives a functional model of plain layers with small weights of their own.

    Args:
        network: a functional model with one input and one output.

    Returns:
        An independent model that computes the same. Its layers have the names of those whose
        weights they used, as long as these are all different.
    """
    names: dict[Any, str] = {
        layer: layer.of.name for layer in network.layers if isinstance(layer, SliceOfLayer)
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
