"""The networks of levels in an ONNX graph, each behind an `If`."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from keras_dynnets.export.onnx_gates import rename


def choose_with_if(chooser, networks):
    """Adds the networks to the graph that chooses among them, in place.

    Args:
        chooser: an ONNX graph from "images", one, to the place of its network, (1,) int32.
        networks: models from "images" to "logits", as converted.
    """
    place = chooser.output[0].name
    rename(chooser, {place: "place"})
    graphs = []
    for i, network in enumerate(networks):
        # All names but the image's become the level's own, or a branch would read another one's tensors.
        graph = onnx.compose.add_prefix(network, f"level{i}/", rename_inputs=False, inplace=True).graph
        graphs.append(graph)
    for value in range(1, len(graphs)):
        chooser.initializer.append(numpy_helper.from_array(np.array([value], "int32"), f"level/{value}"))
        node = helper.make_node("Less", ["place", f"level/{value}"], [f"level/below{value}"], f"level/below{value}")
        chooser.node.append(node)
    shape = graphs[0].output[0]
    nodes, result = _choice(graphs, 0, len(graphs))
    chooser.node.extend(nodes)
    del chooser.output[:]
    output = chooser.output.add()
    output.CopyFrom(shape)
    output.name = "logits"
    chooser.node.append(helper.make_node("Identity", [result], ["logits"], "logits"))


def _choice(graphs, start, end):
    """Nodes that compute the result of the chosen graph, and its name."""
    if end - start == 1:
        return None, graphs[start].output[0].name
    middle = (start + end) // 2
    branches = [_branch(graphs, start, middle), _branch(graphs, middle, end)]
    name = f"level/{start}-{end}"
    node = helper.make_node("If", [f"level/below{middle}"], [name], name, then_branch=branches[0], else_branch=branches[1])
    return [node], name


def _branch(graphs, start, end):
    nodes, result = _choice(graphs, start, end)
    if nodes is None:
        graph = graphs[start]
        return helper.make_graph(
            graph.node, f"level{start}", [], [helper.make_empty_tensor_value_info(result)], graph.initializer
        )
    return helper.make_graph(nodes, f"levels{start}-{end}", [], [helper.make_empty_tensor_value_info(result)])
