"""Matrix products: MatMul with numpy's batching, and Gemm with its scales and transposes."""

import numpy as np

from formats.precision import DType
from kpurun.ops.checks import broadcast, finite, flag, float_operands
from kpurun.ops.loopnest import Access, Axis, Dim, LoopNest, Role, Unit
from kpurun.ops.nests import broadcast_access
from kpurun.ops.opdef import Int8Rule, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType


def _infer_matmul(_: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    float_operands("MatMul", types)
    a, b = types
    if a.rank == 0 or b.rank == 0:
        raise OpError("MatMul: operands need at least one dimension")
    if a.shape[-1] != b.shape[-min(2, b.rank)]:
        raise OpError(f"MatMul: the inner dimensions of {list(a.shape)} and {list(b.shape)} differ")
    batch = broadcast("MatMul", (a.shape[:-2], b.shape[:-2]))
    rows = a.shape[-2:-1]
    columns = b.shape[-1:] if b.rank > 1 else ()
    return (TensorType((*batch, *rows, *columns), DType.FP32),)


def _compute_matmul(_: Attributes, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """numpy.matmul of float32 arrays, or of float64 (exact sums of integers).

    A vector operand loses its dimension in the result.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values here
        return (np.asarray(np.matmul(a, b), a.dtype),)


def _batch_role(a_size: int, b_size: int) -> Role:
    """A batch that only one operand has is more rows, or columns, of one product."""
    if b_size == 1:
        return Role.ROW
    return Role.COLUMN if a_size == 1 else Role.BATCH


def _matmul_nest(
    _: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    a, b = ins
    batch_shape = broadcast("MatMul", (a.shape[:-2], b.shape[:-2]))
    padded = [(1,) * (len(batch_shape) - len(s.shape[:-2])) + s.shape[:-2] for s in ins]
    batch = tuple(
        Dim(f"B{index}", size, _batch_role(padded[0][index], padded[1][index]))
        for index, size in enumerate(batch_shape)
    )
    batch_axes = tuple(Axis(dim.size, ((dim.name, 1),)) for dim in batch)
    rows = tuple(Dim("M", size, Role.ROW) for size in a.shape[-2:-1])
    columns = tuple(Dim("N", size, Role.COLUMN) for size in (b.shape[-1:] if b.rank > 1 else ()))
    row_axes = tuple(Axis(dim.size, (("M", 1),)) for dim in rows)
    column_axes = tuple(Axis(dim.size, (("N", 1),)) for dim in columns)
    depth_axis = Axis(a.shape[-1], (("K", 1),))
    full_a = Access((*batch_axes, *row_axes, depth_axis))
    full_b = Access((*batch_axes, depth_axis, *column_axes))
    return LoopNest(
        unit=Unit.SYSTOLIC,
        dims=(*batch, *rows, *columns, Dim("K", a.shape[-1], Role.DEPTH)),
        reads=(broadcast_access(a.shape, full_a), broadcast_access(b.shape, full_b)),
        writes=(Access((*batch_axes, *row_axes, *column_axes)),),
        lane_ops=0,
    )


MATMUL = OpDef(
    name="MatMul",
    attributes={},
    operands=(2, 2),
    infer=_infer_matmul,
    compute=_compute_matmul,
    int8=Int8Rule.KERNEL,
    loop_nest=_matmul_nest,
    accumulator_operands=(),
    stage=False,
    lane_ops=1,
)


def _oriented(attributes: Attributes, a: TensorType, b: TensorType) -> tuple[int, int, int, int]:
    """(rows, depth) of A and (depth, columns) of B after their transposes."""
    rows, a_depth = a.shape[::-1] if flag("Gemm", "transA", attributes["transA"]) else a.shape
    b_depth, columns = b.shape[::-1] if flag("Gemm", "transB", attributes["transB"]) else b.shape
    return rows, a_depth, b_depth, columns


def _infer_gemm(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    float_operands("Gemm", types)
    finite("Gemm", "alpha", attributes["alpha"])
    finite("Gemm", "beta", attributes["beta"])
    a, b = types[0], types[1]
    if a.rank != 2 or b.rank != 2:
        raise OpError(f"Gemm: A and B must be matrices, got {list(a.shape)} and {list(b.shape)}")
    rows, a_depth, b_depth, columns = _oriented(attributes, a, b)
    if a_depth != b_depth:
        raise OpError(
            f"Gemm: the inner dimensions of {list(a.shape)} and {list(b.shape)} differ "
            f"({a_depth} and {b_depth} after their transposes)"
        )
    if len(types) == 3 and broadcast("Gemm", (types[2].shape, (rows, columns))) != (rows, columns):
        raise OpError(f"Gemm: C {list(types[2].shape)} does not broadcast to {[rows, columns]}")
    return (TensorType((rows, columns), DType.FP32),)


def _compute_gemm(
    attributes: Attributes, a: np.ndarray, b: np.ndarray, c: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """alpha·A'·B' + beta·C in float32 or float64, where ' transposes if asked."""
    left = a.T if attributes["transA"] else a
    right = b.T if attributes["transB"] else b
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values here
        out = np.matmul(left, right)
        if attributes["alpha"] != 1:
            out = out * np.float32(attributes["alpha"])
        if c is not None:
            out = out + (c if attributes["beta"] == 1 else c * np.float32(attributes["beta"]))
    return (out.astype(a.dtype, copy=False),)


def _gemm_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    rows, depth, _, columns = _oriented(attributes, ins[0], ins[1])
    m, n, k = Axis(rows, (("M", 1),)), Axis(columns, (("N", 1),)), Axis(depth, (("K", 1),))
    write = Access((m, n))
    reads = [
        Access((k, m) if attributes["transA"] else (m, k)),
        Access((n, k) if attributes["transB"] else (k, n)),
    ]
    drain_ops = 1 if attributes["alpha"] != 1 else 0
    if len(ins) == 3:
        reads.append(broadcast_access(ins[2].shape, write))
        drain_ops += 1  # beta·C is one multiply-add
    return LoopNest(
        unit=Unit.SYSTOLIC,
        dims=(
            Dim("M", rows, Role.ROW),
            Dim("N", columns, Role.COLUMN),
            Dim("K", depth, Role.DEPTH),
        ),
        reads=tuple(reads),
        writes=(write,),
        lane_ops=drain_ops,
    )


GEMM = OpDef(
    name="Gemm",
    attributes={"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    operands=(2, 3),
    infer=_infer_gemm,
    compute=_compute_gemm,
    int8=Int8Rule.KERNEL,
    loop_nest=_gemm_nest,
    accumulator_operands=(2,),
    stage=False,
    lane_ops=1,
)

OPS = (MATMUL, GEMM)
