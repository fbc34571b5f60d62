"""Activations spelled out in arithmetic are recognised, and nothing that only looks like one."""

from dataclasses import replace

import numpy as np
import pytest

from formats.config import KPUConfig
from kpuc.passes.fuse_activation import fuse_activations
from tests.kpuc.passes.draft import Draft, assert_same_meaning, op_types

CONFIG = KPUConfig()


def spelled(write, *shape):
    """A graph of what `write(draft, x)` makes of an input."""
    draft = Draft()
    return draft.graph(write(draft, draft.input("x", *(shape or (2, 3, 4, 4)))))


def swish(draft, x, alpha=None, gate_first=False):
    inner = x if alpha is None else draft.op("ax", "Mul", draft.constant("alpha", alpha), x)
    gate = draft.op("gate", "Sigmoid", inner)
    return draft.op("y", "Mul", *((gate, x) if gate_first else (x, gate)))


def shifted_clip(draft, x):
    shifted = draft.op("shifted", "Add", x, draft.constant("three", 3.0))
    return draft.op("clip", "Clip", shifted, min=0.0, max=6)


def sixth_of(draft, value, name="y"):
    return draft.op(name, "Div", value, draft.constant("six", np.full((1,), 6.0)))


def hard_sigmoid(draft, x):
    return sixth_of(draft, shifted_clip(draft, x))


def hard_swish_gate_divided(draft, x):
    return draft.op("y", "Mul", x, sixth_of(draft, shifted_clip(draft, x), "gate"))


def hard_swish_product_divided(draft, x):
    return sixth_of(draft, draft.op("product", "Mul", shifted_clip(draft, x), x))


def hard_swish_product_scaled(draft, x):
    product = draft.op("product", "Mul", x, shifted_clip(draft, x))
    return draft.op("y", "Mul", product, draft.constant("sixth", np.float32(1 / 6)))


def relu_then_cap(draft, x):
    return draft.op("y", "Clip", draft.op("r", "Relu", x), max=6)


RECOGNISED = {
    "x·sigmoid(x)": (swish, "Swish", {"alpha": 1.0}),
    "sigmoid(x)·x": (lambda d, x: swish(d, x, gate_first=True), "Swish", {"alpha": 1.0}),
    "x·sigmoid(1.5x)": (lambda d, x: swish(d, x, alpha=1.5), "Swish", {"alpha": 1.5}),
    "clip(x+3)/6": (hard_sigmoid, "HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "x·(clip(x+3)/6)": (hard_swish_gate_divided, "HardSwish", {}),
    "(x·clip(x+3))/6": (hard_swish_product_divided, "HardSwish", {}),
    "(x·clip(x+3))·1/6": (hard_swish_product_scaled, "HardSwish", {}),
    "min(relu(x), 6)": (relu_then_cap, "Clip", {"min": 0.0, "max": 6.0}),
}


@pytest.mark.parametrize("case", RECOGNISED)
def test_recognised(case):
    write, op_type, attributes = RECOGNISED[case]
    graph = spelled(write)

    fused = fuse_activations(graph, CONFIG)

    assert op_types(fused) == [op_type]
    assert dict(fused.nodes[0].attributes) == attributes
    assert {fused.nodes[0].id, *fused.nodes[0].fused} == {node.id for node in graph.nodes}
    assert_same_meaning(graph, fused, tolerance=1e-6)


def gate_of_another(draft, x):
    return draft.op("y", "Mul", x, draft.op("gate", "Sigmoid", draft.op("other", "Tanh", x)))


def clip_of_another_range(draft, x):
    shifted = draft.op("shifted", "Add", x, draft.constant("three", 3.0))
    return sixth_of(draft, draft.op("clip", "Clip", shifted, min=0, max=5))


def shift_per_column(draft, x):
    threes = draft.constant("threes", [3.0, 3.0, 3.0, 2.0])
    clip = draft.op("clip", "Clip", draft.op("shifted", "Add", x, threes), min=0, max=6)
    return sixth_of(draft, clip)


def clips_that_do_not_meet(draft, x):
    return draft.op("y", "Clip", draft.op("r", "Relu", x), max=-1.0)


def enlarging_number(draft, x):
    scaled = draft.op("scaled", "Mul", x, draft.constant("one", np.full((1, 1, 1, 1, 1), 1.5)))
    return draft.op("y", "Mul", x, draft.op("gate", "Sigmoid", scaled))


@pytest.mark.parametrize(
    "write",
    [gate_of_another, clip_of_another_range, shift_per_column, clips_that_do_not_meet],
)
def test_look_alikes_are_left_alone(write):
    graph = spelled(write)

    assert fuse_activations(graph, CONFIG).nodes == graph.nodes


def test_a_gate_that_changes_the_rank_is_left_alone():
    graph = spelled(enlarging_number, 2, 3)

    assert fuse_activations(graph, CONFIG).nodes == graph.nodes


@pytest.mark.parametrize("also_an_output", [True, False])
def test_a_gate_that_is_needed_elsewhere_stays(also_an_output):
    draft = Draft()
    y = swish(draft, draft.input("x", 2, 3))
    graph = draft.graph(y, "gate" if also_an_output else draft.op("z", "Tanh", "gate"))

    assert fuse_activations(graph, CONFIG).nodes == graph.nodes


def test_a_machine_without_the_activation_keeps_the_arithmetic():
    plain = replace(CONFIG, native_activations=("Relu", "Clip", "Sigmoid"))
    graph = spelled(swish)

    assert fuse_activations(graph, plain).nodes == graph.nodes


def test_integer_clips_are_left_to_integer_arithmetic():
    from formats.precision import DType

    draft = Draft()
    x = draft.input("x", 4, dtype=DType.INT32)
    graph = draft.graph(draft.op("y", "Clip", draft.op("r", "Relu", x), max=6))

    assert fuse_activations(graph, CONFIG).nodes == graph.nodes
