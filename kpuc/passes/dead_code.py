"""Dead code elimination: what no output of the program depends on is left out."""

from dataclasses import replace

from kpuc.graph import Graph, Node


def eliminate_dead_code(graph: Graph) -> Graph:
    """The graph without nodes, constants, types and names that nothing needs.

    Inputs stay, used or not: they are the program's interface.
    """
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        kept.append(node)
        needed.update(node.inputs)
    kept.reverse()
    needed.update(graph.inputs)
    needed.update(value for node in kept for value in node.outputs)
    return replace(
        graph,
        nodes=tuple(kept),
        types={value: type_ for value, type_ in graph.types.items() if value in needed},
        constants={value: array for value, array in graph.constants.items() if value in needed},
        host_dtypes={value: name for value, name in graph.host_dtypes.items() if value in needed},
        names={value: name for value, name in graph.names.items() if value in needed},
    )
