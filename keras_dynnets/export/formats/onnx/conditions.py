"""Gates for an ONNX graph: the nodes of every sub-block move behind its gate.

tf2onnx makes poor graphs of conditional code: it leaves a change of layout at every
boundary, and it loses the kernel shapes of convolutions inside a branch. So the network is
converted with all its paths running, where the layout is settled once for the whole graph,
and the conditions are put in afterwards.
"""

import re

import numpy as np
from onnx import helper, numpy_helper

from keras_dynnets.export.formats.onnx.tools import reads

ADDITION = re.compile(r"/sub_block_(\d+)/")  # the name scope that MultiPath gives its additions


def gate_with_if(graph):
    """Puts every sub-block of a batch-1 graph into an `If` of its gate, in place.

    Args:
        graph: an ONNX graph of a network in the form "all" with an output "gates"
            (1, blocks, sub_blocks).

    Raises:
        RuntimeError: the graph does not have the additions and gates that such a network has.
    """
    nodes = list(graph.node)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for addition, gate, index in _additions(nodes):
        nodes = _behind_if(nodes, constants, addition, gate, index)
    inputs = [value.name for value in graph.input]
    del graph.node[:], graph.initializer[:]
    graph.initializer.extend(constants.values())
    graph.node.extend(_sorted(nodes, {"", *inputs, *constants}))


def _additions(nodes):
    """(addition, its block's gates as booleans, index of the sub-block) of every sub-block."""
    producers = {output: node for node in nodes for output in node.output}
    casts = [producers[producers[name].input[0]] for name in producers["gates"].input]
    gates = [cast.input[0] for cast in casts]  # the comparisons' own booleans
    additions = [node for node in nodes if node.op_type == "Add" and ADDITION.search(node.name)]
    if not additions or len(additions) % len(gates):
        raise RuntimeError(
            f"the graph has {len(additions)} gated additions for {len(gates)} blocks"
        )
    per_block = len(additions) // len(gates)
    for i, addition in enumerate(additions):
        yield addition, gates[i // per_block], int(ADDITION.search(addition.name)[1])


def _behind_if(nodes, constants, addition, gate, index):
    """The nodes with one sub-block, its addition and a ReLU after it replaced by an `If`."""
    shortcut, path = addition.input
    branch = _only_for(path, nodes)
    readers = [node for node in nodes if addition.output[0] in reads(node)]
    tail = readers[0] if len(readers) == 1 and readers[0].op_type == "Relu" else None
    run = [*branch, addition, *([tail] if tail else [])]
    result = run[-1].output[0]

    name = addition.name
    run[-1].output[0] = f"{name}/run"
    skip = helper.make_node(
        "Relu" if tail else "Identity", [shortcut], [f"{name}/skip"], f"{name}/skip"
    )
    shared = {i for node in nodes if node not in branch for i in reads(node)}
    own = [
        constants.pop(i)
        for i in dict.fromkeys(i for node in branch for i in node.input)
        if i in constants and i not in shared
    ]
    number = numpy_helper.from_array(np.array([index]), f"{name}/index")
    constants[number.name] = number
    then = helper.make_graph(
        run, f"{name}/then", [], [helper.make_empty_tensor_value_info(f"{name}/run")], own
    )
    other = helper.make_graph(
        [skip], f"{name}/else", [], [helper.make_empty_tensor_value_info(f"{name}/skip")]
    )
    gated = [
        helper.make_node("Gather", [gate, number.name], [f"{name}/open"], f"{name}/open", axis=1),
        helper.make_node(
            "If", [f"{name}/open"], [result], f"{name}/if", then_branch=then, else_branch=other
        ),
    ]
    moved = {id(node) for node in run}
    position = next(i for i, node in enumerate(nodes) if node is run[-1])
    return [
        node for node in [*nodes[:position], *gated, *nodes[position:]] if id(node) not in moved
    ]


def _only_for(tensor, nodes):
    """The nodes whose results serve `tensor` alone, in order."""
    wanted, chosen = {tensor}, []
    readers = {}
    for node in nodes:
        for name in reads(node):
            readers.setdefault(name, set()).add(id(node))
    inside = set()
    for node in reversed(nodes):
        serves = wanted.intersection(node.output)
        if serves and (tensor in serves or all(readers[o] <= inside for o in node.output)):
            chosen.append(node)
            inside.add(id(node))
            wanted.update(node.input)
    return chosen[::-1]


def _sorted(nodes, known):
    """The nodes in an order in which everything is computed before it is read."""
    ordered = []
    while nodes:
        late = []
        for node in nodes:
            if reads(node) <= known:
                ordered.append(node)
                known.update(node.output)
            else:
                late.append(node)
        if len(late) == len(nodes):
            raise RuntimeError(
                f"the graph reads tensors that nothing computes, first at {late[0].name}"
            )
        nodes = late
    return ordered
