"""Program outputs leave the accumulator as fp32; what goes on computing with them does so in the
program's precision. A value that is both is there twice, once for its readers inside."""

from dataclasses import replace

from kpuc.graph import Graph, Node
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule


def separate_outputs(graph: Graph) -> Graph:
    """An Identity at each float output that has readers: it rounds a copy for them, or, where
    nothing is computed but elements are moved, widens what they read to the output."""
    read = {value for node in graph.nodes for value in node.inputs}
    shared = {value for value in graph.outputs if value in read and graph.types[value].is_float}
    inside = {value: f"{value}.rounded" for value in graph.types if value in shared}
    nodes: list[Node] = []
    for node in graph.nodes:
        moves = _moves(node)
        made = tuple(inside.get(value, value) if moves else value for value in node.outputs)
        taken = tuple(inside.get(value, value) for value in node.inputs)
        nodes.append(replace(node, inputs=taken, outputs=made))
        for value in [value for value in node.outputs if value in inside]:
            ends = (inside[value], value) if moves else (value, inside[value])
            nodes.append(Node(f"{value}.copy", "Identity", ends[:1], ends[1:], name=node.name))
    types = {**graph.types, **{copy: graph.types[value] for value, copy in inside.items()}}
    return replace(graph, nodes=tuple(nodes), types=types)


def _moves(node: Node) -> bool:
    """Whether its results are elements of its operands, which are rounded; padding is not."""
    is_selection = op_named(node.op_type).int8 is Int8Rule.CODES and node.op_type != "Pad"
    return is_selection and not node.epilogue
