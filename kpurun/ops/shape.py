"""Transpose, Cast and Shape: elements reordered, converted, or not read at all."""

from dataclasses import replace

import numpy as np

from formats.precision import DType
from kpurun.ops.checks import NUMPY_DTYPES, axes_of, integers, one_dtype
from kpurun.ops.loopnest import Access, Axis, LoopNest, Unit
from kpurun.ops.nests import identity_access, point_dims
from kpurun.ops.opdef import REQUIRED, Int8Rule, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType
from kpurun.ops.view import view_nest


def _permutation(attributes: Attributes, rank: int) -> tuple[int, ...]:
    """Input axis of each output axis; None reverses them."""
    if attributes["perm"] is None:
        return tuple(reversed(range(rank)))
    given = integers("Transpose", "perm", attributes["perm"])
    if len(given) != rank:
        raise OpError(f"Transpose: perm {list(given)} does not name {rank} dimensions")
    return axes_of("Transpose", given, rank, "perm")


def _infer_transpose(
    attributes: Attributes, types: tuple[TensorType, ...]
) -> tuple[TensorType, ...]:
    one_dtype("Transpose", types)
    shape = types[0].shape
    permutation = _permutation(attributes, len(shape))
    return (replace(types[0], shape=tuple(shape[axis] for axis in permutation)),)


def _compute_transpose(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.ascontiguousarray(x.transpose(_permutation(attributes, x.ndim))),)


def _transpose_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    write = identity_access(outs[0].shape)
    permutation = _permutation(attributes, ins[0].rank)
    read = Access(tuple(write.axes[permutation.index(axis)] for axis in range(ins[0].rank)))
    return LoopNest(Unit.MOVE, point_dims(outs[0].shape), (read,), (write,), lane_ops=0)


def _cast_target(attributes: Attributes) -> DType:
    try:
        target = DType(attributes["to"])
    except ValueError:
        raise OpError(f"Cast: there is no element type {attributes['to']!r}") from None
    if target not in NUMPY_DTYPES:
        raise OpError(
            f"Cast: cannot cast to {target.value}: float values are fp32 here, and the precision "
            "of the program decides how they are stored"
        )
    return target


def _infer_cast(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    one_dtype("Cast", types)
    return (replace(types[0], dtype=_cast_target(attributes)),)


def _compute_cast(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Floats to integers truncate towards zero; anything but 0 is true."""
    with np.errstate(invalid="ignore"):  # NaN and inf to integer: any value, as in torch
        return (x.astype(NUMPY_DTYPES[_cast_target(attributes)]),)


def _cast_nest(
    _: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    if ins[0].dtype == outs[0].dtype:
        return view_nest({}, ins, outs)
    access = identity_access(ins[0].shape)
    return LoopNest(Unit.VECTOR, point_dims(ins[0].shape), (access,), (access,), CAST.lane_ops)


def _infer_shape(_: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    return (TensorType((types[0].rank,), DType.INT64),)


def _compute_shape(_: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.array(x.shape, np.int64),)


def _shape_nest(
    _: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    """No element of the operand is read: every axis of its access is empty."""
    nothing = Access(tuple(Axis(0) for _ in ins[0].shape))
    write = identity_access(outs[0].shape)
    return LoopNest(Unit.MOVE, point_dims(outs[0].shape), (nothing,), (write,), lane_ops=0)


TRANSPOSE = OpDef(
    name="Transpose",
    attributes={"perm": None},  # None: reverse the axes
    operands=(1, 1),
    infer=_infer_transpose,
    compute=_compute_transpose,
    int8=Int8Rule.CODES,
    loop_nest=_transpose_nest,
    accumulator_operands=(),
    stage=False,
    lane_ops=0,
)

CAST = OpDef(
    name="Cast",
    attributes={"to": REQUIRED},
    operands=(1, 1),
    infer=_infer_cast,
    compute=_compute_cast,
    int8=Int8Rule.DEQUANTISE,
    loop_nest=_cast_nest,
    accumulator_operands=(),
    stage=False,
    lane_ops=1,  # one conversion per element
)

SHAPE = OpDef(
    name="Shape",
    attributes={},
    operands=(1, 1),
    infer=_infer_shape,
    compute=_compute_shape,
    int8=Int8Rule.CODES,
    loop_nest=_shape_nest,
    accumulator_operands=(),
    stage=False,
    lane_ops=0,
)

OPS = (TRANSPOSE, CAST, SHAPE)
