"""Chains become the epilogue of the op that starts them, in order; nothing is lost or looped."""

from dataclasses import replace

import numpy as np
import pytest

from formats.config import KPUConfig
from formats.precision import DType
from kpuc.passes.fuse_epilogue import MOST_STAGES, fuse_epilogues
from tests.kpuc.passes.draft import (
    Draft,
    assert_same_meaning,
    node_of,
    op_types,
    stage_types,
)

CONFIG = KPUConfig()


def image(draft, channels=4):
    return draft.input("x", 1, channels, 6, 6)


def test_a_residual_block_is_two_convolutions():
    draft = Draft()
    x = image(draft)
    inner = draft.op("relu", "Relu", draft.conv("conv1", x, 4))
    total = draft.op("add", "Add", draft.conv("conv2", inner, 4), x)
    graph = draft.graph(draft.op("out", "Relu", total))

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["Conv", "Conv"]
    assert stage_types(node_of(fused, "conv2")) == ["Add", "Relu"]
    assert node_of(fused, "conv2").fused == ("add", "out")
    assert node_of(fused, "conv2").operand_count == 3
    assert_same_meaning(graph, fused)


def test_the_activation_may_come_before_the_residual():
    draft = Draft()
    x = image(draft)
    swish = draft.op("silu", "Swish", draft.conv("conv", x, 4))
    graph = draft.graph(draft.op("out", "Add", x, swish))

    fused = fuse_epilogues(graph, CONFIG)

    assert stage_types(node_of(fused, "conv")) == ["Swish", "Add"]
    assert_same_meaning(graph, fused)


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_convolutions_the_later_carries_the_sum(swapped):
    draft = Draft()
    x = image(draft)
    early, late = draft.conv("early", x, 4), draft.conv("late", x, 4, kernel=1)
    pair = (late, early) if swapped else (early, late)
    graph = draft.graph(draft.op("out", "Relu", draft.op("sum", "Sub", *pair)))

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["Conv", "Conv"]
    assert stage_types(node_of(fused, "late")) == ["Sub", "Relu"]
    assert_same_meaning(graph, fused)


def test_a_sum_whose_operands_depend_on_each_other_has_no_cycle():
    draft = Draft()
    first = draft.conv("first", image(draft), 4)
    second = draft.conv("second", draft.op("r", "Relu", first), 4)
    graph = draft.graph(draft.op("out", "Add", first, second))

    fused = fuse_epilogues(graph, CONFIG)

    assert stage_types(node_of(fused, "second")) == ["Add"]
    assert stage_types(node_of(fused, "first")) == []
    assert_same_meaning(graph, fused)


def test_an_array_carries_a_sum_rather_than_the_vector_unit_or_a_copy():
    draft = Draft()
    x = image(draft)
    conv = draft.conv("conv", x, 4)
    pool = draft.op("pool", "MaxPool", x, kernel_shape=(3, 3), pads=(1,) * 4)
    rows = draft.constant("rows", np.array([0, 0, 1, 1, 2, 2]))
    up = draft.op("up", "Gather", x, rows, axis=2)
    total = draft.op("total", "Add", draft.op("sum", "Add", up, pool), conv)
    graph = draft.graph(total)

    fused = fuse_epilogues(graph, CONFIG)

    assert stage_types(node_of(fused, "pool")) == ["Add"]
    assert stage_types(node_of(fused, "conv")) == ["Add"]
    assert_same_meaning(graph, fused)


def test_an_operand_that_is_computed_later_than_the_carrier_is_available():
    draft = Draft()
    x = image(draft)
    conv = draft.conv("conv", x, 4)
    gate = draft.op("gate", "Sigmoid", draft.op("mean", "GlobalAveragePool", x))
    graph = draft.graph(draft.op("out", "Mul", conv, gate))

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["GlobalAveragePool", "Conv"]
    assert_same_meaning(graph, fused)


def test_the_smaller_operand_of_a_broadcast_never_carries_it():
    draft = Draft()
    x = image(draft)
    gate = draft.op(
        "gate", "Sigmoid", draft.conv("squeeze", draft.op("m", "GlobalAveragePool", x), 4, 1)
    )
    graph = draft.graph(draft.op("out", "Mul", x, gate))

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["GlobalAveragePool", "Conv", "Mul"]
    assert_same_meaning(graph, fused)


@pytest.mark.parametrize("op_type", ["Sub", "Div", "Add", "Mul"])
@pytest.mark.parametrize("left", [False, True])
def test_the_side_of_the_accumulator_is_kept(op_type, left):
    draft = Draft()
    pooled = draft.op("pool", "AveragePool", image(draft), kernel_shape=(2, 2))
    shifted = draft.op("shifted", "Sigmoid", pooled)
    other = draft.constant("other", np.full((4, 1, 1), 1.5))
    operands = (other, shifted) if left else (shifted, other)
    graph = draft.graph(draft.op("out", op_type, *operands))

    fused = fuse_epilogues(graph, CONFIG)

    assert node_of(fused, "pool").epilogue[1].accumulator_side == (1 if left else 0)
    assert_same_meaning(graph, fused)


def test_attention_scores_are_scaled_and_masked_on_the_drain_edge():
    draft = Draft()
    q, k = draft.input("q", 2, 3, 5, 8), draft.input("k", 2, 3, 8, 7)
    scores = draft.op("scores", "MatMul", q, k)
    scaled = draft.op("scaled", "Mul", scores, draft.constant("scale", 8**-0.5))
    masked = draft.op("masked", "Add", scaled, draft.weights("mask", 5, 7))
    graph = draft.graph(draft.op("out", "Softmax", masked, axis=-1))

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["MatMul", "Softmax"]
    assert stage_types(fused.nodes[0]) == ["Mul", "Add"]
    assert_same_meaning(graph, fused)


def test_batch_norm_without_weights_before_it_is_a_product_and_a_sum():
    draft = Draft()
    x = image(draft)
    joined = draft.op("cat", "Concat", x, draft.op("tanh", "Tanh", x), axis=1)
    graph = draft.graph(draft.op("out", "Relu", draft.batch_norm("bn", joined, epsilon=0.1)))

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["Tanh", "Concat"]
    assert stage_types(node_of(fused, "cat")) == ["Mul", "Add", "Relu"]
    assert_same_meaning(graph, fused)


def test_batch_norm_of_an_input_carries_what_follows():
    draft = Draft()
    graph = draft.graph(draft.op("out", "Relu", draft.batch_norm("bn", image(draft))))

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["BatchNormalization"]
    assert_same_meaning(graph, fused)


def test_a_chain_stops_at_the_last_stage_there_is_room_for():
    draft = Draft()
    value = draft.conv("conv", image(draft), 4)
    for index in range(MOST_STAGES + 2):
        value = draft.op(f"t{index}", "Tanh", value)
    graph = draft.graph(value)

    fused = fuse_epilogues(graph, CONFIG)

    assert [len(node.epilogue) for node in fused.nodes] == [MOST_STAGES, 1]
    assert_same_meaning(graph, fused)


def test_a_carrier_that_will_itself_be_a_stage_counts_as_one():
    draft = Draft()
    value = draft.op("swish", "Swish", image(draft))
    for index in range(MOST_STAGES):
        value = draft.op(f"t{index}", "Tanh", value)
    graph = draft.graph(value)

    fused = fuse_epilogues(graph, CONFIG)

    assert [len(node.epilogue) for node in fused.nodes] == [MOST_STAGES - 1, 0]


def unfusable(write):
    draft = Draft()
    return draft.graph(*write(draft, draft.conv("conv", image(draft), 4)))


UNFUSABLE = {
    "two readers": lambda d, c: (d.op("a", "Relu", c), d.op("b", "Softmax", c)),
    "an output": lambda d, c: (c, d.op("a", "Relu", c)),
    "both operands": lambda d, c: (d.op("a", "Mul", c, c),),
    "behind a view": lambda d, c: (d.op("a", "Relu", d.op("v", "Flatten", c)),),
    "an enlarging operand": lambda d, c: (d.op("a", "Add", c, d.weights("w", 3, 4, 6, 6)),),
    "an operand of higher rank": lambda d, c: (d.op("a", "Add", c, d.weights("w", 1, 1, 1, 1, 1)),),
    "part of a split": lambda d, c: tuple(
        d.op(f"r{v}", "Relu", v) for v in d.parts("s", "Split", c, axis=1, split=(2, 2))
    ),
}


@pytest.mark.parametrize("case", UNFUSABLE)
def test_not_fused(case):
    graph = unfusable(UNFUSABLE[case])

    assert fuse_epilogues(graph, CONFIG).nodes == graph.nodes


def test_an_output_in_the_middle_of_a_chain_ends_it():
    draft = Draft()
    relu = draft.op("relu", "Relu", draft.conv("conv", image(draft), 4))
    graph = draft.graph(draft.op("out", "Tanh", relu), relu)

    fused = fuse_epilogues(graph, CONFIG)

    assert op_types(fused) == ["Conv", "Tanh"]
    assert node_of(fused, "conv").outputs == ("relu",)
    assert_same_meaning(graph, fused)


def test_integers_do_not_pass_the_float_accumulator():
    draft = Draft()
    x = draft.input("x", 4, dtype=DType.INT64)
    one = draft.constant("one", np.array(1, np.int64))
    total = draft.op("total", "Add", draft.op("sum", "Add", x, one), x)
    graph = draft.graph(draft.op("out", "Relu", total))

    assert fuse_epilogues(graph, CONFIG).nodes == graph.nodes


def test_what_the_vector_unit_lacks_is_no_stage():
    plain = replace(CONFIG, native_activations=("Relu",), native_ops=("Conv", "Mul", "Tanh"))
    draft = Draft()
    x = image(draft)
    tanh = draft.op("tanh", "Tanh", draft.conv("conv", x, 4))
    graph = draft.graph(draft.op("sum", "Add", draft.op("scaled", "Mul", tanh, x), x))

    fused = fuse_epilogues(graph, plain)

    assert op_types(fused) == ["Conv", "Tanh", "Add"]
    assert_same_meaning(graph, fused)


def test_fusing_twice_changes_nothing_more():
    draft = Draft()
    x = image(draft)
    total = draft.op("sum", "Add", x, draft.op("swish", "Swish", draft.conv("conv", x, 4)))
    once = fuse_epilogues(draft.graph(draft.op("out", "Relu", total)), CONFIG)

    assert fuse_epilogues(once, CONFIG) == once
