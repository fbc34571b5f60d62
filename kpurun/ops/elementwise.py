"""Binary arithmetic with numpy broadcasting.

Floats are fp32; integers are exact and wrap around, as in PyTorch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kpurun.ops.checks import NUMPY_DTYPES, broadcast, number_operands, type_of
from kpurun.ops.loopnest import LoopNest, Unit
from kpurun.ops.nests import broadcast_access, identity_access, point_dims
from kpurun.ops.opdef import Compute, Infer, Int8Rule, Nest, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType

Ufunc = Callable[[Any, Any], Any]


def _infer(name: str, floats_only: bool) -> Infer:
    def infer(_: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        dtype = number_operands(name, types)
        if floats_only and not types[0].is_float:
            raise OpError(
                f"{name}: integer division has no one meaning: cast the operands to float first"
            )
        return (TensorType(broadcast(name, [type_.shape for type_ in types]), dtype),)

    return infer


def _compute(ufunc: Ufunc) -> Compute:
    def compute(_: Attributes, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
        dtype = NUMPY_DTYPES[type_of(a).dtype]
        # inf and NaN are values here, and integers wrap around
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return (np.asarray(ufunc(a, b), dtype),)

    return compute


def _nest(lane_ops: int) -> Nest:
    def loop_nest(
        _: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
    ) -> LoopNest:
        write = identity_access(outs[0].shape)
        return LoopNest(
            unit=Unit.VECTOR,
            dims=point_dims(outs[0].shape),
            reads=tuple(broadcast_access(type_.shape, write) for type_ in ins),
            writes=(write,),
            lane_ops=lane_ops,
        )

    return loop_nest


def _binary(name: str, ufunc: Ufunc, lane_ops: int, floats_only: bool = False) -> OpDef:
    return OpDef(
        name=name,
        attributes={},
        operands=(2, 2),
        infer=_infer(name, floats_only),
        compute=_compute(ufunc),
        int8=Int8Rule.DEQUANTISE,
        loop_nest=_nest(lane_ops),
        accumulator_operands=(),
        stage=True,
        lane_ops=lane_ops,
    )


ADD = _binary("Add", np.add, lane_ops=1)
SUB = _binary("Sub", np.subtract, lane_ops=1)
MUL = _binary("Mul", np.multiply, lane_ops=1)
# A reciprocal seed from a table, one Newton step (two multiply-adds), the final multiply.
DIV = _binary("Div", np.divide, lane_ops=4, floats_only=True)

OPS = (ADD, SUB, MUL, DIV)
