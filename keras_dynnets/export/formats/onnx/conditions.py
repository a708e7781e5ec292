"""Gates in an ONNX graph: the nodes of a gated branch move into an `If`, or get a factor.

tf2onnx makes poor graphs of conditional code: it leaves a change of layout at every boundary, and
it loses the kernel shapes of convolutions inside a branch. A network is therefore converted with
all its branches running, so that the layout is settled once for the whole graph, and the gates
are put in afterwards. Of the factors, too, it would make changes of layout.

The package onnx is imported where it is used: it comes with the extra `export` only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keras_dynnets.export.formats.onnx.tools import reads

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")


@dataclass(frozen=True)
class Branch:
    """A gated branch, as it is found in a graph.

    Attributes:
        scope: part of the name of the node that adds the branch to its shortcut.
        gates: name of the graph's output that has the gates of its layer, (1, branches).
        index: index of its gate there.
        always: whether it runs for every image and is multiplied by its gate.
    """

    scope: str
    gates: str
    index: int
    always: bool


def add_gates(graph: "GraphProto", branches: Sequence[Branch]) -> None:
    """Puts branches behind an `If` of their gates or multiplies them by their gates, in place.

    Args:
        graph: graph of a network in the form "all", with the gates of its layers among its
            outputs; for one image if a branch gets an `If`.
        branches: all gated branches of the network, in any order.

    Raises:
        RuntimeError: the graph has not one addition in the scope of each branch.
    """
    nodes = list(graph.node)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    booleans: dict[str, str] = {}
    for branch in branches:
        addition = _addition(nodes, branch)
        if branch.always:
            nodes = _multiplied(nodes, constants, addition, branch)
            continue
        if branch.gates not in booleans:
            nodes, booleans[branch.gates] = _as_booleans(nodes, constants, branch.gates)
        nodes = _behind_if(nodes, constants, addition, booleans[branch.gates], branch.index)
    inputs = [value.name for value in graph.input]
    del graph.node[:], graph.initializer[:]
    graph.initializer.extend(constants.values())
    graph.node.extend(_sorted(nodes, {"", *inputs, *constants}))


def _as_booleans(
    nodes: list["NodeProto"], constants: dict[str, "TensorProto"], gates: str
) -> tuple[list["NodeProto"], str]:
    """Gives the nodes with one more where it is needed, and the tensor of gates as booleans."""
    from onnx import helper, numpy_helper

    producers = {output: node for node in nodes for output in node.output}
    source = gates
    while source in producers and producers[source].op_type in ("Identity", "Cast"):
        source = producers[source].input[0]
    if source in producers and producers[source].op_type in COMPARISONS:
        return nodes, source  # the gates are the result of a comparison, cast to numbers
    half = numpy_helper.from_array(np.array(0.5, "float32"), f"{gates}/half")
    constants[half.name] = half
    is_open = f"{gates}/open"
    return [*nodes, helper.make_node("Greater", [gates, half.name], [is_open], is_open)], is_open


def _addition(nodes: Sequence["NodeProto"], branch: Branch) -> "NodeProto":
    """Finds the node that adds a branch to its shortcut."""
    found = [n for n in nodes if n.op_type == "Add" and n.name.split("/")[-2:-1] == [branch.scope]]
    if len(found) != 1:
        raise RuntimeError(
            f"the graph has {len(found)} additions in the scope {branch.scope!r}, and a layer with "
            "gated branches must be called once and add each branch in a scope of its own"
        )
    return found[0]


def _multiplied(
    nodes: Sequence["NodeProto"],
    constants: dict[str, "TensorProto"],
    addition: "NodeProto",
    branch: Branch,
) -> list["NodeProto"]:
    """Multiplies the result of a branch by its gate; arguments and result as of `_behind_if`."""
    from onnx import helper, numpy_helper

    gate, product = f"{addition.name}/gate", f"{addition.name}/product"
    # Indices of this shape make gates (batch, branches) a factor (batch, 1, 1, 1).
    number = numpy_helper.from_array(np.full((1, 1, 1), branch.index), f"{addition.name}/index")
    constants[number.name] = number
    shortcut, path = addition.input
    addition.input[:] = [shortcut, product]
    return [
        *nodes,
        helper.make_node("Gather", [branch.gates, number.name], [gate], gate, axis=1),
        helper.make_node("Mul", [path, gate], [product], product),
    ]


def _behind_if(
    nodes: Sequence["NodeProto"],
    constants: dict[str, "TensorProto"],
    addition: "NodeProto",
    gates: str,
    index: int,
) -> list["NodeProto"]:
    """Replaces a branch, its addition and a ReLU after it by an `If`.

    Args:
        nodes: of the graph.
        constants: of the graph by name; those that only the branch reads move into the `If`.
        addition: the node that adds the branch to its shortcut.
        gates: name of the gates of its layer as booleans, (1, branches).
        index: index of its gate there.

    Returns:
        The nodes, not always in the order in which they must be computed.
    """
    from onnx import helper, numpy_helper

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
        helper.make_node("Gather", [gates, number.name], [f"{name}/open"], f"{name}/open", axis=1),
        helper.make_node(
            "If", [f"{name}/open"], [result], f"{name}/if", then_branch=then, else_branch=other
        ),
    ]
    moved = {id(node) for node in run}
    position = next(i for i, node in enumerate(nodes) if node is run[-1])
    return [
        node for node in [*nodes[:position], *gated, *nodes[position:]] if id(node) not in moved
    ]


def _only_for(tensor: str, nodes: Sequence["NodeProto"]) -> list["NodeProto"]:
    """Gives the nodes whose results serve one tensor alone, in order."""
    wanted, chosen = {tensor}, []
    readers: dict[str, set[int]] = {}
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


def _sorted(nodes: list["NodeProto"], known: set[str]) -> list["NodeProto"]:
    """Puts nodes into an order in which everything is computed before it is read.

    Args:
        nodes: of a graph.
        known: names of its inputs and constants; those of the results are added.

    Raises:
        RuntimeError: a node reads a tensor that nothing computes.
    """
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
