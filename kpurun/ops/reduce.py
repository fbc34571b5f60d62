"""Reductions over axes: float sums accumulate wider than fp32, integer sums stay exact."""

from collections.abc import Callable

import numpy as np

from kpurun.ops.checks import NUMPY_DTYPES, axes_of, flag, float_operands, number_operands, type_of
from kpurun.ops.loopnest import Access, Axis, Dim, LoopNest, Role, Unit
from kpurun.ops.nests import identity_access
from kpurun.ops.opdef import Compute, Infer, Int8Rule, Nest, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType


def _reduced_axes(name: str, attributes: Attributes, rank: int) -> tuple[int, ...]:
    """Sorted axes to reduce; None stands for all of them."""
    if attributes["axes"] is None:
        return tuple(range(rank))
    axes = tuple(sorted(axes_of(name, attributes["axes"], rank)))
    if not axes:
        raise OpError(f"{name}: axes is empty; leave it out to reduce over every axis")
    return axes


def _infer(name: str, check: Callable[[str, tuple[TensorType, ...]], object]) -> Infer:
    def infer(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        check(name, types)
        shape = types[0].shape
        axes = _reduced_axes(name, attributes, len(shape))
        if flag(name, "keepdims", attributes["keepdims"]):
            kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
        else:
            kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
        return (TensorType(kept, types[0].dtype),)

    return infer


def _compute(name: str, reduction: Callable[..., np.ndarray]) -> Compute:
    def compute(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
        is_float = np.issubdtype(x.dtype, np.floating)
        out = reduction(
            x,
            axis=_reduced_axes(name, attributes, x.ndim),
            keepdims=bool(attributes["keepdims"]),
            dtype=np.float64 if is_float else x.dtype,
        )
        with np.errstate(over="ignore"):  # inf is a value here
            return (np.asarray(out, NUMPY_DTYPES[type_of(x).dtype]),)

    return compute


def _nest(name: str) -> Nest:
    def loop_nest(
        attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
    ) -> LoopNest:
        shape = ins[0].shape
        axes = _reduced_axes(name, attributes, len(shape))
        read = identity_access(shape)
        kept = [axis for index, axis in enumerate(read.axes) if index not in axes]
        if attributes["keepdims"]:
            kept = [Axis(1) if i in axes else axis for i, axis in enumerate(read.axes)]
        return LoopNest(
            unit=Unit.VECTOR,
            dims=tuple(
                Dim(f"D{index}", size, Role.DEPTH if index in axes else Role.POINT)
                for index, size in enumerate(shape)
            ),
            reads=(read,),
            writes=(Access(tuple(kept)),),
            lane_ops=1,
        )

    return loop_nest


def _reduction(
    name: str,
    reduction: Callable[..., np.ndarray],
    check: Callable[[str, tuple[TensorType, ...]], object],
) -> OpDef:
    return OpDef(
        name=name,
        attributes={"axes": None, "keepdims": True},  # axes None: all
        operands=(1, 1),
        infer=_infer(name, check),
        compute=_compute(name, reduction),
        int8=Int8Rule.DEQUANTISE,
        loop_nest=_nest(name),
        accumulator_operands=(),
        stage=False,
        lane_ops=1,  # an add per element; a mean multiplies by 1/count in the same multiply-add
    )


REDUCE_MEAN = _reduction("ReduceMean", np.mean, float_operands)
REDUCE_SUM = _reduction("ReduceSum", np.sum, number_operands)

OPS = (REDUCE_MEAN, REDUCE_SUM)
