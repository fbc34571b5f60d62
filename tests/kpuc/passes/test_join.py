"""Concatenations whose operands are in their places, but for those that have to be copied there."""

from formats.precision import KPUPrecision
from kpuc.aliases import aliases
from kpuc.passes.join import join_in_place
from kpuc.precision import float_storage
from tests.kpuc.passes.draft import Draft, assert_same_meaning, node_of, op_types


def joined(graph):
    return join_in_place(graph, float_storage(graph, KPUPrecision.FP16), {})


def test_an_input_is_copied_into_its_place():
    draft = Draft()
    x = draft.input("x", 1, 8, 32, 32)
    whole = draft.op("whole", "Concat", draft.op("a", "Relu", x), x, axis=1)
    graph = draft.graph(draft.op("y", "Relu", whole))
    after, storage, formats = joined(graph)
    assert_same_meaning(graph, after)
    assert op_types(after) == ["Relu", "Identity", "Concat", "Relu"]
    assert aliases(after, storage, formats).views == {"whole"}


def test_a_value_that_is_joined_twice_is_copied_the_second_time():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 8, 32, 32))
    b = draft.op("b", "Sigmoid", a)
    one = draft.op("one", "Concat", a, b, axis=1)
    other = draft.op("other", "Concat", draft.op("c", "Relu", b), a, axis=1)
    graph = draft.graph(draft.op("y", "Relu", one), draft.op("z", "Relu", other))
    after, storage, formats = joined(graph)
    assert_same_meaning(graph, after)
    assert node_of(after, "one").inputs == ("a", "b")
    assert node_of(after, "other").inputs == ("c", "a.part1")
    assert aliases(after, storage, formats).views == {"one", "other"}


def test_a_value_beside_itself_is_copied_once():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 8, 32, 32))
    graph = draft.graph(draft.op("y", "Relu", draft.op("whole", "Concat", a, a, axis=1)))
    after, _, _ = joined(graph)
    assert_same_meaning(graph, after)
    assert node_of(after, "whole").inputs == ("a", "a.part1")


def test_what_costs_more_to_dispatch_than_to_move_is_left_as_it_is():
    draft = Draft()
    x = draft.input("x", 1, 8, 4, 4)  # 256 bytes are less than 4,096
    whole = draft.op("whole", "Concat", draft.op("a", "Relu", x), x, axis=1)
    graph = draft.graph(draft.op("y", "Relu", whole))
    after, _, _ = joined(graph)
    assert op_types(after) == ["Relu", "Concat", "Relu"]
