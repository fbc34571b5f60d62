"""Dead code goes with everything that only it needed; the interface stays."""

from kpuc.passes.dead_code import eliminate_dead_code
from tests.kpuc.passes.draft import Draft, assert_same_meaning, op_types


def test_nodes_constants_types_and_names_that_nothing_needs_are_gone():
    draft = Draft()
    x = draft.input("x", 1, 2, 4, 4)
    unused = draft.input("unused", 3)
    dead = draft.conv("dead", x, 3)
    draft.op("deader", "Relu", dead)
    graph = draft.graph(draft.conv("live", x, 2))

    clean = eliminate_dead_code(graph)

    assert op_types(clean) == ["Conv"]
    assert clean.inputs == ("x", unused)
    assert set(clean.constants) == {"live.weight", "live.bias"}
    assert set(clean.types) == {"x", "unused", "live.weight", "live.bias", "live"}
    assert set(clean.names) == set(clean.types)
    assert_same_meaning(graph, clean)


def test_a_node_stays_for_one_of_its_results():
    draft = Draft()
    _, second = draft.parts("parts", "Split", draft.input("x", 4), split=(1, 3))
    graph = draft.graph(second)

    assert eliminate_dead_code(graph) == graph
