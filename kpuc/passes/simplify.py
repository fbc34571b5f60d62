"""What one node can be replaced by without computing anything: its operand, or a simpler node."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np

from kpuc.graph import Node
from kpuc.passes.edit import Additions

VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})

# Ops that cannot change an element: the same type means the same tensor.
_SAME_WHEN_TYPE_IS = VIEWS | {
    "Identity",
    "Cast",
    "Slice",
    "Concat",
    "Split",
    "GlobalAveragePool",
    "ReduceMean",
    "ReduceSum",
}
# Binary op -> the element that changes nothing as its right (or, if it commutes, left) operand.
# x + 0 turns -0 into 0, which compares equal.
_NEUTRAL = {"Add": 0, "Sub": 0, "Mul": 1, "Div": 1}
_COMMUTATIVE = frozenset({"Add", "Mul"})


def simplify(
    node: Node, additions: Additions, makers: Mapping[str, Node], native_ops: Collection[str]
) -> Node | str:
    """The value that the node's only result equals, or the node, perhaps simplified.

    makers: first result -> node, for the nodes before this one. native_ops: what else it may be.
    """
    if node.epilogue or len(node.outputs) != 1:
        return node
    merged = _REWRITES[node.op_type](node, additions, makers) if node.op_type in _REWRITES else node
    if merged.op_type != node.op_type and merged.op_type not in native_ops:
        merged = node
    operand, result = additions.type(merged.inputs[0]), additions.type(merged.outputs[0])
    if operand == result and _changes_nothing(merged, additions):
        return merged.inputs[0]
    if merged.op_type in _COMMUTATIVE and additions.type(merged.inputs[1]) == result:
        return merged.inputs[1] if _is_neutral(merged, 0, additions) else merged
    return merged


def _changes_nothing(node: Node, additions: Additions) -> bool:
    """Whether a node whose result has its first operand's type gives just that operand."""
    if node.op_type in _SAME_WHEN_TYPE_IS:
        return True
    check = _CHANGES_NOTHING.get(node.op_type)
    return check is not None and check(node, additions)


def _is_neutral(node: Node, index: int, additions: Additions) -> bool:
    array = additions.array(node.inputs[index])
    return array is not None and bool(np.all(array == _NEUTRAL[node.op_type]))


def _right_is_neutral(node: Node, additions: Additions) -> bool:
    return _is_neutral(node, 1, additions)


def _pads_nothing(node: Node, _: Additions) -> bool:
    return not any(node.attributes["pads"])


def _pools_single_elements(node: Node, _: Additions) -> bool:
    return set(node.attributes["kernel_shape"]) == {1}


def _is_open(node: Node, _: Additions) -> bool:
    return node.attributes.get("min") is None and node.attributes.get("max") is None


def _picks_all_in_order(node: Node, additions: Additions) -> bool:
    indices = additions.array(node.inputs[1])
    if indices is None or indices.ndim != 1:
        return False
    size = additions.type(node.inputs[0]).shape[node.attributes.get("axis", 0)]
    return np.array_equal(np.where(indices < 0, indices + size, indices), np.arange(size))


_CHANGES_NOTHING: dict[str, Callable[[Node, Additions], bool]] = {
    "Add": _right_is_neutral,
    "Sub": _right_is_neutral,
    "Mul": _right_is_neutral,
    "Div": _right_is_neutral,
    "Pad": _pads_nothing,
    "MaxPool": _pools_single_elements,
    "AveragePool": _pools_single_elements,
    "Clip": _is_open,
    "Gather": _picks_all_in_order,
}


def _maker(node: Node, op_types: frozenset[str], makers: Mapping[str, Node]) -> Node | None:
    """The node of one of these types, without an epilogue, that makes the first operand."""
    maker = makers.get(node.inputs[0])
    return maker if maker and maker.op_type in op_types and not maker.epilogue else None


def _merged_view(node: Node, additions: Additions, makers: Mapping[str, Node]) -> Node:
    """A view of a view is one Reshape."""
    before = _maker(node, VIEWS, makers)
    if before is None:
        return node
    shape = additions.type(node.outputs[0]).shape
    return replace(node, op_type="Reshape", inputs=before.inputs, attributes={"shape": shape})


def _merged_transpose(node: Node, additions: Additions, makers: Mapping[str, Node]) -> Node:
    """A transpose of a transpose is one; one that only moves axes of size 1 is a Reshape."""
    source = node.inputs[0]
    permutation = _permutation(node, additions)
    before = _maker(node, frozenset({"Transpose"}), makers)
    if before is not None:
        earlier = _permutation(before, additions)
        source = before.inputs[0]
        permutation = tuple(earlier[axis] for axis in permutation)
    merged = replace(node, inputs=(source,), attributes={"perm": permutation})
    shape = additions.type(source).shape
    moved = [axis for axis in permutation if shape[axis] != 1]
    if moved != sorted(moved):
        return merged
    result = additions.type(node.outputs[0]).shape
    reshape = replace(merged, op_type="Reshape", attributes={"shape": result})
    return _merged_view(reshape, additions, makers)


def _permutation(node: Node, additions: Additions) -> tuple[int, ...]:
    """Input axis of each output axis, none negative; no `perm` reverses them."""
    rank = additions.type(node.inputs[0]).rank
    given = node.attributes.get("perm")
    return tuple(reversed(range(rank))) if given is None else tuple(a % rank for a in given)


def _rejoined(node: Node, additions: Additions, makers: Mapping[str, Node]) -> Node:
    """Concat of all parts of a Split, in their order, reads what was split."""
    axis = _axis(node, additions)
    inputs: list[str] = []
    position = 0
    while position < len(node.inputs):
        value = node.inputs[position]
        split = makers.get(value)
        if split is not None and split.op_type == "Split" and _axis(split, additions) == axis:
            end = position + len(split.outputs)
            if node.inputs[position:end] == split.outputs:
                inputs.append(split.inputs[0])
                position = end
                continue
        inputs.append(value)
        position += 1
    return replace(node, inputs=tuple(inputs))


def _axis(node: Node, additions: Additions) -> int:
    return int(node.attributes.get("axis", 0)) % additions.type(node.inputs[0]).rank


def _as_product(node: Node, additions: Additions, makers: Mapping[str, Node]) -> Node:
    """Division by powers of two is exact as the product that is cheaper."""
    divisor = additions.array(node.inputs[1])
    if divisor is None or divisor.dtype != np.float32:
        return node
    mantissa, exponent = np.frexp(divisor)
    if not (np.all(np.abs(mantissa) == 0.5) and np.all(np.abs(exponent) < _SAFE_EXPONENT)):
        return node
    reciprocal = additions.constant(f"{node.inputs[1]}.reciprocal", 1 / divisor)
    return replace(node, op_type="Mul", inputs=(node.inputs[0], reciprocal))


_SAFE_EXPONENT = 100  # of 2, so that the reciprocal is a normal float32

_REWRITES: dict[str, Callable[[Node, Additions, Mapping[str, Node]], Node]] = {
    **dict.fromkeys(VIEWS, _merged_view),
    "Transpose": _merged_transpose,
    "Concat": _rejoined,
    "Div": _as_product,
}
