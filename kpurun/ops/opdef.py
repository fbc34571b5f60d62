"""One frozen record per op: everything the toolchain knows about it, in one place.

A record is built in its family's module and listed in `kpurun.ops.OPS`. Every field is required, so
an op that lacks its meaning or its cost fails at import, never at run time.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from kpurun.ops.loopnest import LoopNest
from kpurun.ops.types import Attributes, OpError, TensorType

REQUIRED = object()

Infer = Callable[[Attributes, tuple[TensorType, ...]], tuple[TensorType, ...]]
Compute = Callable[..., tuple[np.ndarray, ...]]
Nest = Callable[[Attributes, tuple[TensorType, ...], tuple[TensorType, ...]], LoopNest]


class Int8Rule(str, Enum):
    """How the op runs on 8-bit codes."""

    KERNEL = "kernel"  # an integer kernel of its own (Conv, MatMul, Gemm)
    CODES = "codes"  # passes codes through (views, max-pool, concat with equal scales)
    TABLE = "table"  # a 256-entry table built from compute (every unary op)
    DEQUANTISE = "dequantise"  # dequantise, compute in fp32, requantise


@dataclass(frozen=True)
class OpDef:
    """What an op means and what it costs.

    attributes: name -> default value, or REQUIRED. An attribute that is not named is refused.
    operands: (least, most) number of operands; most None means any number.
    infer: output types, or OpError with the sentence a user reads.
    compute: float semantics in numpy, unrounded: compute(attributes, *arrays) -> outputs. Float
        arrays come and go as float32 (accumulation in float32 or wider); integers stay exact.
        With an integer kernel also float64 arrays, which hold exact sums of integers.
    int8: the integer rule.
    loop_nest: iteration dimensions and how operands follow them.
    accumulator_operands: indices of constant operands that meet the accumulator in fp32 (a bias).
    stage: it may run as an epilogue on the drain edge (elementwise, one or two operands).
    lane_ops: vector-lane operations per point when it runs on the vector unit or as a stage.
    """

    name: str
    attributes: Mapping[str, Any]
    operands: tuple[int, int | None]
    infer: Infer
    compute: Compute
    int8: Int8Rule
    loop_nest: Nest
    accumulator_operands: tuple[int, ...]
    stage: bool
    lane_ops: int


def complete(op: OpDef, attributes: Attributes) -> dict[str, Any]:
    """`attributes` with defaults filled in; an unknown or a missing one is refused by name."""
    unknown = sorted(set(attributes) - set(op.attributes))
    if unknown:
        raise OpError(f"{op.name} has no attribute {', '.join(unknown)}")
    filled = {**op.attributes, **attributes}
    missing = sorted(name for name, value in filled.items() if value is REQUIRED)
    if missing:
        raise OpError(f"{op.name} needs the attribute {', '.join(missing)}")
    return filled


def infer_types(
    op: OpDef, attributes: Attributes, operands: tuple[TensorType, ...]
) -> tuple[TensorType, ...]:
    """Output types of one op, after checking attribute names and the number of operands."""
    least, most = op.operands
    if len(operands) < least or (most is not None and len(operands) > most):
        raise OpError(f"{op.name} takes {_operand_count(least, most)}, got {len(operands)}")
    outputs = op.infer(complete(op, attributes), operands)
    for output in outputs:
        if min(output.shape, default=1) < 1:
            raise OpError(f"{op.name} gives an empty tensor of shape {list(output.shape)}")
    return outputs


def _operand_count(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least} operand{'s' * (least > 1)}"
    if least == most:
        return f"{least} operand{'s' * (least > 1)}"
    return f"{least} to {most} operands"
