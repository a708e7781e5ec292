"""From a trained model to the network that is deployed: batch norm folded, dropout gone."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_dynnets.core import graph, keras_private
from keras_dynnets.core.conditional import gated_layers
from keras_dynnets.core.copying import copied, rebuilt
from keras_dynnets.core.deployable import Deployable, with_own_weights
from keras_dynnets.core.dynamic import DynamicModel, logits_network
from keras_dynnets.core.folding import can_fold, for_kernel, transform_of
from keras_dynnets.core.layer_kinds import CONVOLUTIONS
from keras_dynnets.export.formats.base import Format
from keras_dynnets.layers.grouped_conv import GroupedConv2D, packing

LORA = ("lora_rank", "lora_alpha")  # of the config of a layer that learns a low-rank change
SMALL_SCALE = 1e-3  # a norm that scales a channel by less than this part of another is not folded


def deploy(
    model: keras.Model,
    execution: str = "auto",
    half: bool = False,
    target: Format | None = None,
    batch_size: int | None = None,
) -> keras.Model:
    """Gives a functional model for inference only, with its own copy of the weights.

    Batch norm is folded into the convolution before it, dropout is gone, and layers with gated
    branches run in the given form.

    Args:
        model: a functional Keras model; for a model of a family, its `inference_network()`.
        execution: how gated branches run (see `core.conditional.GatedBranches`).
        half: whether all values are rounded to float16; they stay float32 variables.
        target: the `Format` that the network is for; None for TensorFlow.
        batch_size: images in a call of the file; None for any number.

    Returns:
        A `keras.Model` with the same inputs and outputs.

    Raises:
        ValueError: a weight beyond the range of float16, where `half` is asked for.
    """
    return _Deployment(execution, half, target, batch_size).network(model)


def deploy_parts(
    parts: Mapping[str, keras.Model],
    execution: str = "auto",
    half: bool = False,
    target: Format | None = None,
    batch_size: int | None = None,
) -> dict[str, keras.Model]:
    """Deploys functional models that share layers, so that what they share stays shared.

    Args:
        parts: models on one and the same input, by name. The batch norms of the first by the
            alphabet are folded; the others get layers for what theirs do beyond it.
        execution: see `deploy`.
        half: see `deploy`.
        target: see `deploy`.
        batch_size: see `deploy`.

    Returns:
        The deployed models by name.
    """
    images = next(iter(parts.values())).input
    joined = keras.Model(images, {name: part.output for name, part in parts.items()})
    together = deploy(joined, execution, half, target, batch_size)
    outputs = keras_private.structured_outputs(together)
    return {
        name: keras.Model(together.input, outputs[name], name=part.name)
        for name, part in parts.items()
    }


class _Deployment:
    """One deployment, which layers of the kind `Deployable` ask for copies of their parts."""

    def __init__(self, execution: str, half: bool, target: Format | None, batch_size: int | None):
        self.execution = execution
        self.half = half
        self.target = target
        self.batch_size = batch_size
        self.pending: dict[keras.Layer, list] = {}  # copies that get their weights once built

    def runs_always(self, macs: int) -> bool:
        return self.target is not None and self.target.runs_always(macs, self.batch_size)

    def network(self, network: keras.Model) -> keras.Model:
        network = with_own_weights(network)
        norms = _foldable(network)

        def clone(layer):
            if isinstance(layer, Deployable):
                return layer.deployed(self)
            if isinstance(layer, DynamicModel) and gated_layers(layer):
                return self.network(logits_network(layer))
            inner = keras_private.functional_inside(layer)
            if isinstance(inner, keras.Function) and not isinstance(inner, DynamicModel):
                return self.network(inner)
            return self._copy(layer, norms)

        deployed = rebuilt(network, clone, _call)
        self._set_weights()
        for layer in deployed.layers:
            if self.half and isinstance(layer, keras.layers.Rescaling):
                layer.scale = _rounded(layer.scale).tolist()
                layer.offset = _rounded(layer.offset).tolist()
        return deployed

    def chain(self, layers: keras.Sequential) -> keras.Sequential:
        norms = {}
        for layer, following in zip(layers.layers, layers.layers[1:], strict=False):
            if can_fold(layer, following):
                norms[layer], norms[following] = following, None
        kept = [layer for layer in layers.layers if norms.get(layer, layer) is not None]
        return keras.Sequential([self._copy(layer, norms) for layer in kept], name=layers.name)

    def _copy(self, layer: Any, norms: Mapping[Any, Any]) -> Any:
        """Gives a float32 copy of a layer, whose weights are set when it is built."""
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation of keras.ops, without a state
        changes: dict[str, Any] = {"dtype": "float32"}
        if getattr(layer, "lora_enabled", False):
            changes |= dict.fromkeys(LORA)
        folded_away = layer in norms and norms[layer] is None
        if folded_away or isinstance(layer, keras.layers.Dropout):
            return keras.layers.Identity(name=layer.name, dtype="float32")
        weights = merged_weights(layer)
        if isinstance(norms.get(layer), CONVOLUTIONS):
            # Depthwise, since a converter would fold a product into the kernel, which then would
            # no longer be shared.
            copy = keras.layers.DepthwiseConv2D(1, name=layer.name, dtype="float32")
            self.pending[copy] = _beyond(layer, norms[norms[layer]])
            return copy
        if layer in norms:
            changes["use_bias"] = True
            weights = _folded(layer, norms[layer])
        # Keras sends grouped convolutions through XLA, which ONNX does not know.
        if type(layer) is keras.layers.Conv2D and layer.groups > 1:
            layer = copied(layer, GroupedConv2D, **changes)
        if isinstance(layer, GroupedConv2D):
            # Packed now: a converter would leave the packing of the kernel in the file.
            rule = self.target.packing if self.target else packing
            packed, changes["groups"] = layer.packed(weights[0], rule)
            changes["pack"] = 1
            weights = [np.asarray(packed), *weights[1:]]
        copy = copied(layer, **changes)
        if isinstance(copy, GroupedConv2D) and self.target is not None:
            # TensorFlow itself does not run them on processors where oneDNN is off.
            copy.one_operation = self.target.own_runtime
        return self.holding(copy, weights)

    def holding(self, layer: Any, weights: list[Any]) -> Any:
        self.pending[layer] = weights
        return layer

    def _set_weights(self) -> None:
        """Gives the copies that are built their weights; those inside other layers wait."""
        for copy, weights in list(self.pending.items()):
            if weights and not copy.built:
                continue
            if weights:
                graph.set_weights(copy, [_rounded(w) if self.half else w for w in weights])
            del self.pending[copy]


def merged_weights(layer: Any) -> list[np.ndarray]:
    """Gives the weights of a layer; a kernel with its low-rank change (`enable_lora`) added."""
    weights = layer.get_weights()
    if not getattr(layer, "lora_enabled", False):
        return weights
    merged = [layer.kernel, *([] if layer.bias is None else [layer.bias])]
    return [np.asarray(keras.ops.convert_to_numpy(value), "float32") for value in merged]


def _rounded(values: Any) -> np.ndarray:
    """Rounds values to half precision; refuses those beyond its range."""
    values = np.asarray(values, "float32")
    largest = np.abs(values).max(initial=0)
    if largest > np.finfo("float16").max:
        raise ValueError(
            f"it has a weight of {largest:.3g}, and half precision ends at 65504; use fp32"
        )
    return values.astype("float16").astype("float32")


def _call(layer, *args, mask=None, training=None, **kwargs):
    """Calls a copy without `mask` and `training`, which what replaces a norm does not take."""
    return layer(*args, **kwargs)


def _foldable(model: keras.Model) -> dict:
    """Finds the convolutions that a batch norm folds into.

    Nothing but batch norms reads such a convolution, and they read nothing else. Where networks
    that share it have norms of their own, that of the first output is folded.

    Returns:
        A dict with `{convolution: norm, norm: None}` for each that folds and
        `{norm: convolution}` for each other norm of the same convolution, which gets a layer for
        what it does beyond the folded one.
    """
    calls = graph.CallGraph(model)
    first = _needed(model.outputs[0], model)
    roles = {}
    for conv in dict.fromkeys(node.operation for node in calls.nodes):
        if not isinstance(conv, CONVOLUTIONS):
            continue
        results = [node.outputs[0] for node in calls.calls_of(conv)]
        readers = [reader.operation for result in results for reader in calls.readers(result)]
        norms = sorted(dict.fromkeys(readers), key=lambda norm: norm not in first)
        read_elsewhere = any(calls.is_output(result) for result in results)
        if not norms or read_elsewhere or not all(can_fold(conv, norm) for norm in norms):
            continue
        reading = [node for norm in norms for node in calls.calls_of(norm)]
        read = [tensor for node in reading for tensor in node.arguments.keras_tensors]
        producers = [calls.producer(tensor) for tensor in read]
        if any(node is None or node.operation is not conv for node in producers):
            continue
        scale = np.abs(transform_of(norms[0])[0])
        if len(norms) > 1 and scale.min() < SMALL_SCALE * scale.max():
            continue  # the other norms could not be computed from what is left of it
        roles |= {conv: norms[0], norms[0]: None, **dict.fromkeys(norms[1:], conv)}
    return roles


def _needed(tensor: keras.KerasTensor, model: keras.Model) -> set:
    """Gives the operations that an output is computed by."""
    return {node.operation for node in graph.nodes(keras.Model(model.inputs, tensor))}


def _beyond(norm: Any, folded: Any) -> list[np.ndarray]:
    """Gives kernel and bias that turn the result of one batch norm into that of another."""
    (own_scale, own_shift), (scale, shift) = transform_of(norm), transform_of(folded)
    more = own_scale / scale
    return [more.reshape(1, 1, -1, 1), own_shift - more * shift]


def _folded(conv: Any, norm: Any) -> list[np.ndarray]:
    """Gives kernel and bias of a convolution with the batch norm after it folded in."""
    scale, shift = transform_of(norm)
    kernel, *bias = merged_weights(conv)
    bias = shift + (bias[0] * scale if bias else 0)
    return [kernel * for_kernel(scale, kernel.shape), bias]
