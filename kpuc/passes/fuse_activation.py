"""Activations that a model spells out in arithmetic become the one op that the vector unit has.

x·sigmoid(alpha·x) is Swish, clip(x + 3, 0, 6)/6 HardSigmoid, x times that HardSwish, and clips of
clips (a Relu is one) are one Clip.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from formats.config import KPUConfig
from kpuc.graph import Graph, Node
from kpuc.passes.dead_code import eliminate_dead_code
from kpuc.passes.edit import read_counts, scalar_of

RELATIVE_TOLERANCE = 1e-6  # 1/6 as a float32 constant


@dataclass(frozen=True)
class Match:
    """An activation of `x`, and the nodes besides the last that it replaces."""

    op_type: str
    x: str
    attributes: Mapping[str, Any]
    replaced: tuple[Node, ...]


def fuse_activations(graph: Graph, config: KPUConfig) -> Graph:
    """The graph with spelled-out activations recognised, as far as the machine has them."""
    counts = read_counts(graph)
    makers: dict[str, Node] = {}
    nodes = []
    for node in graph.nodes:
        match = _match(node, _Chain(graph, makers, counts))
        if match is not None and _fits(graph, node, match, config):
            node = _activation(node, match)
        nodes.append(node)
        makers.update(dict.fromkeys(node.outputs, node))
    return eliminate_dead_code(replace(graph, nodes=tuple(nodes)))


def _fits(graph: Graph, node: Node, match: Match, config: KPUConfig) -> bool:
    same_type = graph.types[match.x] == graph.types[node.outputs[0]]
    return same_type and match.op_type in config.native_activations


def _activation(node: Node, match: Match) -> Node:
    fused = [name for part in match.replaced for name in (part.id, *part.fused)]
    return replace(
        node,
        op_type=match.op_type,
        inputs=(match.x,),
        attributes=match.attributes,
        fused=(*node.fused, *fused),
    )


@dataclass(frozen=True)
class _Chain:
    """Looks back from a node along values that nothing else reads."""

    graph: Graph
    makers: Mapping[str, Node]
    counts: Mapping[str, int]

    def private(self, value: str, *op_types: str) -> Node | None:
        """The node of one of these types that makes `value`, if nothing else reads that."""
        node = self.makers.get(value)
        if node is None or node.op_type not in op_types or node.epilogue:
            return None
        return node if self.counts[value] == 1 else None

    def with_number(self, node: Node) -> Iterator[tuple[str, float]]:
        """(x, number) for either operand that is one number."""
        for x, other in zip(node.inputs, node.inputs[::-1], strict=True):
            number = scalar_of(self.graph, other)
            if number is not None:
                yield x, number

    def scaled(self, node: Node) -> Iterator[tuple[str, float]]:
        """(x, factor) if the node multiplies x by a number, or divides it by one."""
        if node.op_type == "Mul":
            yield from self.with_number(node)
        if node.op_type == "Div":
            divisor = scalar_of(self.graph, node.inputs[1])
            if divisor:
                yield node.inputs[0], 1 / divisor


def _match(node: Node, chain: _Chain) -> Match | None:
    if node.epilogue:
        return None
    if node.op_type in ("Relu", "Clip"):
        return _clip_of_clip(node, chain)
    return _gated(node, chain) or _divided_by_six(node, chain)


def _clip_of_clip(node: Node, chain: _Chain) -> Match | None:
    """min(max(min(max(x, a), b), c), d) is one Clip when the intervals meet."""
    inner = chain.private(node.inputs[0], "Relu", "Clip")
    if inner is None or not chain.graph.types[node.inputs[0]].is_float:
        return None
    low = max(_bounds(inner)[0], _bounds(node)[0])
    high = min(_bounds(inner)[1], _bounds(node)[1])
    if low > high:
        return None
    if (low, high) == (0, math.inf):
        return Match("Relu", inner.inputs[0], {}, (inner,))
    attributes = {
        "min": None if low == -math.inf else low,
        "max": None if high == math.inf else high,
    }
    return Match("Clip", inner.inputs[0], attributes, (inner,))


def _bounds(node: Node) -> tuple[float, float]:
    """What a Relu or a Clip limits its operand to."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    low, high = node.attributes.get("min"), node.attributes.get("max")
    return (-math.inf if low is None else float(low), math.inf if high is None else float(high))


def _gated(node: Node, chain: _Chain) -> Match | None:
    """x times its own Sigmoid or HardSigmoid."""
    if node.op_type != "Mul":
        return None
    for x, gate_value in zip(node.inputs, node.inputs[::-1], strict=True):
        gate = chain.private(gate_value, "Sigmoid", "HardSigmoid")
        if gate is None:
            continue
        if gate.op_type == "HardSigmoid":
            if gate.inputs[0] == x and _is_sixth(gate.attributes):
                return Match("HardSwish", x, {}, (gate,))
            continue
        if gate.inputs[0] == x:
            return Match("Swish", x, {"alpha": 1.0}, (gate,))
        inner = chain.private(gate.inputs[0], "Mul", "Div")
        if inner is None:
            continue
        for scaled, factor in chain.scaled(inner):
            if scaled == x and math.isfinite(factor):
                return Match("Swish", x, {"alpha": factor}, (gate, inner))
    return None


def _is_sixth(attributes: Mapping[str, Any]) -> bool:
    """HardSwish's own gate: min(max(x/6 + 1/2, 0), 1)."""
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return math.isclose(alpha, 1 / 6, rel_tol=RELATIVE_TOLERANCE) and beta == 0.5


def _divided_by_six(node: Node, chain: _Chain) -> Match | None:
    """clip(x + 3, 0, 6)/6, or x·clip(x + 3, 0, 6)/6."""
    for value, factor in chain.scaled(node):
        if not math.isclose(factor, 1 / 6, rel_tol=RELATIVE_TOLERANCE):
            continue
        clip = _shifted_clip(value, chain)
        if clip is not None:
            x, replaced = clip
            return Match("HardSigmoid", x, {"alpha": 1 / 6, "beta": 0.5}, replaced)
        product = chain.private(value, "Mul")
        if product is None:
            continue
        for x, other in zip(product.inputs, product.inputs[::-1], strict=True):
            clip = _shifted_clip(other, chain)
            if clip is not None and clip[0] == x:
                return Match("HardSwish", x, {}, (product, *clip[1]))
    return None


def _shifted_clip(value: str, chain: _Chain) -> tuple[str, tuple[Node, ...]] | None:
    """(x, nodes) if `value` is clip(x + 3, 0, 6) and nothing else reads its parts."""
    clip = chain.private(value, "Clip")
    if clip is None or _bounds(clip) != (0.0, 6.0):
        return None
    add = chain.private(clip.inputs[0], "Add")
    if add is None:
        return None
    for x, number in chain.with_number(add):
        if number == 3:
            return x, (clip, add)
    return None
