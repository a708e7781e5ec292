"""A branch of a puppet as a plain network with constant kernels."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_dynnets.core import graph
from keras_dynnets.core.copying import copied
from keras_dynnets.core.folding import for_kernel, scale_and_shift
from keras_dynnets.families.puppet.puppet_layer import Puppet

if TYPE_CHECKING:
    from keras_dynnets.families.puppet.levelled_model import LevelledModel


def folded_norms(puppet: Puppet, index: int) -> dict[keras.Layer, tuple[np.ndarray, np.ndarray]]:
    """Gives the scale and shift that fold the norms of a branch into the convolutions before them.

    Args:
        puppet: a built `Puppet`.
        index: index of the branch.

    Returns:
        By the template's convolutions: the factor for the kernel, in a shape that it can be
        multiplied by, and the bias.
    """
    statistics = ops.convert_to_numpy(puppet.statistics)[index]
    folded = {}
    for layer, norm in puppet.plan.folds.items():
        channels = puppet.norm_slices[puppet.plan.norms.index(norm)]
        mean, variance = statistics[:, channels]
        scale, bias = scale_and_shift(mean, variance, norm.epsilon)
        folded[layer] = for_kernel(scale, layer.kernel.shape), bias
    return folded


def materialised(puppet: Puppet, index: int, name: str) -> keras.Model:
    """Builds a branch of a puppet as a plain Keras CNN.

    A batch norm is folded into the generated convolution before it if nothing else reads the
    convolution's result and the convolution has no activation.

    Args:
        puppet: a built `Puppet`.
        index: index of the branch. Where each image has kernels of its own, the network gets
            those of an image of rank 0.5.
        name: name of the model.

    Returns:
        A functional `keras.Model` with copies of all weights.
    """
    plan = puppet.plan
    statistics = ops.convert_to_numpy(puppet.statistics)[index]
    norms = {
        norm: statistics[:, channels]
        for norm, channels in zip(plan.norms, puppet.norm_slices, strict=True)
    }
    kernels = {
        layer: ops.convert_to_numpy(kernel) for layer, kernel in puppet.kernels(index).items()
    }
    folded = folded_norms(puppet, index)
    copies, contents = {}, {}

    def copy_of(layer: Any) -> Any:
        if not isinstance(layer, keras.Layer):
            return layer  # an operation of keras.ops, which has no state
        if layer in plan.folds.values():
            return keras.layers.Identity(name=layer.name)
        changes = {}
        if layer in kernels:
            changes["use_bias"] = layer in folded
            weights = [kernels[layer]]
            if layer in folded:
                scale, bias = folded[layer]
                weights = [kernels[layer] * scale, bias]
        elif layer in norms:
            changes = {"center": False, "scale": False}
            weights = list(norms[layer])
        else:
            weights = layer.get_weights()
        copy = copied(layer, **changes)
        contents[copy] = weights
        return copy

    def operation(node: Any) -> Callable:
        if node.operation not in copies:
            copies[node.operation] = copy_of(node.operation)
        copy = copies[node.operation]
        return copy if node.operation not in norms else lambda x, **unused: copy(x)

    images = keras.Input(plan.network.input_shape[1:], name="images")
    values = {id(plan.network.inputs[0]): images}
    for segment in plan.segments:
        if segment.runs(puppet.branches[index].dropped):
            graph.run_again(segment.nodes, values, operation)
        else:
            values[id(segment.target)] = values[id(segment.source)]
    network = keras.Model(images, values[id(plan.network.outputs[0])], name=name)
    for layer, weights in contents.items():
        if weights:
            graph.set_weights(layer, weights)
    return network


class PlainNetworks:
    """Keeps the plain networks of a model's levels until its weights change."""

    def __init__(self):
        self._networks: dict[int, keras.Model] = {}
        self._weights: list[np.ndarray] | None = None

    def of(self, model: "LevelledModel", level: int) -> keras.Model:
        """Gives the plain network of a level, built anew if the weights have changed.

        Args:
            model: the model, the same in every call.
            level: an index into `model.depths`.
        """
        weights = [ops.convert_to_numpy(v).copy() for v in model.puppet.variables]
        if self._weights is None or not all(map(np.array_equal, weights, self._weights)):
            self._networks, self._weights = {}, weights
        if level not in self._networks:
            self._networks[level] = model.materialise(level)
        return self._networks[level]
