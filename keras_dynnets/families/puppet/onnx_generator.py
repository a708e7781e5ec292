"""A Puppet-CNN as an ONNX file that holds its puppeteer instead of kernels.

The nodes that generate the kernels of a level have only constants as inputs, so that ONNX Runtime
computes the kernels once, when it loads the file.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_dynnets.core.conditional import switch_of
from keras_dynnets.families.puppet.kernel_ode import KernelODE
from keras_dynnets.families.puppet.level_switch import kept_levels, switching
from keras_dynnets.families.puppet.materialise import folded_norms
from keras_dynnets.families.puppet.noise import seeded_noise

if TYPE_CHECKING:
    from keras_dynnets.families.puppet.model import PuppetCNN

NOISE = "puppeteer_noise"
COUNT = "puppeteer_noise_size"


def write(
    model: "PuppetCNN",
    levels: Sequence[int] | None,
    path: Path,
    batch_size: int | None,
    tools: Any,
) -> None:
    """Writes an ONNX file with the puppeteer and some levels of a model.

    Args:
        model: a `PuppetCNN` with levels.
        levels: the levels that the file has, see `switching`.
        path: path of the file.
        batch_size: images in a call; None for any number.
        tools: the `tools` of the ONNX format, which convert functions and join graphs.

    Raises:
        ValueError: a level that does not exist or is given twice.
    """
    from onnx import numpy_helper

    network = switching(model, levels)
    kept = kept_levels(model, levels)
    switch = switch_of(network)
    if switch:
        proto = tools.chooser_of(network, switch)
        graphs = [_level(model, level, 1, tools) for level in kept]
        tools.choose_with_if(proto.graph, graphs)
    else:
        proto = _level(model, kept[0], batch_size, tools)
    ode = model.puppet.ode
    for variable in ode.weights:
        values = keras.ops.convert_to_numpy(variable)
        proto.graph.initializer.append(numpy_helper.from_array(values, _name(variable)))
    if ode.state == "noise":
        _prepend_noise(proto.graph, ode, tools)
    if switch and batch_size != 1:
        tools.scan_over_batch(proto.graph, batch_size)
    tools.save(proto, path)


def _name(variable: Any) -> str:
    """Gives the name of a weight of the puppeteer in the file."""
    return f"puppeteer_{variable.name}"


def _level(model: "PuppetCNN", level: int, batch_size: int | None, tools: Any) -> Any:
    """Converts the network of a level to an ONNX model that reads the puppeteer from outside.

    Its graph names the puppeteer's weights and noise as inputs of nodes, and neither makes them
    nor lists them as inputs of its own.
    """
    import tensorflow as tf

    puppet, network = model.puppet, model.materialise(level)
    ode = puppet.ode
    scales = {layer: scale for layer, (scale, _) in folded_norms(puppet, level).items()}
    shapes = {_name(variable): variable.shape for variable in ode.weights}
    if ode.state == "noise":
        shapes[NOISE] = ode.noise_shape
    signature = [tf.TensorSpec((batch_size, *network.input_shape[1:]), tf.float32, name="images")]
    signature += [tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()]

    @tf.function(input_signature=signature)
    def call(images: Any, *values: Any) -> dict[str, Any]:
        with keras.StatelessScope(list(zip(ode.weights, values, strict=False))):
            kernels = puppet.kernels(level, values[-1] if ode.state == "noise" else None)
        generated = [
            (network.get_layer(layer.name).kernel, kernel * scales.get(layer, 1.0))
            for layer, kernel in kernels.items()
        ]
        with keras.StatelessScope(generated):
            return {"logits": network(images, training=False)}

    proto = tools.convert_function(call)
    _shorten_names(proto.graph, {"images", "logits", *shapes}, tools)
    images = [value for value in proto.graph.input if value.name == "images"]
    del proto.graph.input[:]
    proto.graph.input.extend(images)
    return proto


def _shorten_names(graph: Any, kept: Collection[str], tools: Any) -> None:
    """Renames tensors to numbers, except those in `kept`.

    A generator has many small nodes, whose names would be most of the file.
    """
    tensors = dict.fromkeys(
        name for node in graph.node for name in (*node.input, *node.output) if name
    )
    tensors |= dict.fromkeys(tensor.name for tensor in graph.initializer)
    names = {name: str(i) for i, name in enumerate(name for name in tensors if name not in kept)}
    tools.rename(graph, names)
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.name = ""
    del graph.value_info[:]


def _prepend_noise(graph: Any, ode: KernelODE, tools: Any) -> None:
    """Adds nodes at the start that compute the noise from the number of its values."""
    import onnx
    import tensorflow as tf
    from onnx import numpy_helper

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64, name=COUNT)])
    def call(count: Any) -> dict[str, Any]:
        noise = seeded_noise(tf.range(count), ode.seed)
        return {NOISE: tf.reshape(tf.cast(noise, tf.float32), ode.noise_shape)}

    noise = onnx.compose.add_prefix(
        tools.convert_function(call), "noise/", rename_inputs=False, rename_outputs=False
    ).graph
    nodes = [*noise.node, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(noise.initializer)
    graph.initializer.append(numpy_helper.from_array(np.array(ode.noise_size, "int64"), COUNT))
