"""A network of generated kernels to a plain one with constant kernels."""

import keras
from keras import ops

from keras_dynnets.core import graph
from keras_dynnets.core.folding import for_kernel, scale_and_shift


def materialised(puppet, place, name):
    """One of a puppet's networks as a plain Keras CNN.

    A batch norm is folded into the generated convolution before it, where nothing else reads that and it has no activation.

    Args:
        puppet: a `Puppet`. place: of the branch; where kernels are each image's own, those of the middling complexity.
        name: of the model.

    Returns:
        A functional `keras.Model` with copies of all weights.
    """
    branch = puppet.branches[place]
    statistics = ops.convert_to_numpy(puppet.statistics)[place]
    norms = {
        norm: statistics[:, part]
        for norm, part in zip(puppet.plan.norms, puppet.parts, strict=True)
    }
    kernels = {
        layer: ops.convert_to_numpy(kernel) for layer, kernel in puppet.kernels(place).items()
    }
    folded = puppet.plan.folds
    made, contents = {}, {}

    def copy_of(layer):
        if not isinstance(layer, keras.Layer):
            return layer  # an operation of keras.ops, without a state
        if layer in folded.values():
            return keras.layers.Identity(name=layer.name)
        config = layer.get_config()
        if layer in kernels:
            config["use_bias"] = layer in folded
            weights = [kernels[layer]]
            if layer in folded:
                scale, bias = scale_and_shift(*norms[folded[layer]], folded[layer].epsilon)
                weights = [kernels[layer] * for_kernel(scale, kernels[layer].shape), bias]
        elif layer in norms:
            config |= {"center": False, "scale": False}
            weights = list(norms[layer])
        else:
            weights = layer.get_weights()
        copy = type(layer).from_config(config)
        contents[copy] = weights
        return copy

    def operation(node):
        if node.operation not in made:
            made[node.operation] = copy_of(node.operation)
        copy = made[node.operation]
        return copy if node.operation not in norms else lambda x, **unused: copy(x)

    images = keras.Input(puppet.plan.network.input_shape[1:], name="images")
    values = {id(puppet.plan.network.inputs[0]): images}
    for piece in puppet.plan.pieces:
        if piece.runs(branch.dropped):
            graph.run_again(piece.nodes, values, operation)
        else:
            values[id(piece.target)] = values[id(piece.source)]
    network = keras.Model(images, values[id(puppet.plan.network.outputs[0])], name=name)
    for layer, weights in contents.items():
        if weights:
            graph.set_weights(layer, weights)
    return network
