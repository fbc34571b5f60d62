"""Folding: what is known is computed, what does nothing is left out, what is done twice is shared.

Values come from the ops' own records, so a folded constant is what the machine would compute in
fp32, or exactly for integers. Outputs keep their ids and their types.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from formats.config import NATIVE_OPS
from formats.errors import CompilationError
from formats.precision import size_in_bytes
from kpuc.graph import Graph, Node
from kpuc.passes.dead_code import eliminate_dead_code
from kpuc.passes.edit import Additions, read_counts, rename
from kpuc.passes.simplify import simplify
from kpurun.ops import evaluate, op_named
from kpurun.ops.checks import axis_of
from kpurun.ops.opdef import complete
from kpurun.ops.types import OpError

# Folding pays while a constant is read faster than made. What an op blows up from little (a row
# expanded to a map) would fill the program with copies of the same bytes, so it stays an op.
MOST_GROWTH_BYTES = 64 * 1024


def fold(graph: Graph, native_ops: Collection[str] = NATIVE_OPS) -> Graph:
    """Nodes on constants evaluated, nodes that change nothing bypassed, views and transposes of
    each other merged, equal nodes shared.

    native_ops: what a node may be replaced by. CompilationError if a constant expression has no
    value (an index out of range).
    """
    additions = Additions(graph)
    same_as: dict[str, str] = {}  # value -> the value it equals
    kept: dict[str, Node] = {}  # first output -> node, in order
    twins: dict[str, Node] = {}  # what a node computes -> the first node that does
    for original in graph.nodes:
        (node,) = rename((original,), same_as)
        equals = _equal_values(node, additions, kept, native_ops)
        if isinstance(equals, Node):
            node = twins.setdefault(_computation(equals), equals)
            if node is equals:
                kept[node.outputs[0]] = node
                continue
            equals = node.outputs
        same_as.update(zip(original.outputs, equals, strict=True))
        for output in original.outputs:
            if output in graph.outputs:
                kept[output] = _copy(original, same_as[output], output)
    folded = eliminate_dead_code(additions.applied(kept.values()))
    folded = _with_outputs_in_place(folded)
    return eliminate_dead_code(_with_single_parts(folded) if "Slice" in native_ops else folded)


def _equal_values(
    node: Node, additions: Additions, makers: Mapping[str, Node], native_ops: Collection[str]
) -> Node | tuple[str, ...]:
    """The values that the node's results equal, or the node that has to compute them."""
    known = _evaluated(node, additions)
    if known is not None:
        return tuple(
            additions.constant(f"{output}.folded", array)
            for output, array in zip(node.outputs, known, strict=True)
        )
    simpler = simplify(node, additions, makers, native_ops)
    return simpler if isinstance(simpler, Node) else (simpler,)


def _computation(node: Node) -> str:
    """The same text for nodes that compute the same: records have no state and no randomness."""
    attributes = complete(op_named(node.op_type), node.attributes)
    listed = sorted((name, _plain(value)) for name, value in attributes.items())
    return f"{node.op_type} {node.inputs} {listed} {node.epilogue}"


def _plain(value: object) -> str:
    return repr(tuple(value) if isinstance(value, list) else value)


def _copy(original: Node, value: str, output: str) -> Node:
    """A program output is the result of a node, even when it equals something else."""
    node_id = original.id if output == original.outputs[0] else output
    return Node(
        node_id, "Identity", (value,), (output,), name=original.name, source=original.source
    )


def _evaluated(node: Node, additions: Additions) -> tuple[np.ndarray, ...] | None:
    """The node's results if they are known and worth storing."""
    types = additions.graph.types
    if node.epilogue or node.op_type == "Identity":
        return None
    if node.op_type == "Shape":
        return (np.array(types[node.inputs[0]].shape, np.int64),)
    operands = [additions.array(value) for value in node.inputs]
    known = [operand for operand in operands if operand is not None]
    if len(known) < len(operands):
        return None
    results = [types[value] for value in node.outputs]
    bytes_before = sum(operand.nbytes for operand in known)
    bytes_after = sum(size_in_bytes(type_.elements, type_.dtype) for type_ in results)
    if bytes_after > bytes_before + MOST_GROWTH_BYTES:
        return None
    try:
        return evaluate(node.op_type, node.attributes, tuple(known))
    except OpError as error:
        where = f" · {node.source}" if node.source else ""
        raise CompilationError(f"{node.name or node.id}: {error}{where}") from None


def _with_outputs_in_place(graph: Graph) -> Graph:
    """Where an output is a copy of a value that nothing else reads, its maker writes the output."""
    counts = read_counts(graph)
    makers = graph.producers()
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type != "Identity" or node.epilogue or node.outputs[0] not in graph.outputs:
            continue
        source = node.inputs[0]
        if source in makers and counts[source] == 1:
            renamed[source] = node.outputs[0]
    nodes = tuple(
        replace(node, outputs=tuple(renamed.get(value, value) for value in node.outputs))
        for node in graph.nodes
        if not (node.op_type == "Identity" and node.inputs[0] in renamed)
    )
    types = {value: type_ for value, type_ in graph.types.items() if value not in renamed}
    return replace(graph, nodes=nodes, types=types)


def _with_single_parts(graph: Graph) -> Graph:
    """A Split of which one part is used copies only that: it is a Slice."""
    counts = read_counts(graph)
    return replace(graph, nodes=tuple(_only_used_part(node, graph, counts) for node in graph.nodes))


def _only_used_part(node: Node, graph: Graph, counts: Mapping[str, int]) -> Node:
    used = [index for index, value in enumerate(node.outputs) if counts[value]]
    if node.op_type != "Split" or len(used) != 1:
        return node
    (index,) = used
    sizes = node.attributes["split"]
    axis = axis_of("Split", node.attributes.get("axis", 0), graph.types[node.inputs[0]].rank)
    start = sum(sizes[:index])
    attributes = {"starts": (start,), "ends": (start + sizes[index],), "axes": (axis,)}
    return replace(node, op_type="Slice", outputs=(node.outputs[index],), attributes=attributes)
