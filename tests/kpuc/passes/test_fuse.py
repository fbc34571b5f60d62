"""All fusions together, on blocks of the networks they are made for and on random graphs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.config import KPUConfig
from kpuc.check import check
from kpuc.passes.dead_code import eliminate_dead_code
from kpuc.passes.fold import fold
from kpuc.passes.fuse import fuse
from kpuc.passes.legalise import legalise
from kpuc.text import dump
from tests.kpuc.passes.draft import Draft, assert_same_meaning, op_types

CONFIG = KPUConfig()


def residual_block():
    """ResNet: two convolutions with batch norm, a projection beside them."""
    draft = Draft()
    x = draft.input("x", 1, 4, 8, 8)
    inner = draft.batch_norm("bn1", draft.conv("conv1", x, 8, strides=(2, 2)))
    outer = draft.batch_norm("bn2", draft.conv("conv2", draft.op("relu1", "Relu", inner), 8))
    shortcut = draft.batch_norm("bn3", draft.conv("project", x, 8, 1, strides=(2, 2)))
    total = draft.op("add", "Add", outer, shortcut)
    return draft.graph(draft.op("relu2", "Relu", total))


def bottleneck_with_split():
    """YOLOv8's C2f: half of the channels take a residual detour; SiLU is spelled out."""
    draft = Draft()

    def conv_silu(name, x, filters, kernel=3):
        norm = draft.batch_norm(f"{name}.bn", draft.conv(f"{name}.conv", x, filters, kernel))
        return draft.op(f"{name}.mul", "Mul", norm, draft.op(f"{name}.sigmoid", "Sigmoid", norm))

    whole = conv_silu("cv1", draft.input("x", 1, 4, 6, 6), 8, 1)
    left = draft.parts("chunk", "Split", whole, axis=1, split=(4, 4))
    again = draft.parts("chunk2", "Split", whole, axis=1, split=(4, 4))
    inner = conv_silu("m.cv2", conv_silu("m.cv1", left[1], 4), 4)
    residual = draft.op("m.add", "Add", left[1], inner)
    joined = draft.op("cat", "Concat", again[0], left[1], residual, axis=1)
    return draft.graph(conv_silu("cv2", joined, 4, 1))


def inverted_residual():
    """MobileNetV3: padded depthwise convolution, hard swish spelled out, squeeze and excitation."""
    draft = Draft()
    x = draft.input("x", 1, 4, 7, 7)
    expanded = draft.op("swish", "HardSwish", draft.conv("expand", x, 8, 1))
    padded = draft.op("pad", "Pad", expanded, pads=(0, 0, 0, 0, 0, 0, 1, 1))
    weight = draft.weights("dw.weight", 8, 1, 3, 3)
    depthwise = draft.batch_norm(
        "bn", draft.op("dw", "Conv", padded, weight, group=8, pads=(1, 1, 0, 0))
    )
    shifted = draft.op("shift", "Add", depthwise, draft.constant("three", 3.0))
    clipped = draft.op("relu6", "Clip", shifted, min=0, max=6)
    product = draft.op("product", "Mul", depthwise, clipped)
    activated = draft.op("sixth", "Div", product, draft.constant("six", 6.0))
    squeezed = draft.op("mean", "GlobalAveragePool", activated)
    gate = draft.op("gate", "HardSigmoid", draft.conv("excite", squeezed, 8, 1))
    projected = draft.conv("project", draft.op("scale", "Mul", gate, activated), 4, 1)
    return draft.graph(draft.op("add", "Add", x, projected))


def attention():
    """One head: a linear layer as MatMul + Add, scaled scores, softmax."""
    draft = Draft()
    x = draft.input("x", 1, 5, 8)
    bias = draft.weights("q.bias", 8)
    query = draft.op("q.add", "Add", draft.op("q", "MatMul", x, draft.weights("q.w", 8, 8)), bias)
    key = draft.op("k", "MatMul", x, draft.weights("k.w", 8, 8))
    scores = draft.op("scores", "MatMul", query, draft.op("kt", "Transpose", key, perm=(0, 2, 1)))
    scaled = draft.op("scaled", "Div", scores, draft.constant("root", 4.0))
    out = draft.op("out", "MatMul", draft.op("softmax", "Softmax", scaled), x)
    flat = draft.op("flat", "Flatten", out)
    head = draft.op("head", "Gemm", flat, draft.weights("w", 3, 40), transB=1)
    return draft.graph(draft.op("logits", "Add", head, draft.weights("b", 3)))


BLOCKS = [residual_block, bottleneck_with_split, inverted_residual, attention]


def optimised(graph):
    """The passes in the compiler's order, each held against its operand."""
    for apply in (
        fold,
        lambda graph: fuse(graph, CONFIG),
        lambda graph: legalise(graph, CONFIG),
        eliminate_dead_code,
    ):
        after = apply(graph)
        assert_same_meaning(graph, after, tolerance=5e-5)
        graph = after
    return graph


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_block(block, golden):
    graph = block()

    golden(f"passes/{block.__name__}", dump(graph) + "\n" + dump(optimised(graph)))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_source_operation_is_accounted_for_at_most_once(block):
    graph = fold(block())

    fused = fuse(graph, CONFIG)

    accounted = [name for node in fused.nodes for name in (node.id, *node.fused)]
    assert sorted(accounted) == sorted(node.id for node in graph.nodes)


def test_fusion_is_done_after_one_run():
    for block in BLOCKS:
        once = fuse(fold(block()), CONFIG)
        assert dump(fuse(once, CONFIG)) == dump(once)


# Random graphs: (number of the op, numbers that pick its operands), any number of times.
STEPS = st.lists(
    st.tuples(st.integers(0, 31), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=14
)
OUTPUTS = st.lists(st.integers(0, 99), min_size=1, max_size=3)


def random_graph(steps, picked):
    draft = Draft()
    values = [draft.input("x", 1, 4, 5, 5), draft.input("gate", 1, 4, 1, 1)]
    for number, (kind, first, second) in enumerate(steps):
        maps = [v for v in values if draft.types[v].rank == 4]
        a, b = maps[first % len(maps)], values[second % len(values)]
        values += add_op(draft, f"n{number}", kind, a, b)
    candidates = [value for node in draft.nodes for value in node.outputs]
    outputs = dict.fromkeys(candidates[index % len(candidates)] for index in picked)
    return draft.graph(*outputs)


def add_op(draft, name, kind, a, b):
    """One op of many kinds on a map `a`, with a second operand `b` where the shapes allow it."""
    channels, height, width = draft.types[a].shape[1:]
    number = draft.constant(f"{name}.number", [-1.5, 0.0, 0.5, 1.0, 3.0, 6.0][kind % 6])
    row = draft.weights(f"{name}.row", channels, 1, 1)
    small = min(height, width) < 3
    plain = {
        0: ("Relu", {}),
        1: ("Swish", {}),
        2: ("Sigmoid", {}),
        3: ("Clip", {"min": 0, "max": 6}),
        4: ("LeakyRelu", {"alpha": 0.1}),
        5: ("Identity", {}),
        6: ("Softmax", {"axis": 1}),
        7: ("Transpose", {"perm": (0, 1, 3, 2)}),
        8: ("Pad", {"pads": (0, 0, 1, 1, 0, 0, 1, 1)}),
        9: ("GlobalAveragePool", {}),
    }
    if kind in plain:
        return [draft.op(name, plain[kind][0], a, **plain[kind][1])]
    if kind < 14:
        return [
            draft.op(
                name,
                ("Add", "Sub", "Mul", "Div")[kind - 10],
                a,
                number if kind != 13 else draft.constant(f"{name}.two", 2.5),
            )
        ]
    if kind < 17:
        return [draft.op(name, ("Add", "Mul", "Sub")[kind - 14], row, a)]
    if kind < 20:
        return [draft.batch_norm(name, a, epsilon=0.01)]
    if kind < 24:
        kernel = 1 if small else 3
        return [draft.conv(name, a, 4, kernel, group=4 if kind == 23 and channels % 4 == 0 else 1)]
    if kind == 24 and channels > 1:
        return list(draft.parts(name, "Split", a, axis=1, split=(1, channels - 1)))
    if kind == 25 and not small:
        return [draft.op(name, "MaxPool", a, kernel_shape=(3, 3), pads=(1,) * 4)]
    if kind == 26 and not small:
        return [draft.op(name, "AveragePool", a, kernel_shape=(3, 3), strides=(2, 2))]
    if kind == 27:
        return [draft.op(name, "Mul", a, draft.op(f"{name}.gate", "Sigmoid", a))]
    return joined(draft, name, kind, a, b)


def joined(draft, name, kind, a, b):
    """A sum, product or difference of two values that broadcast, else a concatenation or a view."""
    try:
        return [draft.op(name, ("Add", "Mul", "Sub")[kind % 3], *((a, b) if kind % 2 else (b, a)))]
    except ValueError:
        pass
    if draft.types[a].shape[2:] == draft.types[b].shape[2:]:
        return [draft.op(name, "Concat", a, b, axis=1)]
    return [draft.op(name, "Reshape", a, shape=draft.types[a].shape[::-1])]


@settings(max_examples=120, deadline=None)
@given(STEPS, OUTPUTS)
def test_random_graphs_keep_their_meaning(steps, picked):
    graph = random_graph(steps, picked)

    with np.errstate(all="ignore"):
        after = optimised(graph)

    check(after)
    assert len(after.nodes) <= len(graph.nodes)
    assert not {"Swish", "LeakyRelu"} & set(op_types(after))
