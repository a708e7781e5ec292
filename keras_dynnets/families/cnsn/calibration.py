"""Batch-norm statistics from images, for models that share layers."""

import functools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core import graph


def set_statistics(models: Iterable[keras.Model], images: Any, batch_size: int) -> None:
    """Sets all batch-norm statistics of models by one pass of each over the same images.

    The mean over all batches, weighted by their sizes, takes the place of a moving average. A
    batch norm that several models run gets the mean over these models.

    Args:
        models: functional models from images to one output.
        images: (n, height, width, channels) in [0, 255].
        batch_size: images in a batch.

    Raises:
        ValueError: there are no images.
    """
    if not len(images):
        raise ValueError("calibration needs images, some hundred of the kind that will be seen")
    seen: dict[keras.Layer, int] = {}  # images that each batch norm has read
    momenta: dict[keras.Layer, float] = {}

    def operation(node: Any, batch: Any) -> Any:
        layer = node.operation
        if isinstance(layer, keras.layers.Dropout):
            return lambda x, **unused: x
        if not isinstance(layer, keras.layers.BatchNormalization):
            return layer
        momenta.setdefault(layer, layer.momentum)
        before = seen.get(layer, 0)
        seen[layer] = before + len(batch)
        layer.momentum = before / seen[layer]
        return functools.partial(layer, training=True)

    try:
        for model in models:
            nodes = [node for node in graph.nodes(model) if not node.is_input]
            for i in range(0, len(images), batch_size):
                batch = ops.convert_to_tensor(np.asarray(images[i : i + batch_size], "float32"))
                called = functools.partial(operation, batch=batch)
                graph.run_again(nodes, {id(model.inputs[0]): batch}, called, training=False)
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
