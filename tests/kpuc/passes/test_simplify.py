"""What does nothing is dropped, what nearly does nothing is replaced by less, nothing else is."""

import numpy as np
import pytest

from kpuc.passes.fold import fold
from tests.kpuc.passes.draft import Draft, assert_same_meaning, node_of, op_types

SHAPE = (2, 3, 4, 5)

# Name -> (op, attributes, constant operand or None): on an operand of SHAPE each changes nothing.
IDLE = {
    "identity": ("Identity", {}, None),
    "reshape": ("Reshape", {"shape": (2, 3, -1, 5)}, None),
    "transpose": ("Transpose", {"perm": (0, 1, -2, 3)}, None),
    "cast": ("Cast", {"to": "fp32"}, None),
    "slice": ("Slice", {"starts": (0, -4), "ends": (99, 4), "axes": (0, 2)}, None),
    "concat": ("Concat", {"axis": 1}, None),
    "split": ("Split", {"axis": 1, "split": (3,)}, None),
    "pad": ("Pad", {"pads": (0,) * 8, "mode": "reflect"}, None),
    "clip": ("Clip", {}, None),
    "max pool": ("MaxPool", {"kernel_shape": (1, 1)}, None),
    "average pool": ("AveragePool", {"kernel_shape": (1, 1)}, None),
    "add 0": ("Add", {}, np.zeros((3, 1, 1))),
    "sub 0": ("Sub", {}, np.zeros(())),
    "mul 1": ("Mul", {}, np.ones((1, 3, 1, 1))),
    "div 1": ("Div", {}, np.ones(5)),
    "gather": ("Gather", {"axis": 1}, np.array([0, -2, 2])),
}

# As IDLE, but each of these does something.
BUSY = {
    "transpose": ("Transpose", {"perm": (0, 1, 3, 2)}, None),
    "cast": ("Cast", {"to": "int32"}, None),
    "shifting pad": ("Pad", {"pads": (0, 0, 0, 1, 0, 0, 0, -1)}, None),
    "clip": ("Clip", {"min": 0.0}, None),
    "strided pool": ("MaxPool", {"kernel_shape": (1, 1), "strides": (2, 2)}, None),
    "broadcasting add 0": ("Add", {}, np.zeros((3, 1, 1, 1, 1))),
    "add 0 and 1": ("Add", {}, np.array([0.0, 0, 0, 0, 1])),
    "gather": ("Gather", {"axis": 1}, np.array([0, 2, 1])),
    "step": ("Slice", {"starts": (0,), "ends": (4,), "axes": (2,), "steps": (2,)}, None),
}


def with_op(op_type, attributes, constant):
    draft = Draft()
    operands = [draft.input("x", *SHAPE)]
    if constant is not None:
        operands.append(draft.constant("c", constant))
    result = draft.op("y", op_type, *operands, **attributes)
    is_float = draft.types[result].is_float
    return draft.graph(draft.op("z", "Softmax", result) if is_float else result)


@pytest.mark.parametrize("case", IDLE)
def test_what_changes_nothing_is_dropped(case):
    graph = with_op(*IDLE[case])

    folded = fold(graph)

    assert op_types(folded) == ["Softmax"]
    assert_same_meaning(graph, folded)


@pytest.mark.parametrize("case", BUSY)
def test_what_changes_something_stays(case):
    graph = with_op(*BUSY[case])

    folded = fold(graph)

    assert folded.nodes == graph.nodes


def test_neutral_operand_on_the_left_counts_only_where_the_op_commutes():
    draft = Draft()
    x = draft.input("x", *SHAPE)
    one = draft.constant("one", np.ones(()))
    product = draft.op("product", "Mul", one, x)
    reciprocal = draft.op("reciprocal", "Div", one, product)
    graph = draft.graph(draft.op("sum", "Add", draft.constant("zero", 0.0), reciprocal))

    folded = fold(graph)

    assert op_types(folded) == ["Div"]
    assert_same_meaning(graph, folded)


def test_adding_zeros_that_enlarge_is_kept():
    draft = Draft()
    x = draft.input("x", 1, 5)
    graph = draft.graph(draft.op("y", "Add", x, draft.constant("zeros", np.zeros((3, 1)))))

    assert fold(graph).nodes == graph.nodes


def test_views_of_views_are_one_reshape():
    draft = Draft()
    x = draft.input("x", 2, 3, 4)
    flat = draft.op("flat", "Flatten", draft.op("more", "Unsqueeze", x, axes=(0,)), axis=2)
    graph = draft.graph(draft.op("y", "Softmax", draft.op("rows", "Reshape", flat, shape=(6, 4))))

    folded = fold(graph)

    assert op_types(folded) == ["Reshape", "Softmax"]
    assert folded.nodes[0].inputs == ("x",)
    assert_same_meaning(graph, folded)


def test_a_view_and_its_way_back_vanish():
    draft = Draft()
    x = draft.input("x", 2, 3, 1)
    back = draft.op("back", "Unsqueeze", draft.op("there", "Squeeze", x), axes=(2,))
    graph = draft.graph(draft.op("y", "Relu", back))

    assert op_types(fold(graph)) == ["Relu"]


def test_transposes_are_composed_in_the_right_order():
    draft = Draft()
    x = draft.input("x", 2, 3, 4, 5)
    once = draft.op("once", "Transpose", x, perm=(1, 2, 3, 0))
    graph = draft.graph(draft.op("twice", "Transpose", once, perm=(0, 2, 1, 3)))

    folded = fold(graph)

    assert op_types(folded) == ["Transpose"]
    assert folded.nodes[0].attributes["perm"] == (1, 3, 2, 0)
    assert_same_meaning(graph, folded)


def test_a_transpose_of_axes_of_size_one_is_a_view():
    draft = Draft()
    x = draft.input("x", 1, 3, 1, 5)
    graph = draft.graph(draft.op("y", "Relu", draft.op("t", "Transpose", x)))
    moved = draft.op("u", "Transpose", x, perm=(0, 2, 1, 3))
    other = draft.graph(draft.op("z", "Relu", moved))

    assert op_types(fold(graph)) == ["Transpose", "Relu"]
    assert op_types(fold(other)) == ["Reshape", "Relu"]
    assert_same_meaning(other, fold(other))


def test_rejoined_parts_are_what_was_split():
    draft = Draft()
    x = draft.input("x", 2, 6)
    a, b = draft.parts("parts", "Split", x, axis=1, split=(2, 4))
    graph = draft.graph(draft.op("y", "Concat", a, b, draft.op("r", "Relu", b), axis=-1))
    swapped = draft.graph(draft.op("z", "Concat", b, a, axis=1))

    folded = fold(graph)

    assert op_types(folded) == ["Slice", "Relu", "Concat"]
    assert node_of(folded, "y").inputs == ("x", "r")
    assert_same_meaning(graph, folded)
    assert op_types(fold(swapped)) == ["Split", "Concat"]


@pytest.mark.parametrize(("divisors", "exact"), [([8.0, -0.25], True), ([3.0, 8.0], False)])
def test_division_becomes_a_product_only_where_that_is_exact(divisors, exact):
    draft = Draft()
    x = draft.input("x", 3, 2)
    graph = draft.graph(draft.op("y", "Div", x, draft.constant("c", divisors)))

    folded = fold(graph)

    assert op_types(folded) == (["Mul"] if exact else ["Div"])
    assert_same_meaning(graph, folded, tolerance=0)


def test_division_by_zero_is_kept():
    draft = Draft()
    graph = draft.graph(
        draft.op("y", "Div", draft.input("x", 3, 2), draft.constant("c", [0.0, 1.0]))
    )

    assert op_types(fold(graph)) == ["Div"]


def test_nothing_becomes_an_op_that_the_machine_lacks():
    draft = Draft()
    x = draft.input("x", 1, 1, 6)
    _, part = draft.parts("parts", "Split", x, axis=2, split=(2, 4))
    moved = draft.op("moved", "Transpose", part, perm=(0, 2, 1))
    graph = draft.graph(draft.op("half", "Div", moved, draft.constant("two", 2.0)))

    assert op_types(fold(graph)) == ["Slice", "Reshape", "Mul"]
    assert op_types(fold(graph, ("Split", "Transpose", "Div"))) == op_types(graph)
