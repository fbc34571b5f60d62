"""What remarks say of a fusion that was not made is what the pass decided by."""

from formats.config import KPUConfig
from kpuc.passes.fuse import fuse
from kpuc.passes.legalise import legalise
from kpuc.passes.missed import missed_fusions
from tests.kpuc.passes.draft import Draft

CONFIG = KPUConfig()


def reasons(graph):
    fused = legalise(fuse(graph, CONFIG), CONFIG)
    return {(m.node_id, m.op_type, m.into): m.reason for m in missed_fusions(fused, CONFIG)}


def test_nothing_is_missed_where_everything_was_fused():
    draft = Draft()
    relu = draft.op("relu", "Relu", draft.conv("conv", draft.input("x", 1, 2, 4, 4), 2))
    graph = draft.graph(relu)

    assert reasons(graph) == {}


def test_every_reason_is_named():
    draft = Draft()
    x = draft.input("x", 1, 2, 6, 6)
    padded = draft.op("pad", "Pad", x, pads=(0, 0, 1, 1, 0, 0, 1, 1), value=0.5)
    conv = draft.conv("conv", padded, 2)
    swish = draft.op("swish", "Swish", conv)
    gate = draft.op("gate", "GlobalAveragePool", conv)
    product = draft.op("product", "Mul", swish, draft.op("flat", "Reshape", gate, shape=(2, 1, 1)))
    relu = draft.op("relu", "Relu", draft.op("view", "Flatten", product))
    graph = draft.graph(draft.op("z", "Softmax", relu), draft.op("y", "Tanh", x))

    assert reasons(graph) == {
        ("pad", "Pad", "conv"): "its value is 0.5",
        ("swish", "Swish", "conv"): "conv is read 2 times",
        ("relu", "Relu", "view"): "Flatten does not pass through the vector unit",
        ("y", "Tanh", ""): "x is an input of the program",
    }
