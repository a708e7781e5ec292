"""A Puppet-CNN as an ONNX file that holds its puppeteer instead of kernels.

What generates the kernels of a level has constant inputs alone, so that ONNX Runtime computes them once, when it loads
the file.
"""

import keras
import numpy as np

from keras_dynnets.core.conditional import switch_of
from keras_dynnets.core.folding import for_kernel, scale_and_shift
from keras_dynnets.families.puppet.kernel_ode import seeded_noise
from keras_dynnets.families.puppet.level_switch import switching

NOISE = "puppeteer_noise"
COUNT = "puppeteer_noise_size"


def write(model, levels, path, batch_size, tools):
    """Writes the ONNX file of some levels of a `PuppetCNN`.

    Args:
        model: the `PuppetCNN`.
        levels: as for `switching`.
        path: of the file, a `Path`.
        batch_size: 1, or None for any.
        tools: the module of the ONNX format that converts functions and joins graphs.
    """
    from onnx import numpy_helper

    network = switching(model, levels)
    levels = range(len(model.depths)) if levels is None else sorted(levels)
    switch = switch_of(network)
    if switch:
        proto = tools.chooser_of(network, switch)
        graphs = [_level(model, level, 1, tools) for level in levels]
        tools.choose_with_if(proto.graph, graphs)
    else:
        proto = _level(model, *levels, batch_size, tools)
    ode = model.puppet.ode
    for variable in ode.weights:
        values = keras.ops.convert_to_numpy(variable)
        proto.graph.initializer.append(numpy_helper.from_array(values, _name(variable)))
    if ode.state == "noise":
        _make_noise(proto.graph, ode, tools)
    if switch and batch_size is None:
        tools.scan_over_batch(proto.graph)
    tools.save(proto, path)


def _name(variable):
    return f"puppeteer_{variable.name}"


def _level(model, level, batch_size, tools):
    """The network of a level as a graph that reads the puppeteer's values and noise from outside."""
    import tensorflow as tf

    puppet, network = model.puppet, model.materialise(level)
    ode = puppet.ode
    statistics = keras.ops.convert_to_numpy(puppet.statistics)[level]
    scales = {}
    for layer, norm in puppet.plan.folds.items():
        part = puppet.parts[puppet.plan.norms.index(norm)]
        scale, _ = scale_and_shift(*statistics[:, part], norm.epsilon)
        scales[layer] = for_kernel(scale, layer.kernel.shape)
    read = {_name(variable): variable.shape for variable in ode.weights}
    if ode.state == "noise":
        read[NOISE] = ode.noise_shape
    signature = [tf.TensorSpec((batch_size, *network.input_shape[1:]), tf.float32, name="images")]
    signature += [tf.TensorSpec(shape, tf.float32, name=name) for name, shape in read.items()]

    @tf.function(input_signature=signature)
    def call(images, *values):
        with keras.StatelessScope(list(zip(ode.weights, values, strict=False))):
            kernels = puppet.kernels(level, values[-1] if ode.state == "noise" else None)
        generated = [
            (network.get_layer(layer.name).kernel, k * scales.get(layer, 1.0))
            for layer, k in kernels.items()
        ]
        with keras.StatelessScope(generated):
            return {"logits": network(images, training=False)}

    proto = tools.convert_function(call)
    _shorten(proto.graph, {"images", "logits", *read}, tools)
    outside = [value for value in proto.graph.input if value.name == "images"]
    del proto.graph.input[:]
    proto.graph.input.extend(outside)
    return proto


def _shorten(graph, kept, tools):
    """Gives tensors numbers for names: of a generator's many small nodes, names would be most of the bytes."""
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


def _make_noise(graph, ode, tools):
    """Puts nodes in front that make the noise from the number of its values."""
    import onnx
    import tensorflow as tf
    from onnx import numpy_helper

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64, name=COUNT)])
    def call(count):
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
