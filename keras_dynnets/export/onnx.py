"""ONNX: an `If` for every sub-block; over a batch, a `Scan` image by image.

Measured in ONNX Runtime, running a batch image by image costs less than
gathering the rows of every sub-block: a convolution does not care, copies do.
"""

import logging
from collections import Counter

import keras
import numpy as np

from keras_dynnets.export.deploy import deploy, deploy_parts
from keras_dynnets.export.level_switch import LevelSwitch
from keras_dynnets.export.inference import inference_function
from keras_dynnets.export.requirements import require
from keras_dynnets.graph import nodes
from keras_dynnets.layers import MultiPath

WEIGHTS = "weights.data"  # of several files in a folder
ALIGNMENT = 64  # bytes, of the values there; smaller ones stay in the files
OPSET = 17  # the newest in which tf2onnx takes changes of layout through the pooling of the controllers


def write(network, path, batch_size, half, outputs):
    """Converts `network` to an ONNX file.

    In half precision weights are stored as float16, each with a cast that the runtime
    unfolds when it loads the file.
    """
    onnx = require("onnx")
    from keras_dynnets.export import onnx_gates

    gated = any(isinstance(layer, MultiPath) for layer in network.layers)
    if gated:
        proto = _convert(deploy(_with_gates(network), "all", half, "onnx"), 1, {*outputs, "gates"})
        onnx_gates.gate_with_if(proto.graph)
        _keep_outputs(proto.graph, outputs)
        if batch_size is None:
            onnx_gates.scan_over_batch(proto.graph)
    elif switch := switch_of(network):
        proto = _with_levels(network, switch, half)
        if batch_size is None:
            onnx_gates.scan_over_batch(proto.graph)
    else:
        proto = _convert(deploy(network, half=half, runtime="onnx"), batch_size, outputs)
    if half:
        _store_half(proto.graph)
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def _with_levels(network, switch, half):
    """A Puppet-CNN for one image: what chooses the level, and the levels' networks each behind an `If`."""
    from keras_dynnets.export import onnx_levels

    proto = chooser_of(network, switch)
    networks = [_convert(deploy(n, half=half, runtime="onnx"), 1, ("logits",)) for n in switch.networks]
    onnx_levels.choose_with_if(proto.graph, networks)
    return proto


def switch_of(network):
    """Its `LevelSwitch`, or None."""
    return next((layer for layer in network.layers if isinstance(layer, LevelSwitch)), None)


def chooser_of(network, switch):
    """The graph from an image to the place of its level."""
    images = keras.Input(network.input_shape[1:], name="images")
    return _convert(keras.Model(images, keras.layers.Lambda(switch.place)(images)), 1, ("logits",))


def write_parts(parts, path, batch_size, half):
    """Converts models that share layers to a folder: a file for each, `NAME.onnx`, over one with all weights.

    ONNX Runtime finds the weights, `weights.data`, beside the file that it loads.
    """
    onnx = require("onnx")
    path.mkdir()
    places, size = {}, 0
    with open(path / WEIGHTS, "wb") as weights:
        for name, part in deploy_parts(parts, half=half, runtime="onnx").items():
            proto = _convert(part, batch_size, ("logits",))
            if half:
                _store_half(proto.graph)
            onnx.checker.check_model(proto)
            for tensor in proto.graph.initializer:
                content = onnx.numpy_helper.to_array(tensor).tobytes()
                if len(content) < ALIGNMENT:
                    continue
                if content not in places:
                    weights.write(b"\0" * (-size % ALIGNMENT) + content)
                    places[content] = size + -size % ALIGNMENT
                    size = places[content] + len(content)
                _refer(tensor, places[content], len(content))
            (path / f"{name}.onnx").write_bytes(proto.SerializeToString())


def _refer(tensor, offset, length):
    """An initializer whose values are in the file of weights."""
    import onnx

    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _with_gates(network):
    """The network with its gates as an output; one with a head of the user's own has only logits."""
    if isinstance(network.output, dict):
        return network
    gates = [node.arguments.args[1] for node in nodes(network) if isinstance(node.operation, MultiPath)]
    return keras.Model(network.input, {"logits": network.output, "gates": keras.ops.stack(gates, axis=1)})


def _convert(deployed, batch_size, outputs):
    return convert_function(inference_function(deployed, batch_size, outputs=outputs).call)


def convert_function(call):
    """A `tf.function` with a signature as an ONNX model."""
    tf2onnx = require("tf2onnx")
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        proto, _ = tf2onnx.convert.from_function(call, input_signature=call.input_signature, opset=OPSET)
    finally:
        logger.setLevel(level)
    return proto


def _keep_outputs(graph, outputs):
    """Drops the other outputs and what only they need."""
    from keras_dynnets.export.onnx_gates import reads

    kept = [value for value in graph.output if value.name in outputs]
    del graph.output[:]
    graph.output.extend(kept)
    needed, nodes = {value.name for value in kept}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed |= reads(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(constants)


def _store_half(graph):
    """Float32 initializers become float16 with a cast, in the graph and in its branches."""
    import onnx

    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _store_half(attribute.g)
    casts = []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1:
            name, half = tensor.name, f"{tensor.name}/float16"
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(onnx.helper.make_node("Cast", [half], [name], f"{name}/cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def runner(path, threads=None, part=None):
    """One session of the file, as a function from arrays by input name to arrays by output name.

    `part` is the file to run of a folder with several.
    """
    path = path / f"{part}.onnx" if part else path
    ort = require("onnxruntime")
    options = ort.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))


def operations(path):
    """How often each operation stands in the file, or in all files of a folder, branches included."""
    onnx = require("onnx")
    files = sorted(path.glob("*.onnx")) if path.is_dir() else [path]

    def count(graph):
        total = Counter(node.op_type for node in graph.node)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    total += count(attribute.g)
        return total

    return dict(sum((count(onnx.load(str(file), load_external_data=False).graph) for file in files), Counter()))
