"""The same ONNX graph in the same bytes, whatever was converted before.

tf2onnx numbers what it adds by counters of the process, and lists nodes and constants in an order
that follows from those names.

The package onnx is imported where it is used: it comes with the extra `export` only.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, NodeProto


def canonical(graph: "GraphProto") -> None:
    """Orders a graph by what its outputs need, and names all in that order by their operations.

    The names of inputs and outputs stay.

    Args:
        graph: changed in place, with the graphs inside its nodes.
    """
    _order(graph)
    graph.name, graph.doc_string = "network", ""
    kept = {value.name: value.name for value in [*graph.input, *graph.output]}
    _rename(graph, kept, Counter())


def _order(graph: "GraphProto") -> None:
    """Puts each node after those that it reads, in the order in which the outputs need them."""
    producers = {output: node for node in graph.node for output in node.output if output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, used = {}, {}
    pending = [(value.name, False) for value in reversed(graph.output)]
    while pending:
        name, ready = pending.pop()
        if name in constants:
            used[name] = constants[name]
        node = producers.get(name)
        if node is None or id(node) in nodes:
            continue
        if ready:
            nodes[id(node)] = node
        else:
            pending.append((name, True))
            pending.extend((read, False) for read in reversed(list(_reads(node))))
    for inner in _graphs(nodes.values()):
        _order(inner)
    ordered, tensors = list(nodes.values()), list(used.values())
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(ordered)
    graph.initializer.extend(tensors)


def _reads(node: "NodeProto") -> Iterable[str]:
    """Names what a node reads, and then what the graphs inside it read from outside."""
    yield from node.input
    for graph in _graphs([node]):
        own = {output for inner in graph.node for output in inner.output}
        own |= {value.name for value in [*graph.input, *graph.initializer]}
        for inner in graph.node:
            yield from (name for name in _reads(inner) if name not in own)
        yield from (value.name for value in graph.output if value.name not in own)


def _graphs(nodes: Iterable["NodeProto"]) -> Iterable["GraphProto"]:
    import onnx

    for node in nodes:
        attributes: Iterable[AttributeProto] = node.attribute
        yield from (a.g for a in attributes if a.type == onnx.AttributeProto.GRAPH)


def _rename(graph: "GraphProto", outside: dict[str, str], count: Counter) -> None:
    """Renames nodes and tensors of a graph and of those inside it.

    Args:
        graph: changed in place.
        outside: new names by old ones of the tensors that the graph can read from outside.
        count: number of the nodes so far, by the start of their names.
    """
    import onnx

    names = dict(outside)
    for value in graph.input:
        if value.name not in names:
            count["input"] += 1
            names[value.name] = f"input_{count['input']}"
        value.name = names[value.name]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        # A graph of many small nodes has none with a name, since names would be most of the file.
        kind = f"{node.op_type}_" if node.name else ""
        count[kind] += 1
        name = f"{kind}{count[kind]}"
        node.name = name if kind else ""
        inner = [a for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
        # What the graphs inside read comes last, and a constant is named by the first who reads it.
        for i, read in enumerate(_reads(node)):
            if read in constants and read not in names:
                names[read] = f"{name}/{i}"
        for i, made in enumerate(node.output):
            if made and made not in names:
                names[made] = f"{name}:{i}"
        node.input[:] = [names.get(read, read) for read in node.input]
        node.output[:] = [names.get(made, made) for made in node.output]
        for attribute in inner:
            attribute.g.name = f"{name}/{attribute.name}"
            _rename(attribute.g, names, count)
    for name, tensor in constants.items():
        tensor.name = names.get(name, name)
    for value in graph.output:
        value.name = names.get(value.name, value.name)
