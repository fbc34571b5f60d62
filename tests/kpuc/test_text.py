"""A graph's text says all that a pass can change, and the same of equal graphs."""

import numpy as np

from formats.precision import DType
from formats.program import EpilogueStage
from kpuc.graph import Graph, Node
from kpuc.text import dump
from kpurun.ops.types import TensorType

GRAPH = Graph(
    name="tiny",
    inputs=("x",),
    outputs=("y",),
    nodes=(
        Node(
            id="conv",
            op_type="Conv",
            inputs=("x", "w", "s"),
            outputs=("y",),
            attributes={"pads": [1, 1, 1, 1], "group": 1},
            epilogue=(
                EpilogueStage("Sub", operand=2, accumulator_side=1),
                EpilogueStage("Clip", {"min": 0, "max": None}),
            ),
            operand_count=2,
            name="layer.conv",
            source="/home/someone/model.py:3",
            fused=("sub", "clip"),
        ),
    ),
    types={
        "x": TensorType((1, 2, 3, 3)),
        "w": TensorType((2, 2, 3, 3)),
        "s": TensorType((), DType.FP32),
        "y": TensorType((1, 2, 3, 3)),
    },
    constants={
        "w": np.linspace(-1, 1, 36, dtype=np.float32).reshape(2, 2, 3, 3),
        "s": np.array(1 / 3, np.float32),
    },
    host_dtypes={"x": "float64", "y": "float32"},
    names={"x": "image", "y": "scores"},
)


def test_dump():
    assert dump(GRAPH, {"x": "NCHW", "y": "NHWC"}) == (
        "graph tiny\n"
        "  input %x: fp32[1, 2, 3, 3] 'image' float64\n"
        "  const %w: fp32[2, 2, 3, 3] {-1 .. 1}\n"
        "  const %s: fp32[] {0.33333}\n"
        "  %y: fp32[1, 2, 3, 3] NHWC = Conv(%x, %w) {group=1, pads=[1, 1, 1, 1]}\n"
        "      | Sub(%s, acc)\n"
        "      | Clip {max=None, min=0}\n"
        "      name layer.conv\n"
        "      fused sub, clip\n"
        "  output %y 'scores' float32\n"
    )
