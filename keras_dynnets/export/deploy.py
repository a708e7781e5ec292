"""A trained model to the network that is deployed: batch norm folded, one way to run its blocks."""

import keras
import numpy as np

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
        inner = getattr(layer, "_functional", layer)
        if isinstance(inner, keras.Model) and not isinstance(inner, DMNN) and hasattr(inner, "_nodes_by_depth"):
            return deploy(inner, execution, half, runtime)
        return _clone_layer(layer, norms, values, runtime)

    deployed = keras.models.clone_model(model, clone_function=clone, call_function=_call)
    for copy, weights in values.items():
        if weights:
            copy.set_weights([_rounded(w) if half else w for w in weights])
    for layer in deployed.layers:
        if half and isinstance(layer, keras.layers.Rescaling):
            layer.scale, layer.offset = _rounded(layer.scale).tolist(), _rounded(layer.offset).tolist()
    return deployed


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
    """Convolutions that only one batch norm reads, and these norms: {conv: norm, norm: None}.

    A layer that is called twice, or whose result the model gives, folds into nothing.
    """
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    calls, readers = {}, {}
    for node in nodes:
        calls[node.operation] = calls.get(node.operation, 0) + 1
        for tensor in node.arguments.keras_tensors:
            readers.setdefault(id(tensor), []).append(node.operation)
    for tensor in model.outputs:
        readers.setdefault(id(tensor), []).append(None)
    pairs = {}
    for node in nodes:
        conv = node.operation
        if isinstance(conv, CONVOLUTIONS) and calls[conv] == 1:
            following = readers.get(id(node.outputs[0]), [])
            if len(following) == 1 and _folds(conv, following[0]) and calls[following[0]] == 1:
                pairs[conv], pairs[following[0]] = following[0], None
    return pairs


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
    if layer in norms:
        config["use_bias"] = True
        weights = _folded(layer, norms[layer])
    if isinstance(layer, GroupedConv2D):  # a converter would leave the assembling of its kernel in the file
        packed, config["groups"] = layer.packed(weights[0], runtime)
        config["pack"] = 1
        weights = [np.asarray(packed), *weights[1:]]
    copy = type(layer).from_config(config)
    values[copy] = weights
    return copy


def _folded(conv, norm):
    """Kernel and bias of a convolution with the batch norm after it folded in."""
    mean, variance = (np.asarray(v) for v in (norm.moving_mean, norm.moving_variance))
    scale = 1 / np.sqrt(variance + norm.epsilon) * (np.asarray(norm.gamma) if norm.scale else 1)
    kernel, *bias = conv.get_weights()
    shift = ((bias[0] if bias else 0) - mean) * scale + (np.asarray(norm.beta) if norm.center else 0)
    # a depthwise kernel is (height, width, channels, multiplier): its outputs are the last two axes
    per_output = scale.reshape(kernel.shape[-2:]) if isinstance(conv, keras.layers.DepthwiseConv2D) else scale
    return [kernel * per_output, shift]
