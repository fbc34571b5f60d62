"""Constant scales and shifts go into weights and bias, unless someone else sees the difference."""

import numpy as np
import pytest

from kpuc.passes.fuse_affine import fuse_affine
from tests.kpuc.passes.draft import Draft, assert_same_meaning, node_of, op_types

EPSILON = 0.1  # far from the default, so that a pass that ignores it is seen


def conv_and(write, **attributes):
    """input -> Conv -> what `write(draft, conv)` makes of it."""
    draft = Draft()
    conv = draft.conv("conv", draft.input("x", 2, 4, 5, 5), 6, **attributes)
    return draft.graph(write(draft, conv))


def scalar(draft, op_type, conv, number, shape=(), left=False):
    number = draft.constant("number", np.full(shape, number))
    return draft.op("y", op_type, *((number, conv) if left else (conv, number)))


def frozen_batch_norm(draft, conv):
    scaled = draft.op("scaled", "Mul", conv, draft.weights("scale", 1, 6, 1, 1))
    return draft.op("y", "Add", scaled, draft.weights("shift", 6, 1, 1))


FOLDED = {
    "batch norm": lambda d, c: d.batch_norm("y", c, epsilon=EPSILON),
    "batch norm, default epsilon": lambda d, c: d.batch_norm("y", c),
    "two batch norms": lambda d, c: d.batch_norm("y", d.batch_norm("first", c), epsilon=EPSILON),
    "frozen batch norm": frozen_batch_norm,
    "scale": lambda d, c: scalar(d, "Mul", c, 1.7),
    "scale on the left": lambda d, c: scalar(d, "Mul", c, 1.7, (1, 1), left=True),
    "division": lambda d, c: scalar(d, "Div", c, 3.0, (1, 1, 1, 1)),
    "shift": lambda d, c: scalar(d, "Add", c, 0.3),
    "difference": lambda d, c: scalar(d, "Sub", c, 0.3),
    "difference from": lambda d, c: scalar(d, "Sub", c, 0.3, left=True),
}


@pytest.mark.parametrize("case", FOLDED)
@pytest.mark.parametrize("group", [1, 2])
def test_a_convolution_takes_it_in(case, group):
    graph = conv_and(FOLDED[case], group=group)

    fused = fuse_affine(graph)

    assert op_types(fused) == ["Conv"]
    assert fused.nodes[0].outputs == graph.outputs
    assert {"conv", *fused.nodes[0].fused} == {node.id for node in graph.nodes}
    assert fused.nodes[0].name == "model.conv"
    assert_same_meaning(graph, fused)


@pytest.mark.parametrize("kernel_rank", [1, 3])
def test_convolutions_of_other_ranks_and_depthwise_ones_without_bias(kernel_rank):
    draft = Draft()
    x = draft.input("x", 1, 4, *(5,) * kernel_rank)
    conv = draft.op("c", "Conv", x, draft.weights("w", 4, 1, *(3,) * kernel_rank), group=4)
    graph = draft.graph(draft.batch_norm("y", conv, epsilon=EPSILON))

    fused = fuse_affine(graph)

    assert op_types(fused) == ["Conv"]
    assert len(fused.nodes[0].inputs) == 3
    assert_same_meaning(graph, fused)


def test_the_fold_is_rounded_once():
    draft = Draft()
    conv = draft.conv("conv", draft.input("x", 1, 3, 4, 4), 5)
    graph = draft.graph(draft.batch_norm("bn", conv, epsilon=EPSILON))

    folded = node_of(fuse_affine(graph), "conv")
    weight, bias = (fuse_affine(graph).constants[value] for value in folded.inputs[1:])

    wide = {name: array.astype(np.float64) for name, array in graph.constants.items()}
    factor = wide["bn.weight"] / np.sqrt(wide["bn.variance"] + EPSILON)
    expected_bias = (wide["conv.bias"] - wide["bn.mean"]) * factor + wide["bn.bias"]
    np.testing.assert_array_equal(
        weight, (wide["conv.weight"] * factor.reshape(-1, 1, 1, 1)).astype(np.float32)
    )
    np.testing.assert_allclose(bias, expected_bias.astype(np.float32), rtol=1.2e-7)


GEMM_CASES = {
    "plain": ({}, None),
    "transposed": ({"transB": 1}, None),
    "with alpha": ({"alpha": 0.5, "transA": 1}, None),
    "with bias": ({"transB": 1}, (6,)),
    "with scaled bias": ({"alpha": 2.0, "beta": 0.25}, (1, 6)),
    "with a scalar bias": ({"beta": 3.0}, ()),
    "with a whole matrix": ({}, (3, 6)),
}


@pytest.mark.parametrize("case", GEMM_CASES)
def test_a_gemm_takes_batch_norm_in(case):
    attributes, bias_shape = GEMM_CASES[case]
    draft = Draft()
    x = draft.input("x", *((4, 3) if attributes.get("transA") else (3, 4)))
    w = draft.weights("w", *((6, 4) if attributes.get("transB") else (4, 6)))
    c = () if bias_shape is None else (draft.constant("c", np.full(bias_shape, 0.7)),)
    gemm = draft.op("gemm", "Gemm", x, w, *c, **attributes)
    graph = draft.graph(draft.batch_norm("y", gemm, epsilon=EPSILON))

    fused = fuse_affine(graph)

    assert op_types(fused) == ["Gemm"]
    assert_same_meaning(graph, fused)


def test_a_gemm_keeps_a_scale_without_shift_in_its_weights():
    draft = Draft()
    gemm = draft.op("gemm", "Gemm", draft.input("x", 3, 4), draft.weights("w", 4, 6), alpha=2.0)
    graph = draft.graph(draft.op("y", "Mul", gemm, draft.constant("c", 0.5)))

    fused = fuse_affine(graph)

    assert op_types(fused) == ["Gemm"]
    assert len(fused.nodes[0].inputs) == 2
    assert_same_meaning(graph, fused)


def test_a_bias_per_row_is_not_blown_up_to_a_matrix():
    draft = Draft()
    c = draft.constant("c", np.ones((3, 1)))
    gemm = draft.op("gemm", "Gemm", draft.input("x", 3, 4), draft.weights("w", 4, 6), c)
    graph = draft.graph(draft.batch_norm("y", gemm))

    assert fuse_affine(graph).nodes == graph.nodes


def test_a_matmul_takes_the_scale_and_leaves_the_shift_as_a_sum():
    draft = Draft()
    product = draft.op("p", "MatMul", draft.input("x", 3, 4), draft.weights("w", 4, 6))
    graph = draft.graph(draft.batch_norm("y", product, epsilon=EPSILON))

    fused = fuse_affine(graph)

    assert op_types(fused) == ["MatMul", "Add"]
    assert_same_meaning(graph, fused)


def test_a_matmul_takes_a_scale_per_column_of_any_rank():
    draft = Draft()
    product = draft.op("p", "MatMul", draft.input("x", 2, 3, 4), draft.weights("w", 4, 6))
    graph = draft.graph(draft.op("y", "Div", product, draft.constant("c", np.arange(1.0, 7))))

    fused = fuse_affine(graph)

    assert op_types(fused) == ["MatMul"]
    assert_same_meaning(graph, fused)


def test_batch_norm_over_rows_of_a_matmul_is_no_scale_of_its_columns():
    draft = Draft()
    product = draft.op("p", "MatMul", draft.input("x", 2, 6, 4), draft.weights("w", 4, 6))
    graph = draft.graph(draft.batch_norm("y", product))

    assert fuse_affine(graph).nodes == graph.nodes


NOT_PER_CHANNEL = {
    "per column": lambda d, c: d.op("y", "Mul", c, d.weights("k", 5)),
    "per pixel": lambda d, c: d.op("y", "Add", c, d.weights("k", 5, 5)),
    "per image": lambda d, c: d.op("y", "Add", c, d.weights("k", 2, 1, 1, 1)),
    "enlarging": lambda d, c: d.op("y", "Add", c, d.weights("k", 1, 1, 1, 1, 1)),
    "reciprocal": lambda d, c: scalar(d, "Div", c, 1.0, left=True),
    "square": lambda d, c: d.op("y", "Mul", c, c),
    "by zero": lambda d, c: scalar(d, "Div", c, 0.0),
    "overflow": lambda d, c: scalar(d, "Mul", d.op("s", "Mul", c, d.constant("k", 1e30)), 1e30),
    "activation": lambda d, c: d.op("y", "Relu", c),
}


@pytest.mark.parametrize("case", NOT_PER_CHANNEL)
def test_what_is_no_finite_scale_per_channel_stays(case):
    graph = conv_and(NOT_PER_CHANNEL[case])

    assert op_types(fuse_affine(graph))[-1] == op_types(graph)[-1]


def test_a_variance_of_zero_without_epsilon_stays():
    draft = Draft()
    conv = draft.conv("conv", draft.input("x", 1, 3, 4, 4), 5)
    norm = draft.batch_norm("bn", conv, epsilon=0.0)
    draft.constant("bn.variance", np.array([1.0, 0, 1, 1, 1]))
    graph = draft.graph(norm)

    assert fuse_affine(graph).nodes == graph.nodes


@pytest.mark.parametrize(("factor", "stays"), [(1e5, False), (1e6, True)])
def test_weights_never_leave_the_range_of_a_half(factor, stays):
    draft = Draft()
    conv = draft.conv("conv", draft.input("x", 1, 3, 4, 4), 5)
    draft.constant("conv.weight", np.full((5, 3, 3, 3), 0.5))
    graph = draft.graph(draft.op("y", "Mul", conv, draft.constant("factor", factor)))

    assert op_types(fuse_affine(graph)) == (["Conv", "Mul"] if stays else ["Conv"])


def test_a_result_that_is_an_output_or_has_two_readers_keeps_its_values():
    draft = Draft()
    x = draft.input("x", 1, 3, 4, 4)
    seen, shared = draft.conv("seen", x, 3), draft.conv("shared", x, 3)
    norms = draft.batch_norm("bn0", seen), draft.batch_norm("bn1", shared)
    both = draft.op("both", "Add", draft.op("r", "Relu", shared), norms[1])
    graph = draft.graph(seen, norms[0], both)

    fused = fuse_affine(graph)

    assert fused.nodes == graph.nodes


def test_weights_that_two_convolutions_share_are_scaled_for_one_of_them():
    draft = Draft()
    x = draft.input("x", 1, 4, 5, 5)
    weight = draft.weights("w", 4, 4, 3, 3)
    first = draft.op("first", "Conv", x, weight, pads=(1,) * 4)
    second = draft.op("second", "Conv", draft.batch_norm("bn", first), weight)
    graph = draft.graph(second)

    fused = fuse_affine(graph)

    assert op_types(fused) == ["Conv", "Conv"]
    assert node_of(fused, "first").inputs[1] != node_of(fused, "second").inputs[1] == "w"
    assert_same_meaning(graph, fused)


def test_computed_weights_stay_as_they_are():
    draft = Draft()
    x, w = draft.input("x", 1, 3, 5, 5), draft.input("w", 2, 3, 3, 3)
    graph = draft.graph(draft.batch_norm("bn", draft.op("c", "Conv", x, w)))

    assert fuse_affine(graph).nodes == graph.nodes
