"""Concatenations without moving: what cannot be computed in its place is copied there, alone."""

from collections.abc import Mapping
from dataclasses import replace

from formats.precision import size_in_bytes
from kpuc.aliases import can_be_part, cut_values, joins
from kpuc.graph import Graph, Node
from kpuc.storage import Storage

# Bytes that lie in their places from the start, below which a copy more costs what it saves: an op
# takes 64 cycles to dispatch, in which the block mover moves 4 KiB.
LEAST_GAIN_BYTES = 4096


def join_in_place(
    graph: Graph, storage: Storage, formats: Mapping[str, str]
) -> tuple[Graph, Storage, dict[str, str]]:
    """The graph with an Identity before concatenations for each operand that lies elsewhere: an
    input, an output, a part of another tensor, one that is there twice or has other codes.

    A value becomes a part of the first result that it is joined to.
    """
    taken = set(cut_values(graph))
    nodes: list[Node] = []
    types, known = dict(graph.types), dict(formats)
    copies: dict[str, str] = {}  # copy -> what is stored alike
    for node in graph.nodes:
        if not joins(node):
            nodes.append(node)
            continue
        (whole,) = node.outputs
        parts = [
            value
            for value in dict.fromkeys(node.inputs)
            if value not in taken and can_be_part(graph, storage, formats, value, whole)
        ]
        in_place = sum(size_in_bytes(graph.types[v].elements, storage.dtypes[v]) for v in parts)
        if in_place < LEAST_GAIN_BYTES:
            nodes.append(node)
            continue
        taken.update(parts)
        waiting, inputs = set(parts), []
        for position, value in enumerate(node.inputs):
            if value in waiting:
                waiting.remove(value)
                inputs.append(value)
                continue
            copy = _copy(node, position, value, types)
            nodes.append(copy)
            (made,) = copy.outputs
            types[made] = graph.types[value]
            known[made] = formats.get(whole, "NCHW")
            copies[made] = whole
            inputs.append(made)
        nodes.append(replace(node, inputs=tuple(inputs)))
    changed = replace(graph, nodes=tuple(nodes), types=types)
    return changed, storage.with_copies(copies), known


def _copy(node: Node, position: int, value: str, types: Mapping[str, object]) -> Node:
    copy = f"{value}.part{position}"
    while copy in types:
        copy += ".copy"
    return Node(copy, "Identity", (value,), (copy,), name=node.name, source=node.source)
