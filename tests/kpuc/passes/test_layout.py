"""Layout is a choice by cost: exact on its model, never worse than none, unseen in results."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.config import KPUConfig, MemoryConfig
from formats.precision import KPUPrecision
from kpuc.passes import layout
from kpuc.passes.layout import assign_layout, total_cycles
from kpuc.passes.layout_cost import PLAIN, Costs, Estimator, Orders
from kpuc.passes.layout_cut import cheapest_orders
from kpuc.precision import float_storage
from kpuc.text import dump
from tests.kpuc.passes.draft import Draft, assert_same_meaning, op_types

FP16 = KPUPrecision.FP16
DOCUMENT = KPUConfig()
# Maps do not fit these memories, so that tiles have short runs in one of the orders.
CRAMPED = KPUConfig(memory=MemoryConfig(sram_l1_bytes=32 * 1024, sram_l2_bytes=256 * 1024))


def laid_out(graph, config):
    """The graph after `assign_layout` in FP16, and the formats of its values."""
    after, _, formats = assign_layout(graph, float_storage(graph, FP16), config)
    return after, formats


def every_other_pixel():
    """Focus, as in YOLOv5: strided slices of a map, joined along the channels."""
    draft = Draft()
    y = draft.conv("stem", draft.input("x", 1, 8, 56, 56), 64, 1)
    corners = [
        draft.op(
            f"s{row}{column}",
            "Slice",
            y,
            starts=(row, column),
            ends=(56, 56),
            axes=(2, 3),
            steps=(2, 2),
        )
        for row, column in ((0, 0), (1, 1))
    ]
    joined = draft.op("joined", "Concat", *corners, axis=1)
    return draft.graph(draft.conv("head", joined, 8, 1))


def test_short_runs_make_a_map_channels_last():
    graph = every_other_pixel()

    after, formats = laid_out(graph, CRAMPED)

    assert {"stem", "s00", "s11"} <= {v for v, order in formats.items() if order == "NHWC"}
    assert_same_meaning(graph, after)
    assert "%stem: fp32[1, 64, 56, 56] NHWC = Conv(%x" in dump(after, formats)


def test_where_nothing_is_gained_nothing_changes():
    draft = Draft()
    inner = draft.conv("inner", draft.input("x", 1, 16, 14, 14), 16)
    graph = draft.graph(draft.conv("outer", inner, 16))

    after, formats = laid_out(graph, DOCUMENT)

    assert after is graph
    assert formats == dict.fromkeys(graph.types, "NCHW")


def test_a_graph_without_maps_is_left_alone():
    draft = Draft()
    gemm = draft.op("y", "Gemm", draft.input("x", 2, 4), draft.weights("w", 4, 3))

    after, formats = laid_out(draft.graph(gemm), CRAMPED)

    assert op_types(after) == ["Gemm"]
    assert set(formats.values()) == {"NCHW"}


def forced_layout(monkeypatch, graph, nhwc):
    """assign_layout when reading and writing as in `nhwc` (node id -> Orders) costs nothing."""
    monkeypatch.setattr(layout, "LEAST_GAIN", -1.0)
    orders = {node.id: nhwc.get(node.id, PLAIN) for node in graph.nodes}
    monkeypatch.setattr(layout, "_cheapest_orders", lambda *_: orders)
    return laid_out(graph, DOCUMENT)


def test_readers_share_one_copy_and_the_interface_stays_as_it_is(monkeypatch):
    draft = Draft()
    x = draft.input("x", 1, 4, 6, 6)
    pooled = draft.op("pool", "MaxPool", draft.conv("conv", x, 4), kernel_shape=(2, 2))
    left, right = draft.op("left", "Relu", pooled), draft.op("right", "Tanh", pooled)
    graph = draft.graph(draft.op("sum", "Add", left, right))
    last = Orders(1, 1)

    after, formats = forced_layout(
        monkeypatch, graph, {"left": last, "right": last, "sum": Orders(1, 0)}
    )

    assert op_types(after) == ["Conv", "MaxPool", "Identity", "Relu", "Tanh", "Add"]
    assert after.nodes[3].inputs == after.nodes[4].inputs == ("pool.nhwc",)
    assert formats["pool"] == "NCHW"
    assert formats["pool.nhwc"] == formats["left"] == formats["right"] == "NHWC"
    assert formats["x"] == formats["sum"] == "NCHW"
    assert set(formats) == set(after.types)
    assert_same_meaning(graph, after)


def test_a_value_whose_bytes_are_the_same_either_way_is_never_copied(monkeypatch):
    draft = Draft()
    mean = draft.op("mean", "GlobalAveragePool", draft.input("x", 1, 4, 6, 6))
    graph = draft.graph(draft.op("flat", "Flatten", draft.op("relu", "Relu", mean)))
    last = Orders(1, 1)

    after, formats = forced_layout(monkeypatch, graph, {"mean": last, "relu": last, "flat": last})

    assert op_types(after) == ["Identity", "GlobalAveragePool", "Relu", "Flatten"]
    assert [v for v, order in formats.items() if order == "NHWC"] == ["x.nhwc"]


def test_a_view_of_a_map_costs_a_copy_unless_it_is_read_in_the_order_of_its_shape():
    draft = Draft()
    relu = draft.op("relu", "Relu", draft.input("x", 1, 64, 56, 56))
    flat = draft.op("flat", "Flatten", relu)
    graph = draft.graph(draft.op("y", "Tanh", flat))
    storage = float_storage(graph, FP16)
    estimator = Estimator(graph, frozenset({"x", "relu"}), storage, DOCUMENT)

    table = estimator.table(graph.nodes[1])

    assert table[PLAIN] == 0
    assert table[Orders(1, 0)] == table[Orders(1, 1)] > 0


# Small graphs of unary and binary ops on one input, with made-up costs.
SHAPES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5)
CYCLES = st.lists(st.integers(0, 40), min_size=40, max_size=40)


def made_up(shape, cycles):
    """A graph, and costs that are submodular: mixing orders is not cheaper than either pure one."""
    draft = Draft()
    values = [draft.input("x", 1, 2, 2, 2)]
    for number, (a, b) in enumerate(shape):
        first, second = values[a % len(values)], values[b % len(values)]
        values.append(draft.op(f"n{number}", "Add", first, second))
    graph = draft.graph(values[-1])
    numbers = iter(cycles)
    tables = {}
    for node in graph.nodes:
        plain, last, extra, share = (next(numbers) for _ in range(4))
        mixed = plain + last + extra
        tables[node.id] = {
            PLAIN: plain,
            Orders(1, 1): last,
            Orders(0, 1): mixed * share // 40,
            Orders(1, 0): mixed - mixed * share // 40,
        }
    copies = {value: (next(numbers), next(numbers)) for value in values}
    return graph, Costs(tables, copies)


@settings(max_examples=150, deadline=None)
@given(SHAPES, CYCLES)
def test_no_choice_of_orders_is_cheaper_than_the_cut(shape, cycles):
    graph, costs = made_up(shape, cycles)
    ids = [node.id for node in graph.nodes]
    every = [Orders(r, w) for r in (0, 1) for w in (0, 1)]
    choices = (dict(zip(ids, each, strict=True)) for each in product(every, repeat=len(ids)))
    legal = (choice for choice in choices if choice[ids[-1]].write == 0)

    chosen = cheapest_orders(graph, costs)

    assert chosen[ids[-1]].write == 0
    assert total_cycles(graph, costs, chosen) == min(
        total_cycles(graph, costs, choice) for choice in legal
    )


@pytest.mark.parametrize("config", [DOCUMENT, CRAMPED], ids=["document", "cramped"])
def test_the_choice_is_never_worse_than_all_nchw(config):
    graph = every_other_pixel()
    sensitive = frozenset(node.outputs[0] for node in graph.nodes) | {"x"}
    estimator = Estimator(graph, sensitive, float_storage(graph, FP16), config)
    tables = {node.id: estimator.table(node) for node in graph.nodes}
    costs = Costs(tables, {value: estimator.copies(value) for value in sensitive})

    chosen = cheapest_orders(graph, costs)

    assert total_cycles(graph, costs, chosen) <= total_cycles(graph, costs, {})
