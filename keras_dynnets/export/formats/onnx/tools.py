"""Functions on ONNX graphs: conversion, renaming, a `Scan` over a batch, an `If` for each choice.

The package onnx is imported where it is used: it comes with the extra `export` only.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_dynnets.core.conditional import NetworkSwitch
from keras_dynnets.export.formats.onnx.same_bytes import canonical
from keras_dynnets.export.inference import inference_function
from keras_dynnets.export.requirements import require

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

BATCH = "batch"  # the name of the axis of the images, where their number is open
OPSET = 17  # the newest in which tf2onnx moves changes of layout through average pooling


def convert_function(call: Callable) -> "ModelProto":
    """Converts a TensorFlow function to an ONNX model.

    Args:
        call: a `tf.function` with an input signature.
    """
    tf2onnx = require("tf2onnx")
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        proto, _ = tf2onnx.convert.from_function(
            call, input_signature=call.input_signature, opset=OPSET
        )
    finally:
        logger.setLevel(level)
    name_batch(proto.graph)
    return proto


def name_batch(graph: "GraphProto") -> None:
    """Calls the axis of the images `BATCH` in inputs and outputs where their number is open.

    tf2onnx gives every open axis a name of its own, such as "unk__127", so that a tool which fixes
    the input's axis leaves the output's open.

    Args:
        graph: changed in place.
    """
    del graph.value_info[:]  # inferred shapes with such names; every runtime infers them itself
    for value in [*graph.input, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_param = BATCH


def save(proto: "ModelProto", path: Path) -> None:
    """Checks an ONNX model and writes it.

    Args:
        proto: the model.
        path: of the file.
    """
    finish(proto)
    path.write_bytes(proto.SerializeToString())


def finish(proto: "ModelProto") -> None:
    """Gives a model names and an order that do not depend on what was converted before.

    Args:
        proto: changed in place.
    """
    canonical(proto.graph)
    require("onnx").checker.check_model(proto)


def reads(node: "NodeProto") -> set[str]:
    """Names the tensors that a node needs, those that its branches take from outside included.

    Args:
        node: of a graph.
    """
    names = set(node.input)
    for graph in _branches(node):
        made = {name for inner in graph.node for name in inner.output}
        made |= {tensor.name for tensor in graph.initializer}
        names |= {name for inner in graph.node for name in inner.input} - made
    return names


def rename(graph: "GraphProto", names: Mapping[str, str]) -> None:
    """Renames tensors wherever nodes of a graph and of its branches read or write them.

    Args:
        graph: changed in place.
        names: new names by the old ones.
    """
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for branch in _branches(node):
            rename(branch, names)


def _branches(node: "NodeProto") -> list["GraphProto"]:
    import onnx

    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def keep_outputs(graph: "GraphProto", outputs: Collection[str]) -> None:
    """Drops all other outputs of a graph and the nodes that only they need.

    Args:
        graph: changed in place.
        outputs: names of the outputs to keep.
    """
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


def store_half(graph: "GraphProto") -> None:
    """Stores float32 constants as float16 with a cast, in a graph and in its branches.

    Args:
        graph: changed in place.
    """
    import onnx

    for node in graph.node:
        for branch in _branches(node):
            store_half(branch)
    casts = []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1:
            name, half = tensor.name, f"{tensor.name}/float16"
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
            to = onnx.TensorProto.FLOAT
            casts.append(onnx.helper.make_node("Cast", [half], [name], f"{name}/cast", to=to))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def store_outside(tensor: "TensorProto", file: str, offset: int, length: int) -> None:
    """Makes a constant refer to values in another file.

    Args:
        tensor: changed in place.
        file: name of the other file, which stands in the folder of the model.
        offset: bytes in it before the values.
        length: bytes of the values.
    """
    import onnx

    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def scan_over_batch(graph: "GraphProto", batch_size: int | None = None) -> None:
    """Makes a graph for one image one for several, by a `Scan` over the images.

    Args:
        graph: changed in place.
        batch_size: number of images; None for any.
    """
    from onnx import helper, numpy_helper

    zero = numpy_helper.from_array(np.array([0]), "scan/axis")
    values = [*graph.input, *graph.output]
    inner = {value.name: f"{value.name}/batch_of_1" for value in values}
    rename(graph, inner)

    def row(value: "ValueInfoProto") -> "ValueInfoProto":
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        kind = value.type.tensor_type.elem_type
        return helper.make_tensor_value_info(f"{value.name}/row", kind, sizes[1:])

    enter = [
        helper.make_node("Unsqueeze", [f"{v.name}/row", zero.name], [inner[v.name]])
        for v in graph.input
    ]
    leave = [
        helper.make_node("Squeeze", [inner[v.name], zero.name], [f"{v.name}/row"])
        for v in graph.output
    ]
    body = helper.make_graph(
        [*enter, *graph.node, *leave],
        "image",
        [row(v) for v in graph.input],
        [row(v) for v in graph.output],
        [*graph.initializer, zero],
    )
    inputs, outputs = ([v.name for v in side] for side in (graph.input, graph.output))
    scan = helper.make_node(
        "Scan", inputs, outputs, "images", body=body, num_scan_inputs=len(graph.input)
    )
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.append(scan)
    if batch_size is None:
        _allow_no_image(graph, scan)
    for value in values:
        images = value.type.tensor_type.shape.dim[0]
        if batch_size is None:
            images.dim_param = BATCH
        else:
            images.dim_value = batch_size


def _allow_no_image(graph: "GraphProto", scan: "NodeProto") -> None:
    """Makes a graph with one `Scan` give no results for no images, which ONNX Runtime refuses.

    A batch without images gets one, and the results are cut to the number of images.

    Args:
        graph: changed in place.
        scan: its only node.
    """
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, values: list[int]) -> str:
        graph.initializer.append(numpy_helper.from_array(np.array(values, "int64"), name))
        return name

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> "NodeProto":
        return helper.make_node(kind, inputs, [output], output, **attributes)

    first, count, zero = scan.input[0], "batch/images", constant("batch/zero", [0])
    enter = [
        node("Shape", [first], count, start=0, end=1),
        node("Equal", [count, zero], "batch/empty"),
        node("Cast", ["batch/empty"], "batch/missing", to=TensorProto.INT64),
    ]
    for i, value in enumerate(graph.input):
        rank = len(value.type.tensor_type.shape.dim)
        before = constant(f"{value.name}/before", [0] * rank)
        after = constant(f"{value.name}/after", [0] * (rank - 1))
        pads, padded = f"{value.name}/pads", f"{value.name}/some"
        enter.append(node("Concat", [before, "batch/missing", after], pads, axis=0))
        enter.append(node("Pad", [value.name, pads], padded))
        scan.input[i] = padded
    leave = []
    for i, value in enumerate(graph.output):
        scan.output[i] = f"{value.name}/some"
        leave.append(node("Slice", [scan.output[i], zero, count, zero], value.name))
    nodes = [*enter, scan, *leave]
    del graph.node[:]
    graph.node.extend(nodes)


def chooser_of(network: keras.Model, switch: NetworkSwitch) -> "ModelProto":
    """Converts the choice among networks to a model from an image to the index of its network.

    Args:
        network: functional model that the choice stands in.
        switch: the layer that chooses.
    """
    images = keras.Input(network.input_shape[1:], name="images")
    place = keras.layers.Lambda(switch.place, name="place")
    chooser = keras.Model(images, place(images), name="chooser")
    return convert_function(inference_function(chooser, 1).call)


def choose_with_if(chooser: "GraphProto", networks: Sequence["ModelProto"]) -> None:
    """Adds networks, each behind an `If`, to the graph that chooses among them.

    Args:
        chooser: graph from "images", one image, to the index of its network, (1,) int32. It is
            changed in place and then gives "logits".
        networks: ONNX models from "images" to "logits".
    """
    import onnx
    from onnx import helper, numpy_helper

    place = chooser.output[0].name
    rename(chooser, {place: "place"})
    graphs = []
    for i, network in enumerate(networks):
        # All names but the image's get a prefix, or a branch would read another one's tensors.
        prefixed = onnx.compose.add_prefix(network, f"level{i}/", rename_inputs=False, inplace=True)
        graphs.append(prefixed.graph)
    for index in range(1, len(graphs)):
        number, below = f"level/{index}", f"level/below{index}"
        chooser.initializer.append(numpy_helper.from_array(np.array([index], "int32"), number))
        chooser.node.append(helper.make_node("Less", ["place", number], [below], below))
    shape = graphs[0].output[0]
    nodes, result = _choice(graphs, 0, len(graphs))
    chooser.node.extend(nodes)
    del chooser.output[:]
    output = chooser.output.add()
    output.CopyFrom(shape)
    output.name = "logits"
    chooser.node.append(helper.make_node("Identity", [result], ["logits"], "logits"))


def _choice(graphs: Sequence["GraphProto"], start: int, end: int) -> tuple[list["NodeProto"], str]:
    """Gives nodes that compute the result of the chosen one of `graphs[start:end]`.

    Returns:
        The nodes, none for a single graph, and the name of the result.
    """
    from onnx import helper

    if end - start == 1:
        return [], graphs[start].output[0].name
    middle = (start + end) // 2
    then, other = _branch(graphs, start, middle), _branch(graphs, middle, end)
    condition, name = f"level/below{middle}", f"level/{start}-{end}"
    return [
        helper.make_node("If", [condition], [name], name, then_branch=then, else_branch=other)
    ], name


def _branch(graphs: Sequence["GraphProto"], start: int, end: int) -> "GraphProto":
    """Gives the branch of an `If` that computes the chosen one of `graphs[start:end]`."""
    from onnx import helper

    nodes, result = _choice(graphs, start, end)
    results = [helper.make_empty_tensor_value_info(result)]
    if end - start == 1:
        graph = graphs[start]
        return helper.make_graph(graph.node, f"level{start}", [], results, graph.initializer)
    return helper.make_graph(nodes, f"levels{start}-{end}", [], results)
