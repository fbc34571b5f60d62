"""A constant scale and shift per output channel goes into the weights and the bias before it.

Batch normalisation is one, and so are products and sums with constants. The arithmetic is float64,
rounded once to float32.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from kpuc.graph import Graph, Node
from kpuc.passes.affine import Affine, Channels, affine_of
from kpuc.passes.dead_code import eliminate_dead_code
from kpuc.passes.edit import Additions, read_counts

WEIGHTED_OPS = frozenset({"Conv", "Gemm", "MatMul"})

LARGEST_HALF = 65504.0  # a scale that takes weights beyond it stays on the fp32 accumulator


def fuse_affine(graph: Graph) -> Graph:
    """Conv, Gemm and MatMul by constant weights with what scales and shifts their result."""
    counts = read_counts(graph)
    additions = Additions(graph)
    kept: dict[str, Node] = {}  # first result -> node, in order
    for node in graph.nodes:
        producer = weighted_producer(node, kept)
        parts = None
        if producer is not None and obstacle(producer, graph, counts, additions) is None:
            parts = _fused(producer, node, additions)
        if producer is not None and parts is not None:
            del kept[producer.outputs[0]]
        kept.update((part.outputs[0], part) for part in parts or (node,))
    return eliminate_dead_code(additions.applied(kept.values()))


def weighted_producer(node: Node, makers: Mapping[str, Node]) -> Node | None:
    """The Conv, Gemm or MatMul that makes an operand of the node."""
    for value in node.inputs:
        producer = makers.get(value)
        if producer is not None and producer.op_type in WEIGHTED_OPS:
            return producer
    return None


def obstacle(
    producer: Node, graph: Graph, counts: Mapping[str, int], additions: Additions
) -> str | None:
    """Why nothing may go into the weights of `producer`, or None."""
    result = producer.outputs[0]
    if result in graph.outputs:
        return f"{result} is an output of the program"
    if counts[result] != 1:
        return f"{result} is read {counts[result]} times"
    if producer.epilogue:
        return f"{producer.id} already ends in {producer.epilogue[-1].op_type}"
    if any(additions.array(value) is None for value in producer.inputs[1:]):
        return f"the weights or the bias of {producer.id} are not constant"
    return None


def _fused(producer: Node, node: Node, additions: Additions) -> tuple[Node, ...] | None:
    """What replaces both nodes, or None: a MatMul has no bias, so its shift stays an Add."""
    shape = additions.type(producer.outputs[0]).shape
    axis = 1 if producer.op_type == "Conv" else len(shape) - 1
    affine = affine_of(node, axis, additions)
    if affine is None or affine.x != producer.outputs[0]:
        return None
    if producer.op_type == "MatMul":
        return _into_matmul(producer, node, affine, additions)
    inputs = _into_weight_and_bias(producer, affine, shape[axis], additions)
    if inputs is None:
        return None
    attributes = producer.attributes
    if producer.op_type == "Gemm" and len(inputs) == 3:
        attributes = {**attributes, "beta": 1.0}
    names = (*producer.fused, node.id, *node.fused)
    return (
        replace(producer, inputs=inputs, outputs=node.outputs, attributes=attributes, fused=names),
    )


def _into_matmul(
    producer: Node, node: Node, affine: Affine, additions: Additions
) -> tuple[Node, ...] | None:
    x, weight = producer.inputs
    if affine.factor is None or additions.type(weight).rank < 2:
        return None
    scaled = _scaled_weight(weight, affine.factor, additions)
    if scaled is None:
        return None
    names = (*producer.fused, node.id, *node.fused)
    product = replace(producer, inputs=(x, scaled), fused=names)
    if affine.shift is None:
        return (replace(product, outputs=node.outputs),)
    shift = _rounded(affine.shift)
    if shift is None:
        return None
    bias = additions.constant(f"{producer.id}.bias", shift)
    add = replace(node, op_type="Add", inputs=(producer.outputs[0], bias), attributes={})
    return replace(product, fused=producer.fused), add


def _into_weight_and_bias(
    producer: Node, affine: Affine, channels: int, additions: Additions
) -> tuple[str, ...] | None:
    """The operands of a Conv or a Gemm that scales and shifts its own result."""
    x, weight, *rest = producer.inputs
    bias = _array(rest[0], additions) if rest else np.zeros(channels)
    if producer.op_type == "Gemm":
        bias = bias * producer.attributes.get("beta", 1.0)
    factor = np.ones(channels) if affine.factor is None else affine.factor
    shift = np.zeros(channels) if affine.shift is None else affine.shift
    new_bias = _rounded(bias * factor + shift)
    if new_bias is None or new_bias.size > max(bias.size, channels):
        return None  # a bias per row, times a factor per column, would be a whole matrix
    new_weight: str | None = weight
    if affine.factor is not None:
        along = _along_filters(producer, affine.factor, additions.type(weight).rank)
        new_weight = _scaled_weight(weight, along, additions)
    if new_weight is None:
        return None
    if rest:
        return x, new_weight, _constant(rest[0], new_bias, additions)
    if affine.shift is None:
        return x, new_weight
    name = weight.removesuffix(".folded").removesuffix(".weight")
    return x, new_weight, additions.constant(f"{name}.bias", new_bias)


def _scaled_weight(weight: str, factor: np.ndarray, additions: Additions) -> str | None:
    """A constant of scaled weights, or None where some of them leave the range of a half."""
    before = _array(weight, additions)
    after = _rounded(before * factor)
    if after is None:
        return None
    largest = np.abs(after).max()
    if largest > LARGEST_HALF and largest > np.abs(before).max():
        return None
    return _constant(weight, after, additions)


def _along_filters(producer: Node, factor: Channels, rank: int) -> np.ndarray:
    """The factor shaped to multiply the weights: filters are rows, except in a plain Gemm."""
    if producer.op_type == "Gemm" and not producer.attributes.get("transB", 0):
        return factor
    return factor.reshape(-1, *(1,) * (rank - 1))


def _array(value: str, additions: Additions) -> np.ndarray:
    array = additions.array(value)
    assert array is not None, f"{value} is no constant"
    return array.astype(np.float64)


def _constant(origin: str, array: np.ndarray, additions: Additions) -> str:
    """A constant that replaces `origin` here; others may still read that."""
    readable = additions.graph.names.get(origin, origin).removesuffix(".folded")
    return additions.constant(f"{origin.removesuffix('.folded')}.folded", array, readable)


def _rounded(array: np.ndarray) -> np.ndarray | None:
    """As float32, or None if an element overflows or is none (a variance of 0 without epsilon)."""
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    return rounded if np.isfinite(rounded).all() else None
