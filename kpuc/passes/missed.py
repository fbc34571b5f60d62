"""Fusions that were not made, with the reasons of the passes themselves: what remarks report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from formats.config import KPUConfig
from kpuc.graph import Graph, Node
from kpuc.passes import fuse_epilogue, fuse_pad
from kpuc.passes.edit import read_counts


@dataclass(frozen=True)
class MissedFusion:
    """A node that might have been part of another, and why it is not."""

    node_id: str
    op_type: str
    into: str  # id of the other node; "" where an input of the program is read
    reason: str


def missed_fusions(graph: Graph, config: KPUConfig) -> tuple[MissedFusion, ...]:
    """Every activation, binary op, batch normalisation and pad that stands alone in the graph.

    graph: fused, before or after it is legalised.
    """
    counts = read_counts(graph)
    readers = graph.consumers()
    makers: dict[str, Node] = {}
    missed: list[MissedFusion] = []
    for node in graph.nodes:
        bare = _without_stages(node)
        if bare.op_type == "Pad":
            missed += _missed_windows(graph, bare, readers, makers)
        missed += _missed_carriers(graph, bare, makers, counts, config)
        makers.update(dict.fromkeys(node.outputs, node))
    return tuple(missed)


def _without_stages(node: Node) -> Node:
    """The op that the node is named for: of a legalised activation, the activation."""
    bare = replace(node, inputs=node.operands, epilogue=(), operand_count=-1)
    first = node.epilogue[0] if node.epilogue else None
    if node.op_type != "Identity" or first is None or first.operand is not None:
        return bare
    return replace(bare, op_type=first.op_type, attributes=first.attributes)


def _missed_carriers(
    graph: Graph,
    node: Node,
    makers: Mapping[str, Node],
    counts: Mapping[str, int],
    config: KPUConfig,
) -> Iterator[MissedFusion]:
    for value in fuse_epilogue.accumulators(node, graph, config):
        reason = fuse_epilogue.obstacle(node, value, makers, graph, counts, config)
        if reason is not None:
            into = makers[value].id if value in makers else ""
            yield MissedFusion(node.id, node.op_type, into, reason)


def _missed_windows(
    graph: Graph, pad: Node, readers: Mapping[str, tuple[Node, ...]], makers: Mapping[str, Node]
) -> Iterator[MissedFusion]:
    for window in readers.get(pad.outputs[0], ()):
        reason = fuse_pad.obstacle(graph, pad, window, makers)
        if reason is not None:
            yield MissedFusion(pad.id, pad.op_type, window.id, reason)
