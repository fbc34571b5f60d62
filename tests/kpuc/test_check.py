"""The checker names every way in which a pass could break a graph."""

from dataclasses import replace

import numpy as np
import pytest

from formats.config import KPUConfig
from formats.precision import DType
from formats.program import EpilogueStage
from kpuc.check import check, problems
from kpuc.passes.fuse import fuse
from kpurun.ops.types import TensorType
from tests.kpuc.passes.draft import Draft


def sound():
    """x -> Conv | Add(x) | Relu -> Split."""
    draft = Draft()
    x = draft.input("x", 1, 4, 5, 5)
    total = draft.op("sum", "Add", draft.conv("conv", x, 4), x)
    relu = draft.op("relu", "Relu", total)
    return fuse(
        draft.graph(*draft.parts("parts", "Split", relu, axis=1, split=(1, 3))), KPUConfig()
    )


def with_conv(graph, **changes):
    conv, split = graph.nodes
    return replace(graph, nodes=(replace(conv, **changes), split))


def with_stage(graph, **changes):
    add, relu = graph.nodes[0].epilogue
    return with_conv(graph, epilogue=(replace(add, **changes), relu))


def with_types(graph, **changes):
    return replace(graph, types={**graph.types, **changes})


BROKEN = {
    "order": (lambda g: replace(g, nodes=g.nodes[::-1]), "relu is not computed before"),
    "same id": (
        lambda g: replace(g, nodes=(g.nodes[0], replace(g.nodes[1], id="conv"))),
        "another node has this id",
    ),
    "defined twice": (lambda g: with_conv(g, outputs=("x",)), "x is already defined"),
    "no type": (lambda g: replace(g, types={v: g.types[v] for v in g.inputs}), "has no type"),
    "another type": (lambda g: with_types(g, relu=TensorType((1, 4, 5, 6))), "results are"),
    "an attribute that is none": (
        lambda g: with_conv(g, attributes={"padding": 1}),
        "Conv has no attribute padding",
    ),
    "an op that is none": (lambda g: with_conv(g, op_type="Foo"), "there is no op 'Foo'"),
    "operand count": (lambda g: with_conv(g, operand_count=5), "operand_count is 5 of 4"),
    "operand of no stage": (
        lambda g: with_conv(g, epilogue=g.nodes[0].epilogue[1:]),
        "stages read operands [], the epilogue has [3]",
    ),
    "stage reads an operand of the op": (lambda g: with_stage(g, operand=0), "stages read"),
    "stage reads beyond": (lambda g: with_stage(g, operand=4), "operand 4, which is none"),
    "stage without its operand": (lambda g: with_stage(g, operand=None), "Add takes 2 operands"),
    "side": (lambda g: with_stage(g, accumulator_side=2), "on side 2"),
    "no stage": (
        lambda g: with_conv(g, epilogue=(*g.nodes[0].epilogue, EpilogueStage("Softmax"))),
        "Softmax cannot be a stage",
    ),
    "a stage that enlarges": (
        lambda g: with_conv(g, attributes={"pads": (1,) * 4, "strides": (5, 5)}),
        "stage Add turns",
    ),
    "epilogue of several results": (
        lambda g: replace(
            g, nodes=(g.nodes[0], replace(g.nodes[1], epilogue=(EpilogueStage("Relu"),)))
        ),
        "it has an epilogue and 2 results",
    ),
    "constant of another type": (
        lambda g: replace(g, constants={**g.constants, "conv.bias": np.zeros(5, np.float32)}),
        "constant conv.bias is",
    ),
    "constant that is an input": (
        lambda g: replace(g, constants={**g.constants, "x": np.zeros((1, 4, 5, 5), np.float32)}),
        "constant x is an input too",
    ),
    "output twice": (lambda g: replace(g, outputs=("parts", "parts")), "an output is listed twice"),
    "output of no node": (lambda g: replace(g, outputs=("x",)), "not the result of a node"),
    "output that is none": (lambda g: replace(g, outputs=("y",)), "output y is not computed"),
    "no host dtype": (lambda g: replace(g, host_dtypes={}), "input x has no host dtype"),
}


def test_a_sound_graph_has_no_problems():
    check(sound())


@pytest.mark.parametrize("case", BROKEN)
def test_broken(case):
    breaking, words = BROKEN[case]

    assert any(words in problem for problem in problems(breaking(sound())))


def test_integers_have_no_epilogue():
    draft = Draft()
    x = draft.input("x", 4, dtype=DType.INT32)
    graph = draft.graph(draft.op("y", "Add", x, x))
    relu = replace(graph.nodes[0], epilogue=(EpilogueStage("Relu"),), operand_count=2)

    with pytest.raises(AssertionError, match=r"draft is not well formed:\n.*works on int32"):
        check(replace(graph, nodes=(relu,)))
