"""Which activations stay in L2: all that fit, and of the others those that cost most traffic."""

import pytest

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from kpuc.aliases import aliases
from kpuc.graph import Graph
from kpuc.placement import live_in_dram
from kpuc.precision import float_storage
from kpuc.scheduled import Scheduled
from tests.kpuc.passes.draft import Draft

LINE = KPUConfig().memory.cache_line_bytes
FP16 = KPUPrecision.FP16


def scheduled(graph: Graph) -> Scheduled:
    """In source order, all NCHW."""
    storage = float_storage(graph, FP16)
    return Scheduled(graph, graph.nodes, storage, {}, aliases(graph, storage, {}))


def in_dram(graph: Graph, capacity_bytes: int, staging_bytes: int = 0, least: int = 0) -> set[str]:
    """Activations in DRAM, without the outputs, which always are."""
    decided = scheduled(graph)
    positions = [least] * len(decided.order)
    found = live_in_dram(decided, capacity_bytes, staging_bytes, positions, LINE)
    assert found.issuperset(graph.outputs)
    return set(found) - set(graph.outputs)


def skip_connection() -> Graph:
    """x -> a -> b -> c -> (a + c); every value 1024 elements, 2 KiB in fp16."""
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 1024))
    b = draft.op("b", "Relu", a)
    c = draft.op("c", "Relu", b)
    return draft.graph(draft.op("sum", "Add", a, c))


def test_everything_stays_where_everything_fits():
    # a, b and c live while c is computed: 6 KiB
    assert in_dram(skip_connection(), 6 * 1024) == set()


def test_of_equal_values_the_one_that_is_moved_least_per_byte_it_frees_goes():
    # b is written once and read once, a is read twice; either frees 2 KiB of the 6 KiB
    assert in_dram(skip_connection(), 5 * 1024) == {"b"}


def test_staging_that_an_op_must_have_counts_as_needed():
    assert in_dram(skip_connection(), 6 * 1024, least=1024) == {"b"}


def test_staging_that_an_op_would_like_counts_up_to_its_share():
    # op a stages x (2 KiB) beside its own result: 4 KiB, well inside
    assert in_dram(skip_connection(), 6 * 1024, staging_bytes=2048) == set()


def test_nothing_stays_where_nothing_fits():
    assert in_dram(skip_connection(), 1024) == {"a", "b", "c"}


def test_what_went_for_nothing_comes_back():
    # The large value alone exceeds L2; once it is out, the small ones that went first fit again.
    draft = Draft()
    small = draft.op("small", "Relu", draft.input("x", 1, 64))
    wide = draft.op("wide", "Add", small, draft.constant("w", [[0.5]] * 4096))
    narrow = draft.op("narrow", "ReduceMean", wide, axes=[0], keepdims=1)
    graph = draft.graph(draft.op("sum", "Add", narrow, small))
    assert in_dram(graph, 16 * 1024) == {"wide"}


def test_a_view_goes_where_its_root_goes():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 1024))
    flat = draft.op("flat", "Reshape", a, shape=[1024])
    decided = scheduled(draft.graph(draft.op("out", "Relu", flat)))
    assert decided.roots["flat"] == "a"
    assert live_in_dram(decided, 1024, 0, [0, 0, 0], LINE) == {"a", "out"}


@pytest.mark.parametrize("capacity_kib", [1, 2, 3, 4, 5, 6, 8])
def test_what_stays_fits_at_every_moment(capacity_kib):
    graph = skip_connection()
    decided = scheduled(graph)
    moved = live_in_dram(decided, capacity_kib * 1024, 0, [0] * 4, LINE)
    for position in range(len(decided.order)):
        live = [
            decided.size_bytes(root)
            for root, (first, last) in decided.ranges.items()
            if root not in moved and first <= position <= last
        ]
        assert sum(live) <= capacity_kib * 1024
