"""Which values become codes: what the integer multiply-accumulates read, and what leads there.

A kernel (Conv, MatMul, Gemm) that runs on integers needs codes, one that runs on floats needs
floats; everything else takes either, and is stored as its readers want it. Where both are needed
the value is stored as a float and an Identity makes its codes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from math import prod

from kpuc.graph import Graph, Node
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule
from kpurun.ops.types import TensorType

# 255 · 127 each: one more could overflow the 32-bit accumulator.
MOST_PRODUCTS = (2**31 - 1) // (255 * 127)


class Wish(IntEnum):
    """What a reader wants a value to be stored as; a stronger wish is a larger number."""

    NONE = 0
    LIKES_FLOAT = 1
    LIKES_CODES = 2
    NEEDS_CODES = 3
    NEEDS_FLOAT = 4


@dataclass(frozen=True)
class Assignment:
    """graph: with the conversions; coded: values that are stored as codes; integer: ids of the
    nodes that multiply codes; copies: value of codes -> the float that it is made of."""

    graph: Graph
    coded: frozenset[str]
    integer: frozenset[str]
    copies: Mapping[str, str]


def kernels(graph: Graph) -> tuple[Node, ...]:
    """Nodes that can multiply codes."""
    return tuple(node for node in graph.nodes if _can_be_integer(graph, node))


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a kernel."""
    return graph.types[node.outputs[0]].elements * products(graph, node)


def products(graph: Graph, node: Node) -> int:
    """How many products a kernel adds up for one output."""
    first, weight = (graph.types[value] for value in node.inputs[:2])
    if node.op_type == "Conv":
        return prod(weight.shape[1:])
    is_turned = node.op_type == "Gemm" and node.attributes.get("transA", 0)
    return first.shape[0 if is_turned else -1]


def assign(graph: Graph, floats: Iterable[str] = ()) -> Assignment:
    """Codes for every kernel but those whose ids are in `floats`."""
    kept = frozenset(floats)
    integer = frozenset(node.id for node in kernels(graph) if node.id not in kept)
    wishes = _wishes(graph, integer)
    coded = {v for v, (best, _) in wishes.items() if best in (Wish.LIKES_CODES, Wish.NEEDS_CODES)}
    converted = [
        value
        for value, (best, needs_codes) in wishes.items()
        if best is Wish.NEEDS_FLOAT and needs_codes
    ]
    graph, copies = _with_conversions(graph, converted, integer)
    return Assignment(graph, frozenset(coded | copies.keys()), integer, copies)


def _can_be_integer(graph: Graph, node: Node) -> bool:
    if op_named(node.op_type).int8 is not Int8Rule.KERNEL:
        return False
    if products(graph, node) > MOST_PRODUCTS:
        return False
    factors = node.inputs[:2]
    return not all(value in graph.constants for value in factors)


def _wishes(graph: Graph, integer: frozenset[str]) -> dict[str, tuple[Wish, bool]]:
    """Float activations -> (the strongest wish of their readers, whether one needs codes)."""
    wishes: dict[str, tuple[Wish, bool]] = {}

    def wish(value: str, wanted: Wish) -> None:
        best, needs_codes = wishes.get(value, (Wish.NONE, False))
        wishes[value] = max(best, wanted), needs_codes or wanted is Wish.NEEDS_CODES

    for node in reversed(graph.nodes):
        inner = {value: best for value, (best, _) in wishes.items() if value not in graph.outputs}
        own, others = _wishes_of(node, integer, inner)
        for index, value in enumerate(node.inputs):
            if _is_activation(graph, value):
                wish(value, own if index < _factor_count(node) else others)
    return {value: found for value, found in wishes.items() if value not in graph.outputs}


def _wishes_of(
    node: Node, integer: frozenset[str], wishes: Mapping[str, Wish]
) -> tuple[Wish, Wish]:
    """What the node wants its factors to be, and its other operands.

    wishes: of the readers of values that are no outputs; outputs are floats.
    """
    if node.id in integer:
        return Wish.NEEDS_CODES, Wish.LIKES_CODES
    if op_named(node.op_type).int8 is Int8Rule.KERNEL:
        return Wish.NEEDS_FLOAT, Wish.NONE
    made = [wishes.get(value, Wish.NONE) for value in node.outputs]
    makes_codes = any(best in (Wish.LIKES_CODES, Wish.NEEDS_CODES) for best in made)
    # An exponential makes large errors of small ones, and is computed in fp32 anyway.
    liked = Wish.LIKES_CODES if makes_codes and node.op_type != "Softmax" else Wish.LIKES_FLOAT
    return liked, liked


def _factor_count(node: Node) -> int:
    return 2 if op_named(node.op_type).int8 is Int8Rule.KERNEL else len(node.operands)


def _is_activation(graph: Graph, value: str) -> bool:
    return value not in graph.constants and graph.types[value].is_float


def _with_conversions(
    graph: Graph, converted: Sequence[str], integer: frozenset[str]
) -> tuple[Graph, dict[str, str]]:
    """The graph in which integer kernels read `<value>.codes` where the value itself is a float."""
    names = {value: f"{value}.codes" for value in converted}
    if not names:
        return graph, {}
    makers = graph.producers()
    nodes = [_conversion(value, names[value], None) for value in graph.inputs if value in names]
    for node in graph.nodes:
        nodes.append(_reading_codes(node, names) if node.id in integer else node)
        nodes += [
            _conversion(value, names[value], makers[value])
            for value in node.outputs
            if value in names
        ]
    types: dict[str, TensorType] = {copy: graph.types[value] for value, copy in names.items()}
    changed = replace(graph, nodes=tuple(nodes), types={**graph.types, **types})
    return changed, {copy: value for value, copy in names.items()}


def _conversion(value: str, codes: str, maker: Node | None) -> Node:
    name, source = (maker.name, maker.source) if maker is not None else ("", "")
    return Node(codes, "Identity", (value,), (codes,), name=name, source=source)


def _reading_codes(node: Node, names: Mapping[str, str]) -> Node:
    factors = tuple(names.get(value, value) for value in node.inputs[:2])
    return replace(node, inputs=(*factors, *node.inputs[2:]))
