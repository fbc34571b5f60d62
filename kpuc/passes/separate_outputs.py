"""Program outputs leave the accumulator as fp32; what goes on computing with them does so in the
program's precision. A value that is both gets a rounded copy for its readers inside."""

from dataclasses import replace

from kpuc.graph import Graph, Node


def separate_outputs(graph: Graph) -> Graph:
    """An Identity after each float output that has readers, which read the copy instead."""
    read = {value for node in graph.nodes for value in node.inputs}
    shared = [
        value
        for value in dict.fromkeys(graph.outputs)
        if value in read and graph.types[value].is_float
    ]
    copies = {value: f"{value}.rounded" for value in shared}
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(replace(node, inputs=tuple(copies.get(value, value) for value in node.inputs)))
        nodes += [
            Node(f"{value}.copy", "Identity", (value,), (copies[value],), name=node.name)
            for value in node.outputs
            if value in copies
        ]
    types = {**graph.types, **{copy: graph.types[value] for value, copy in copies.items()}}
    return replace(graph, nodes=tuple(nodes), types=types)
