from dataclasses import replace

import pytest

from kpuc.quant.assign import assign, kernels, macs, products
from tests.kpuc.passes.draft import Draft, node_of
from tests.kpuc.quant.networks import residual_network


def test_every_kernel_multiplies_codes_unless_it_is_kept():
    graph = residual_network()
    assert assign(graph).integer == {"stem", "first", "second", "head"}
    assert assign(graph, ["stem"]).integer == {"first", "second", "head"}


def test_factors_and_residuals_are_codes_and_outputs_are_floats():
    assert assign(residual_network()).coded == {
        "x",
        "stem",
        "pool",
        "first",
        "second",
        "mean",
        "flat",
    }


def test_what_only_floats_read_is_a_float():
    coded = assign(residual_network(), ["head"]).coded
    assert coded.isdisjoint({"mean", "flat", "second"})


def test_a_value_that_floats_and_codes_need_is_converted_once():
    draft = Draft()
    x = draft.op("x0", "Relu", draft.input("x", 1, 4, 6, 6))
    graph = draft.graph(draft.conv("a", x, 4), draft.conv("b", x, 4), draft.conv("c", x, 4))
    found = assign(graph, ["b"])
    assert found.copies == {"x0.codes": "x0"}
    assert node_of(found.graph, "x0.codes").op_type == "Identity"
    readers = {node.id: node.inputs[0] for node in found.graph.nodes if node.op_type == "Conv"}
    assert readers == {"a": "x0.codes", "b": "x0", "c": "x0.codes"}
    assert found.coded == {"x0.codes"}


def test_a_softmax_reads_floats_even_where_codes_follow():
    draft = Draft()
    scores = draft.conv("scores", draft.input("x", 1, 4, 6, 6), 8)
    shares = draft.op("shares", "Softmax", scores, axis=1)
    found = assign(draft.graph(draft.conv("mix", shares, 2, 1)))
    assert "scores" not in found.coded
    assert "shares" in found.coded


def test_a_sum_that_32_bits_may_not_hold_stays_in_floats():
    # 70,000 · 255 · 127 > 2^31
    draft = Draft()
    x = draft.input("x", 1, 70_000)
    graph = draft.graph(draft.op("y", "Gemm", x, draft.weights("w", 2, 70_000), transB=1))
    assert kernels(graph) == ()


@pytest.mark.parametrize(
    ("node_id", "expected"),
    [("stem", 27), ("head", 8)],  # 3 channels · 3 · 3 taps; 8 features
)
def test_products_of_one_output_are_counted(node_id, expected):
    graph = residual_network()
    node = node_of(graph, node_id)
    assert products(graph, node) == expected
    assert macs(graph, node) == expected * graph.types[node.outputs[0]].elements


def test_the_graph_without_conversions_is_the_same():
    graph = residual_network()
    assert assign(graph).graph is graph
    assert replace(assign(graph), graph=graph) == assign(graph)
