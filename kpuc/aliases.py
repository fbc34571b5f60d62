"""Which values are views: other names for bytes that exist already."""

from collections.abc import Mapping

from kpuc.graph import Graph, Node
from kpuc.storage import Storage
from kpurun.ops import op_named
from kpurun.ops.loopnest import Unit
from kpurun.ops.opdef import complete


def alias_roots(graph: Graph, storage: Storage, formats: Mapping[str, str]) -> dict[str, str]:
    """Value -> the value whose bytes it names; itself where it has bytes of its own.

    Inputs and constants have a place of their own, and outputs must have one, so a view of an input
    that is an output is a copy.
    """
    roots = {value: value for value in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        roots |= {value: value for value in node.outputs}
        if _is_view(graph, node, storage, formats) and node.outputs[0] not in graph.outputs:
            roots[node.outputs[0]] = roots[node.inputs[0]]
    return roots


def _is_view(graph: Graph, node: Node, storage: Storage, formats: Mapping[str, str]) -> bool:
    source, made = node.inputs[0] if node.inputs else "", node.outputs[0]
    if not source or node.epilogue or not storage.is_same(source, made):
        return False
    ins = tuple(graph.types[value] for value in node.inputs)
    outs = tuple(graph.types[value] for value in node.outputs)
    record = op_named(node.op_type)
    if record.loop_nest(complete(record, node.attributes), ins, outs).unit is not Unit.VIEW:
        return False
    same_order = formats.get(source, "NCHW") == formats.get(made, "NCHW")
    plain = formats.get(made, "NCHW") == "NCHW" or ins[0].shape == outs[0].shape
    return same_order and plain
