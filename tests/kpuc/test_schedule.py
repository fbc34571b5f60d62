"""Scheduling: a valid order that needs no more memory than the source order."""

from hypothesis import given
from hypothesis import strategies as st

from formats.precision import DType
from kpuc.graph import Graph, Node
from kpuc.schedule import live_profile, live_ranges, schedule
from kpurun.ops.types import TensorType


def graph_of(sizes: list[int], reads: list[list[int]]) -> Graph:
    """Value i has sizes[i] elements and is made from the values reads[i] (or the input)."""
    nodes = tuple(
        Node(
            id=f"n{index}",
            op_type="Concat",
            inputs=tuple(f"v{source}" for source in dict.fromkeys(sources)) or ("x",),
            outputs=(f"v{index}",),
        )
        for index, sources in enumerate(reads)
    )
    types = {f"v{index}": TensorType((size,)) for index, size in enumerate(sizes)}
    return Graph("g", ("x",), (f"v{len(sizes) - 1}",), nodes, {"x": TensorType((1,)), **types})


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 12))
    sizes = draw(st.lists(st.integers(1, 1000), min_size=count, max_size=count))
    reads = [
        draw(st.lists(st.integers(0, index - 1), max_size=3)) if index else []
        for index in range(count)
    ]
    return graph_of(sizes, reads)


def scheduled(graph: Graph) -> tuple[tuple[Node, ...], dict, dict]:
    dtypes = dict.fromkeys(graph.types, DType.FP16)
    roots = {value: value for value in graph.types}
    return schedule(graph, dtypes, roots), dtypes, roots


@given(graphs())
def test_every_node_runs_once_after_what_it_reads(graph):
    order, _, _ = scheduled(graph)
    made = set(graph.inputs)
    for node in order:
        assert made.issuperset(node.inputs)
        made |= set(node.outputs)
    assert sorted(node.id for node in order) == sorted(node.id for node in graph.nodes)


@given(graphs())
def test_the_peak_is_never_above_the_source_orders(graph):
    order, dtypes, roots = scheduled(graph)
    peak, source_peak = (
        max(live_profile(graph, nodes, dtypes, roots)) for nodes in (order, graph.nodes)
    )
    assert peak <= source_peak


@given(graphs())
def test_the_order_is_the_same_every_time(graph):
    assert scheduled(graph)[0] == scheduled(graph)[0]


def test_a_graph_that_is_in_the_best_order_keeps_it():
    graph = graph_of([100, 100, 100, 100], [[], [0], [1], [2]])
    assert scheduled(graph)[0] == graph.nodes


def test_a_value_is_made_when_it_is_needed_and_not_before():
    # the large value 0 is read last of all: made first, it would lie around for the whole chain
    graph = graph_of([1000, 10, 10, 10, 1], [[], [], [1], [2], [0, 3]])
    order, _, _ = scheduled(graph)
    assert [node.id for node in order] == ["n1", "n2", "n3", "n0", "n4"]


def test_a_view_keeps_its_root_alive_and_weighs_nothing():
    graph = graph_of([1000, 1000, 1, 1], [[], [0], [1], [2]])
    dtypes = dict.fromkeys(graph.types, DType.FP16)
    roots = {value: value for value in graph.types} | {"v1": "v0"}
    assert live_ranges(graph, graph.nodes, roots)["v0"] == (0, 2)
    assert live_profile(graph, graph.nodes, dtypes, roots) == [2000, 2000, 2002, 2]


def test_outputs_live_to_the_end_but_not_in_the_live_set():
    graph = graph_of([10, 20], [[], [0]])
    dtypes = dict.fromkeys(graph.types, DType.FP16)
    roots = {value: value for value in graph.types}
    assert live_ranges(graph, graph.nodes, roots) == {"v0": (0, 1), "v1": (1, 2)}
    assert live_profile(graph, graph.nodes, dtypes, roots) == [20, 20]


def test_a_branch_is_finished_before_the_next_large_one_starts():
    # two branches of 1000 elements, each reduced to 1: the second one's 1000 elements, its result
    # and that of the first make 1002 elements of 2 B; side by side they would be 2001
    graph = graph_of([1000, 1000, 1, 1, 1], [[], [], [0], [1], [2, 3]])
    order, dtypes, roots = scheduled(graph)
    assert max(live_profile(graph, order, dtypes, roots)) == 2 * 1002
