"""Batch-norm statistics from images, for models that share layers."""

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from keras_dynnets.core import graph, keras_private
from keras_dynnets.core.dynamic import DynamicModel
from keras_dynnets.core.images import checked_shape


class _Statistics:
    """Mean and variance of what batch norms read, over all their calls.

    They are set when all images have passed. Whether a layer is frozen makes no difference.

    Attributes:
        found: number of images, mean and variance by the batch norm.
        before: the variables of each batch norm with the values that they had.
    """

    def __init__(self):
        self.found: dict[keras.Layer, tuple[int, Any, Any]] = {}
        self.before: dict[keras.Layer, list[tuple[Any, Any]]] = {}

    def run(self, network: keras.Model, *args: Any, **unused: Any) -> Any:
        """Runs a functional model, every batch norm in it with the statistics of the batch."""
        values = {
            id(a): b for a, b in zip(network.inputs, keras.tree.flatten((args, {})), strict=True)
        }
        nodes = [node for node in graph.nodes(network) if not node.is_input]
        graph.run_again(nodes, values, self._called, training=False)
        outputs = keras_private.structured_outputs(network)
        return keras.tree.map_structure(lambda tensor: values[id(tensor)], outputs)

    def _called(self, node: Any) -> Callable:
        layer = node.operation
        inner = keras_private.functional_inside(layer)
        if isinstance(layer, keras.layers.Dropout):
            return lambda x, **unused: x
        if _can_be_set(layer):
            return functools.partial(self._normalised, layer)
        if isinstance(inner, keras.Function) and not isinstance(inner, DynamicModel):
            return functools.partial(self.run, inner)
        return layer

    def _normalised(self, layer: Any, x: Any, **unused: Any) -> Any:
        """Normalises a batch by its own statistics and takes them into the mean over all."""
        variables = layer.moving_mean, layer.moving_variance
        self.before.setdefault(layer, [(v, ops.convert_to_numpy(v).copy()) for v in variables])
        axes = [axis for axis in range(len(x.shape)) if axis != layer.axis % len(x.shape)]
        own = ops.moments(ops.cast(x, "float32"), axes)
        count, *total = self.found.get(layer, (0, 0.0, 0.0))
        together = count + len(x)
        total = [(count * t + len(x) * o) / together for t, o in zip(total, own, strict=True)]
        self.found[layer] = (together, *total)
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)
        return layer(x, training=False)

    def take_back(self) -> None:
        """Gives all batch norms the statistics that they had."""
        for variable, value in (pair for pairs in self.before.values() for pair in pairs):
            variable.assign(value)

    def keep(self) -> None:
        """Gives all batch norms the statistics that were found."""
        for layer, (_, mean, variance) in self.found.items():
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)


def set_statistics(models: Iterable[keras.Model], images: Any, batch_size: int) -> None:
    """Sets all batch-norm statistics of models by one pass of each over the same images.

    The mean over all batches, weighted by their sizes, takes the place of a moving average. A
    batch norm that several models run, or one model several times, gets the mean over these calls.
    Frozen layers get statistics, too. After an error all statistics are as before.

    Args:
        models: functional models from images to one output.
        images: (n, height, width, channels) in [0, 255].
        batch_size: images in a batch.

    Raises:
        ValueError: there are no images, or they have another shape than those of the models.

    Warns:
        UserWarning: batch norms inside layers of the user's own, which keep their statistics.
    """
    if not len(images):
        raise ValueError("calibration needs images, some hundred of the kind that will be seen")
    models, statistics = list(models), _Statistics()
    images = checked_shape(images, models[0].input_shape[1:])
    try:
        for model in models:
            for i in range(0, len(images), batch_size):
                batch = ops.convert_to_tensor(images[i : i + batch_size].astype("float32"))
                statistics.run(model, batch)
    except BaseException:
        statistics.take_back()
        raise
    statistics.keep()
    all_layers = (layer for model in models for layer in keras_private.flattened_layers(model))
    left = dict.fromkeys(
        layer.name
        for layer in all_layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer not in statistics.found
    )
    if left:
        warnings.warn(
            f"calibrate has set {len(statistics.found)} batch norms and left {len(left)} as they "
            f"were, which it cannot reach inside other layers: {', '.join(left)}",
            stacklevel=3,
        )


def _can_be_set(layer: Any) -> bool:
    """Says whether a layer is a batch norm that keeps a mean and a variance."""
    return isinstance(layer, keras.layers.BatchNormalization) and not layer.renorm
