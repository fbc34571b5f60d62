"""Folding computes what is known, shares what is done twice, and never touches the interface."""

import numpy as np
import pytest

from formats.errors import CompilationError
from formats.precision import DType
from kpuc.passes import fold as fold_module
from kpuc.passes.fold import fold
from tests.kpuc.passes.draft import Draft, assert_same_meaning, node_of, op_types


def test_constant_expressions_are_computed_in_float32_and_exact_integers():
    draft = Draft()
    x = draft.input("x", 4)
    big = draft.constant("big", np.array([2**25 + 1, 3], np.int64))
    shifted = draft.op("shifted", "Add", big, draft.constant("one", np.array(1, np.int64)))
    as_float = draft.op(
        "as_float", "Cast", draft.op("part", "Slice", shifted, starts=(1,), ends=(2,)), to="fp32"
    )
    third = draft.op("third", "Div", as_float, draft.constant("three", 3.0))
    graph = draft.graph(draft.op("y", "Mul", x, third), draft.op("whole", "Identity", shifted))

    folded = fold(graph)

    assert op_types(folded) == ["Mul", "Identity"]
    assert folded.constants["third.folded"] == np.float32(4) / np.float32(3)
    np.testing.assert_array_equal(folded.constants["shifted.folded"], [2**25 + 2, 4])
    assert_same_meaning(graph, folded)


def test_a_shape_is_known_whatever_it_is_the_shape_of():
    draft = Draft()
    x = draft.input("x", 2, 7)
    shape = draft.op("shape", "Shape", x)
    rows = draft.op("rows", "Gather", shape, draft.constant("zero", np.array(0, np.int64)))
    graph = draft.graph(draft.op("y", "Mul", x, draft.op("scale", "Cast", rows, to="fp32")))

    folded = fold(graph)

    assert op_types(folded) == ["Mul"]
    assert_same_meaning(graph, folded)


def test_an_index_out_of_range_in_a_constant_expression_is_the_users_error():
    draft = Draft()
    data, indices = draft.constant("data", np.zeros(3)), draft.constant("i", np.array([7]))
    graph = draft.graph(draft.op("y", "Relu", draft.op("row", "Gather", data, indices)))

    with pytest.raises(CompilationError, match=r"model\.row: .*index 7 .* m\.py:1"):
        fold(graph)


def test_a_small_constant_is_not_blown_up():
    draft = Draft()
    x = draft.input("x", 512, 512)
    row = draft.constant("row", np.arange(512.0).reshape(1, 512))
    repeated = draft.op("repeated", "Gather", row, draft.constant("zeros", np.zeros(512, np.int64)))
    graph = draft.graph(draft.op("y", "Sub", repeated, x))

    folded = fold(graph)

    assert folded.nodes == graph.nodes
    growth = fold_module.MOST_GROWTH_BYTES
    assert sum(array.nbytes for array in folded.constants.values()) <= growth


def test_equal_nodes_are_shared_and_different_ones_are_not():
    draft = Draft()
    x = draft.input("x", 2, 6)
    first = draft.parts("first", "Split", x, axis=1, split=(3, 3))
    second = draft.parts("second", "Split", x, axis=1, split=[3, 3])
    third = draft.parts("third", "Split", x, axis=1, split=(2, 4))
    a = draft.op("a", "Add", first[0], second[1])
    graph = draft.graph(draft.op("b", "Concat", a, third[1], third[0], first[1], axis=1))

    folded = fold(graph)

    assert op_types(folded) == ["Split", "Split", "Add", "Concat"]
    assert_same_meaning(graph, folded)


def test_outputs_stay_outputs_whatever_they_equal():
    draft = Draft()
    x = draft.input("x", 2, 2)
    y = draft.op("y", "Relu", x)
    of_input = draft.op("of_input", "Identity", x)
    of_value = draft.op("of_value", "Reshape", y, shape=(2, 2))
    known = draft.op("known", "Add", draft.constant("one", 1.0), draft.constant("two", 2.0))
    z = draft.op("z", "Softmax", of_value)
    graph = draft.graph(of_input, of_value, known, y, z)

    folded = fold(graph)

    assert_same_meaning(graph, folded)
    assert node_of(folded, "z").inputs == ("y",)
    assert node_of(folded, "known").op_type == "Identity"


def test_a_copy_for_the_program_is_written_by_its_maker():
    draft = Draft()
    x = draft.input("x", 2, 2)
    graph = draft.graph(draft.op("out", "Identity", draft.op("y", "Relu", x)))

    folded = fold(graph)

    assert op_types(folded) == ["Relu"]
    assert folded.nodes[0].outputs == ("out",)
    assert_same_meaning(graph, folded)


def test_integers_keep_their_type():
    draft = Draft()
    x = draft.input("x", 3, dtype=DType.INT32)
    kept = draft.op("kept", "Add", x, draft.constant("zero", np.zeros((), np.int32)))
    graph = draft.graph(draft.op("wide", "Cast", kept, to="int64"))

    folded = fold(graph)

    assert op_types(folded) == ["Cast"]
    assert_same_meaning(graph, folded)


def test_folding_twice_changes_nothing_more():
    draft = Draft()
    x = draft.input("x", 1, 6, 4, 4)
    a, b = draft.parts("parts", "Split", draft.conv("c", x, 6), axis=1, split=(2, 4))
    flat = draft.op("flat", "Flatten", draft.op("y", "Concat", a, b, axis=1))
    once = fold(draft.graph(flat))

    assert fold(once) == once
