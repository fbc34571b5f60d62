"""Values that share one scale, so that their codes pass through an op unchanged."""

from collections.abc import Iterable, Mapping

from kpuc.graph import Graph, Node
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule


def shared_codes(graph: Graph, coded: frozenset[str]) -> list[tuple[str, ...]]:
    """The coded values in groups, in order of appearance.

    Views, slices, max-pools and concatenations hand their operands' codes on, so operands and
    results have one scale: what is concatenated is rounded once, on the grid of the whole.
    """
    leader = {value: value for value in coded}

    def find(value: str) -> str:
        while leader[value] != value:
            value = leader[value]
        return value

    for node in graph.nodes:
        if passes_codes(node):
            linked = [value for value in (*node.inputs, *node.outputs) if value in coded]
            for value in linked[1:]:
                leader[find(value)] = find(linked[0])
    order = (value for node in graph.nodes for value in (*node.inputs, *node.outputs))
    groups: dict[str, list[str]] = {}
    for value in dict.fromkeys((*graph.inputs, *order)):
        if value in coded:
            groups.setdefault(find(value), []).append(value)
    return [tuple(group) for group in groups.values()]


def passes_codes(node: Node) -> bool:
    """Whether the results are elements of the operands."""
    return op_named(node.op_type).int8 is Int8Rule.CODES and not node.epilogue


def sources(graph: Graph, group: Iterable[str], copies: Mapping[str, str]) -> list[str]:
    """The values of a group that are not merely handed on from others of it: together they have all
    its numbers."""
    makers, members = graph.producers(), frozenset(group)

    def is_handed_on(value: str) -> bool:
        maker = makers.get(value)
        return maker is not None and passes_codes(maker) and members.issuperset(maker.inputs)

    own = [value for value in group if not is_handed_on(value)]
    return list(dict.fromkeys(copies.get(value, value) for value in own))
