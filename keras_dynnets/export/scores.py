"""How near the gates of a network are to opening or closing, for each image."""

from typing import Any

import keras
import numpy as np

from keras_dynnets.core import graph, keras_private
from keras_dynnets.core.conditional import DecidesGates, gated_layers
from keras_dynnets.core.dynamic import DynamicModel, logits_network

SMALL = 64 * 64  # largest number of pixels of a small image


def images_at_once(images: np.ndarray) -> int:
    """Gives the number of images to run together, since Keras keeps every tensor between layers.

    Args:
        images: (n, height, width, channels).
    """
    return 32 if images.shape[1] * images.shape[2] <= SMALL else 4


def gate_scores(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Gives the score of every gate in a network, those of networks inside it included.

    Args:
        network: a functional model.
        images: (n, height, width, channels).

    Returns:
        (n, gates); a gate opens where its score is above 0. No gates where no layer of the network
        is of the kind `DecidesGates`.
    """
    if not gated_layers(network):
        return np.zeros((len(images), 0), "float32")
    parts, batch_size = [], images_at_once(images)
    for start in range(0, len(images), batch_size):
        scores: list[np.ndarray] = []
        _run(network, images[start : start + batch_size], scores)
        parts.append(np.concatenate([np.zeros((len(images[start:][:batch_size]), 0)), *scores], 1))
    return np.concatenate(parts)


def nearest(scores: np.ndarray) -> np.ndarray:
    """Gives the smallest distance of a score from 0, in parts of the largest score of its gate.

    Args:
        scores: what `gate_scores` gives.

    Returns:
        (n,); infinite without gates.
    """
    scale = np.maximum(1.0, np.abs(scores).max(0, initial=0))
    return (np.abs(scores) / scale).min(1, initial=np.inf)


def _run(network: keras.Model, images: Any, scores: list[np.ndarray]) -> Any:
    """Runs a network, adds the scores of its gates to a list, and gives its output."""

    def operation(node: Any) -> Any:
        layer: Any = node.operation
        if isinstance(node.operation, DecidesGates):

            def decide(*args: Any, **kwargs: Any) -> Any:
                scores.append(keras.ops.convert_to_numpy(layer.scores(*args, **kwargs)))
                return layer(*args, **kwargs)

            return decide
        if isinstance(layer, DynamicModel) and gated_layers(layer):
            inner = logits_network(layer)
            return lambda x, **unused: _run(inner, x, scores)
        if isinstance(layer, keras.Model) and gated_layers(layer):
            inner = keras_private.functional_inside(layer)
            return lambda x, **unused: _run(inner, x, scores)
        return layer

    values = {id(network.inputs[0]): keras.ops.convert_to_tensor(images)}
    graph.run_again([n for n in graph.nodes(network) if not n.is_input], values, operation)
    return values[id(network.outputs[0])]
