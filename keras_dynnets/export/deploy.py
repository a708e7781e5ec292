"""A trained model to the network that is deployed: batch norm folded, one way to run its blocks."""

import keras
import numpy as np

from keras_dynnets import graph
from keras_dynnets.export.level_switch import LevelSwitch
from keras_dynnets.layers import GroupedConv2D, MultiPath, StackedUnits2D
from keras_dynnets.layers.stacked_units import SideBySide
from keras_dynnets.models import DMNN

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def deploy(model, execution="auto", half=False, runtime="tensorflow"):
    """A functional model for inference only, with its own copy of the weights.

    Batch norm is folded into the convolution before it, dropout is gone, and
    every `MultiPath` runs in the given form.

    Args:
        model: a functional Keras model; of a `DMNN`, give `model.with_gates()`
            where the gates are wanted as a second output.
        execution: "auto", "masked", "sparse", "conditional" or "all" (see `MultiPath`).
        half: whether all values are rounded to float16; they stay float32 variables.
        runtime: "tensorflow", "litert" or "onnx", which grouped convolutions are packed for.

    Returns:
        A `keras.Model` with the same inputs and outputs.
    """
    model = without_slices(model)
    norms = _foldable(model)
    values = {}

    def clone(layer):
        if isinstance(layer, MultiPath):
            paths = [_fold_sequence(path, values, runtime) for path in layer.paths]
            return MultiPath(paths, execution, name=layer.name, dtype="float32")
        if isinstance(layer, StackedUnits2D):
            units = layer.side_by_side
            chains = [_fold_sequence(chain, values, runtime) for chain in units.chains]
            return SideBySide(chains, units.reads, units.order, units.axis, name=layer.name, dtype="float32")
        if isinstance(layer, LevelSwitch):
            networks = [deploy(network, execution, half, runtime) for network in layer.networks]
            return layer.of(networks, execution == "conditional")
        inner = getattr(layer, "_functional", layer)
        if isinstance(inner, keras.Function) and not isinstance(inner, DMNN):
            return deploy(inner, execution, half, runtime)
        return _clone_layer(layer, norms, values, runtime)

    deployed = keras.models.clone_model(model, clone_function=clone, call_function=_call)
    for copy, weights in values.items():
        if weights:
            graph.set_weights(copy, [_rounded(w) if half else w for w in weights])
    for layer in deployed.layers:
        if half and isinstance(layer, keras.layers.Rescaling):
            layer.scale, layer.offset = _rounded(layer.scale).tolist(), _rounded(layer.offset).tolist()
    return deployed


def deploy_parts(parts, execution="auto", half=False, runtime="tensorflow"):
    """Deploys functional models that share layers, so that what they share stays shared.

    Args:
        parts: models on one and the same input, by name; the first by the alphabet has its batch norms folded, the
            others what theirs do beyond it.
        execution, half, runtime: as for `deploy`.

    Returns:
        The deployed models by name.
    """
    images = next(iter(parts.values())).input
    together = deploy(
        keras.Model(images, {name: part.output for name, part in parts.items()}), execution, half, runtime
    )
    outputs = together._outputs_struct
    return {name: keras.Model(together.input, outputs[name], name=part.name) for name, part in parts.items()}


def without_slices(model):
    """The model with plain layers where some use a part of another's weights."""
    sliced = {layer: layer.plain() for layer in model.layers if hasattr(layer, "plain")}
    if not sliced:
        return model
    names = {layer: layer.name for layer in sliced}
    for layer, copy in sliced.items():
        copy.name = names[layer]
    model = keras.models.clone_model(model, clone_function=lambda layer: sliced.get(layer, layer))
    for layer, copy in sliced.items():
        copy.set_weights([keras.ops.convert_to_numpy(v) for v in layer.values()])
    return model


def _rounded(values):
    """Values that half precision has; refuses those beyond its range."""
    values = np.asarray(values, "float32")
    if np.abs(values).max(initial=0) > np.finfo("float16").max:
        raise ValueError(f"it has a weight of {np.abs(values).max():.3g}, and half precision ends at 65504; use fp32")
    return values.astype("float16").astype("float32")


def _call(layer, *args, mask=None, training=None, **kwargs):
    # what stands for a batch norm or a dropout takes neither
    return layer(*args, **kwargs)


def _foldable(model):
    """Convolutions that a batch norm folds into, and these norms: {conv: norm, norm: None}.

    Nothing but batch norms reads such a convolution, and they read nothing else. Where networks that
    share it have norms of their own, that of the first output folds; each other is {norm: conv}, for what it
    does beyond that.
    """
    calls, producers, readers = {}, {}, {}
    for node in graph.nodes(model):
        calls.setdefault(node.operation, []).append(node)
        for tensor in node.outputs:
            producers[id(tensor)] = node.operation
        for tensor in node.arguments.keras_tensors:
            readers.setdefault(id(tensor), []).append(node.operation)
    for tensor in model.outputs:
        readers.setdefault(id(tensor), []).append(None)
    first = _needed(model.outputs[0], model)
    roles = {}
    for conv in [operation for operation in calls if isinstance(operation, CONVOLUTIONS)]:
        following = [reader for node in calls[conv] for reader in readers.get(id(node.outputs[0]), [])]
        norms = sorted(dict.fromkeys(following), key=lambda norm: norm not in first)
        if not norms or not all(_folds(conv, norm) for norm in norms):
            continue
        read = [tensor for norm in norms for node in calls[norm] for tensor in node.arguments.keras_tensors]
        if any(producers[id(tensor)] is not conv for tensor in read):
            continue
        if len(norms) > 1 and np.abs(_scale(norms[0])).min() < 1e-3 * np.abs(_scale(norms[0])).max():
            continue  # the others could not be told from what is left of it
        roles |= {conv: norms[0], norms[0]: None, **dict.fromkeys(norms[1:], conv)}
    return roles


def _needed(tensor, model):
    """The operations that an output comes from."""
    return {node.operation for node in graph.nodes(keras.Model(model.inputs, tensor))}


def _fold_sequence(path, values, runtime):
    """A `Sequential` copy of a path with its batch norms folded."""
    norms = {}
    for layer, following in zip(path.layers, path.layers[1:], strict=False):
        if isinstance(layer, CONVOLUTIONS) and _folds(layer, following):
            norms[layer], norms[following] = following, None
    kept = [layer for layer in path.layers if layer not in norms or norms[layer] is not None]
    return keras.Sequential([_clone_layer(layer, norms, values, runtime) for layer in kept], name=path.name)


def _folds(conv, following):
    return (
        isinstance(following, keras.layers.BatchNormalization)
        and following.axis in (-1, 3)
        and conv.data_format == "channels_last"
        and conv.activation is keras.activations.linear
    )


def _clone_layer(layer, norms, values, runtime):
    """A float32 copy of `layer`, its values to be set in `values` by the copy."""
    if not isinstance(layer, keras.layers.Layer):
        return layer  # an operation of keras.ops, without a state
    config = {**layer.get_config(), "dtype": "float32"}
    if isinstance(layer, keras.layers.Dropout) or (layer in norms and norms[layer] is None):
        return keras.layers.Identity(name=layer.name, dtype="float32")
    weights = layer.get_weights()
    if isinstance(norms.get(layer), CONVOLUTIONS):
        # Depthwise, since a converter would fold a product into the kernel, which then were no longer shared.
        copy = keras.layers.DepthwiseConv2D(1, name=layer.name, dtype="float32")
        values[copy] = _beyond(layer, norms[norms[layer]])
        return copy
    if layer in norms:
        config["use_bias"] = True
        weights = _folded(layer, norms[layer])
    if type(layer) is keras.layers.Conv2D and layer.groups > 1:  # Keras sends it through XLA, which ONNX knows nothing of
        layer = GroupedConv2D.from_config(config)
    if isinstance(layer, GroupedConv2D):  # a converter would leave the assembling of its kernel in the file
        packed, config["groups"] = layer.packed(weights[0], runtime)
        config["pack"] = 1
        weights = [np.asarray(packed), *weights[1:]]
    copy = type(layer).from_config(config)
    values[copy] = weights
    return copy


def _scale(norm):
    """What a batch norm multiplies by."""
    return (np.asarray(norm.gamma) if norm.scale else 1) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)


def _offset(norm):
    return np.asarray(norm.beta) if norm.center else 0


def _beyond(norm, folded):
    """Kernel and bias that make the result of `norm` from that of another norm of the same values."""
    more = _scale(norm) / _scale(folded)
    shift = _scale(norm) * (np.asarray(folded.moving_mean) - np.asarray(norm.moving_mean))
    return [more.reshape(1, 1, -1, 1), shift - more * _offset(folded) + _offset(norm)]


def _folded(conv, norm):
    """Kernel and bias of a convolution with the batch norm after it folded in."""
    mean, scale = np.asarray(norm.moving_mean), _scale(norm)
    kernel, *bias = conv.get_weights()
    shift = ((bias[0] if bias else 0) - mean) * scale + _offset(norm)
    # a depthwise kernel is (height, width, channels, multiplier): its outputs are the last two axes
    per_output = scale.reshape(kernel.shape[-2:]) if isinstance(conv, keras.layers.DepthwiseConv2D) else scale
    return [kernel * per_output, shift]
