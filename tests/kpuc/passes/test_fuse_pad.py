"""A constant pad goes into the window behind it exactly where the result stays the same."""

import math

import pytest

from kpuc.passes.fuse_pad import fuse_pads
from tests.kpuc.passes.draft import Draft, assert_same_meaning, op_types

PADS = (0, 0, 1, 2, 0, 0, 0, 1)  # top 1, left 2, bottom 0, right 1


def padded(op_type, pad=None, before=None, **attributes):
    """input -> [before] -> Pad -> op, on a map of 7 × 6."""
    draft = Draft()
    x = draft.input("x", 2, 3, 7, 6)
    if before:
        x = draft.op("before", before[0], x, **before[1])
    p = draft.op("p", "Pad", x, **{"pads": PADS, **(pad or {})})
    if op_type == "Conv":
        return draft.graph(draft.conv("y", p, 4, **attributes))
    return draft.graph(draft.op("y", op_type, p, **attributes))


POOL = {"kernel_shape": (3, 3), "strides": (2, 2)}
FUSED = {
    "conv": (("Conv",), {"pads": (0, 0, 0, 0)}),
    "padded conv": (("Conv",), {"pads": (1, 0, 2, 1), "strides": (2, 1), "dilations": (1, 2)}),
    "average, counted": (("AveragePool",), {**POOL, "count_include_pad": True}),
    "average, own padding none": (("AveragePool",), POOL),
    "average, both paddings counted": (
        ("AveragePool", {"pads": (0, 0, 0, 0, 0, 0, 1, 0)}),
        {**POOL, "pads": (1, 1, 1, 1), "count_include_pad": True},
    ),
    "maximum, -inf": (("MaxPool", {"value": -math.inf}), POOL),
    "maximum, -inf, dilated": (("MaxPool", {"value": -math.inf}), {**POOL, "dilations": (2, 1)}),
    "maximum, 0 after Relu": (("MaxPool", None, ("Relu", {})), POOL),
    "maximum, -1 after Clip": (("MaxPool", {"value": -1.0}, ("Clip", {"min": -0.5})), POOL),
}


@pytest.mark.parametrize("case", FUSED)
def test_fused(case):
    arguments, attributes = FUSED[case]
    graph = padded(*arguments, **attributes)

    fused = fuse_pads(graph)

    assert "Pad" not in op_types(fused)
    assert fused.nodes[-1].fused == ("p",)
    assert_same_meaning(graph, fused, tolerance=1e-6)


KEPT = {
    "value": (("Conv", {"value": 0.5}), {}),
    "reflected": (("Conv", {"mode": "reflect"}), {}),
    "cropping": (("Conv", {"pads": (0, 0, 1, -1, 0, 0, 1, 1)}), {}),
    "channels": (("Conv", {"pads": (0, 1, 1, 1, 0, 0, 1, 1)}), {}),
    "batch": (("Conv", {"pads": (1, 0, 1, 1, 0, 0, 1, 1)}), {}),
    "average of values": (("AveragePool", {"value": 1.0}), POOL),
    "average that leaves out its own": (("AveragePool",), {**POOL, "pads": (1, 1, 1, 1)}),
    "average, wider than the window": (
        ("AveragePool", {"pads": (0, 0, 3, 0, 0, 0, 0, 0)}),
        POOL,
    ),
    "average, rounded up into the padding": (
        ("AveragePool", {"pads": (0, 0, 0, 0, 0, 0, 0, 2)}),
        {"kernel_shape": (3, 3), "strides": (3, 3), "ceil_mode": True},
    ),
    "maximum of negative values": (("MaxPool",), POOL),
    "maximum, 0 after Relu, dilated": (
        ("MaxPool", None, ("Relu", {})),
        {**POOL, "dilations": (2, 2)},
    ),
    "maximum, 1 after Relu": (("MaxPool", {"value": 1.0}, ("Relu", {})), POOL),
    "maximum, 0 after Clip above": (("MaxPool", None, ("Clip", {"max": 6.0})), POOL),
    "maximum, 0 after crossed Clip": (("MaxPool", None, ("Clip", {"min": 0.0, "max": -1.0})), POOL),
    "softmax": (("Softmax",), {}),
}


@pytest.mark.parametrize("case", KEPT)
def test_kept(case):
    arguments, attributes = KEPT[case]
    graph = padded(*arguments, **attributes)

    assert fuse_pads(graph).nodes == graph.nodes


def test_rounding_up_is_no_obstacle_where_it_counts_the_same_windows():
    graph = padded("AveragePool", {"pads": (0, 0, 0, 0, 0, 0, 1, 1)}, **POOL, ceil_mode=True)

    assert_same_meaning(graph, fuse_pads(graph), tolerance=1e-6)


def test_a_padded_map_that_is_an_output_stays_beside_the_fused_window():
    draft = Draft()
    p = draft.op("p", "Pad", draft.input("x", 1, 3, 5, 5), pads=PADS)
    graph = draft.graph(draft.conv("y", p, 4), p)

    fused = fuse_pads(graph)

    assert op_types(fused) == ["Pad", "Conv"]
    assert fused.nodes[1].inputs[0] == "x"
    assert_same_meaning(graph, fused)


@pytest.mark.parametrize("rank", [1, 3])
def test_one_and_three_dimensions(rank):
    draft = Draft()
    x = draft.input("x", 1, 2, *(6,) * rank)
    p = draft.op("p", "Pad", x, pads=(0, 0, *(1,) * rank, 0, 0, *(2,) * rank))
    w = draft.weights("w", 4, 2, *(3,) * rank)
    graph = draft.graph(draft.op("y", "Conv", p, w))

    fused = fuse_pads(graph)

    assert op_types(fused) == ["Conv"]
    assert_same_meaning(graph, fused)
