"""A value that is an output and read inside is there twice, rounded for its readers."""

from kpuc.passes.separate_outputs import separate_outputs
from tests.kpuc.passes.draft import Draft, assert_same_meaning, node_of, op_types


def test_what_is_computed_is_rounded_for_its_readers():
    draft = Draft()
    a = draft.op("a", "Sigmoid", draft.input("x", 1, 8))
    graph = draft.graph(draft.op("y", "Relu", a), a)
    after = separate_outputs(graph)
    assert_same_meaning(graph, after)
    assert (node_of(after, "a.copy").inputs, node_of(after, "y").inputs) == (("a",), ("a.rounded",))


def test_what_is_only_moved_is_widened_to_the_output():
    draft = Draft()
    a = draft.op("a", "Sigmoid", draft.input("x", 1, 8))
    both = draft.op("both", "Concat", a, draft.op("b", "Relu", "x"), axis=1)
    graph = draft.graph(draft.op("y", "Relu", both), both)
    after = separate_outputs(graph)
    assert_same_meaning(graph, after)
    assert node_of(after, "both").outputs == ("both.rounded",)
    assert node_of(after, "both.copy").outputs == ("both",)
    assert node_of(after, "y").inputs == ("both.rounded",)


def test_an_output_that_nothing_reads_is_left_alone():
    draft = Draft()
    graph = draft.graph(draft.op("y", "Relu", draft.input("x", 1, 8)))
    assert op_types(separate_outputs(graph)) == ["Relu"]
