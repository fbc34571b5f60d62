"""Ops that pick and join elements: data changes place, not value."""

from dataclasses import replace
from typing import Any

import numpy as np

from formats.precision import DType
from kpurun.ops.checks import at_least, axes_of, axis_of, integers, one_dtype
from kpurun.ops.loopnest import Access, Axis, LoopNest, Unit
from kpurun.ops.nests import identity_access, point_dims
from kpurun.ops.opdef import REQUIRED, Compute, Infer, Int8Rule, Nest, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType


def _infer_concat(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    one_dtype("Concat", types)
    first = types[0].shape
    axis = axis_of("Concat", attributes["axis"], len(first))
    for type_ in types[1:]:
        others = type_.shape[:axis] + type_.shape[axis + 1 :]
        if type_.rank != len(first) or others != first[:axis] + first[axis + 1 :]:
            raise OpError(
                f"Concat: shapes {list(first)} and {list(type_.shape)} differ "
                f"in more than axis {axis}"
            )
    total = sum(type_.shape[axis] for type_ in types)
    return (replace(types[0], shape=(*first[:axis], total, *first[axis + 1 :])),)


def _compute_concat(attributes: Attributes, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.concatenate(arrays, axis=attributes["axis"]),)


def _parts_along(access: Access, axis: int, sizes: list[int]) -> tuple[Access, ...]:
    """Accesses of consecutive parts of one axis: each clips a tile to its overlap with the part."""
    parts = []
    start = 0
    for size in sizes:
        part = Axis(size, ((f"D{axis}", 1),), offset=-start)
        parts.append(Access((*access.axes[:axis], part, *access.axes[axis + 1 :])))
        start += size
    return tuple(parts)


def _concat_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    shape = outs[0].shape
    axis = axis_of("Concat", attributes["axis"], len(shape))
    write = identity_access(shape)
    reads = _parts_along(write, axis, [type_.shape[axis] for type_ in ins])
    return LoopNest(Unit.MOVE, point_dims(shape), reads, (write,), lane_ops=0)


def _infer_split(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    one_dtype("Split", types)
    shape = types[0].shape
    axis = axis_of("Split", attributes["axis"], len(shape))
    sizes = integers("Split", "split", attributes["split"])
    at_least("Split", "split", sizes, 1)
    if sum(sizes) != shape[axis]:
        raise OpError(
            f"Split: split {list(sizes)} does not add up to the {shape[axis]} of axis {axis}"
        )
    return tuple(replace(types[0], shape=(*shape[:axis], n, *shape[axis + 1 :])) for n in sizes)


def _compute_split(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    ends = np.cumsum(attributes["split"])[:-1]
    return tuple(np.split(x, ends, axis=attributes["axis"]))


def _split_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    shape = ins[0].shape
    axis = axis_of("Split", attributes["axis"], len(shape))
    read = identity_access(shape)
    writes = _parts_along(read, axis, [type_.shape[axis] for type_ in outs])
    return LoopNest(Unit.MOVE, point_dims(shape), (read,), writes, lane_ops=0)


def _slices(attributes: Attributes, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """(start, end, step) of every axis, clamped as in ONNX and numpy; steps are positive."""
    starts = integers("Slice", "starts", attributes["starts"])
    ends = integers("Slice", "ends", attributes["ends"], len(starts))
    given_axes, given_steps = attributes["axes"], attributes["steps"]
    count = len(starts)
    axes = axes_of("Slice", list(range(count)) if given_axes is None else given_axes, len(shape))
    steps = integers("Slice", "steps", [1] * count if given_steps is None else given_steps, count)
    if len(axes) != count:
        raise OpError(f"Slice: {count} starts but {len(axes)} axes")
    at_least("Slice", "steps", steps, 1)
    picked = [(0, size, 1) for size in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        picked[axis] = slice(start, end, step).indices(shape[axis])
    return tuple(picked)


def _infer_slice(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    one_dtype("Slice", types)
    picked = _slices(attributes, types[0].shape)
    return (replace(types[0], shape=tuple(len(range(*bounds)) for bounds in picked)),)


def _compute_slice(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    picked = _slices(attributes, x.shape)
    return (np.ascontiguousarray(x[tuple(slice(*bounds) for bounds in picked)]),)


def _slice_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    picked = _slices(attributes, ins[0].shape)
    read = Access(
        tuple(
            Axis(size, ((f"D{index}", step),), offset=start)
            for index, (size, (start, _, step)) in enumerate(zip(ins[0].shape, picked, strict=True))
        )
    )
    write = identity_access(outs[0].shape)
    return LoopNest(Unit.MOVE, point_dims(outs[0].shape), (read,), (write,), lane_ops=0)


def _infer_gather(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    data, indices = types
    one_dtype("Gather", (data,))
    if indices.dtype not in (DType.INT32, DType.INT64):
        raise OpError(f"Gather: indices must be int32 or int64, got {indices.dtype.value}")
    axis = axis_of("Gather", attributes["axis"], data.rank)
    return (replace(data, shape=data.shape[:axis] + indices.shape + data.shape[axis + 1 :]),)


def _compute_gather(
    attributes: Attributes, data: np.ndarray, indices: np.ndarray
) -> tuple[np.ndarray, ...]:
    """data[..., indices, ...] on one axis; negative indices count from the end."""
    axis = axis_of("Gather", attributes["axis"], data.ndim)
    size = data.shape[axis]
    wrong = indices[(indices < -size) | (indices >= size)]
    if wrong.size:
        raise OpError(
            f"Gather: index {int(wrong.flat[0])} is out of range for axis {axis} of size {size}"
        )
    return (np.asarray(np.take(data, indices, axis=axis)),)


def _gather_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    """The gathered axis is scattered: a tile fetches at most one slice per index in it."""
    data, indices = ins[0].shape, ins[1].shape
    axis = axis_of("Gather", attributes["axis"], len(data))
    write = identity_access(outs[0].shape)
    index_axes = write.axes[axis : axis + len(indices)]
    steps = [int(np.prod(indices[position + 1 :])) for position in range(len(indices))]
    position_in_indices = tuple(
        (f"D{axis + position}", step) for position, step in enumerate(steps)
    )
    read = Access(
        (
            *write.axes[:axis],
            Axis(data[axis], position_in_indices),
            *write.axes[axis + len(indices) :],
        ),
        scattered=True,
    )
    return LoopNest(
        unit=Unit.MOVE,
        dims=point_dims(outs[0].shape),
        reads=(read, Access(index_axes)),
        writes=(write,),
        lane_ops=0,
    )


def move(
    name: str,
    attributes: dict[str, Any],
    operands: tuple[int, int | None],
    infer: Infer,
    compute: Compute,
    loop_nest: Nest,
) -> OpDef:
    """Codes pass through unchanged, no lane works, nothing accumulates."""
    return OpDef(
        name=name,
        attributes=attributes,
        operands=operands,
        infer=infer,
        compute=compute,
        int8=Int8Rule.CODES,
        loop_nest=loop_nest,
        accumulator_operands=(),
        stage=False,
        lane_ops=0,
    )


CONCAT = move("Concat", {"axis": REQUIRED}, (1, None), _infer_concat, _compute_concat, _concat_nest)
SPLIT = move(
    "Split", {"axis": 0, "split": REQUIRED}, (1, 1), _infer_split, _compute_split, _split_nest
)
SLICE = move(
    "Slice",
    # axes None: the first ones; steps None: all 1
    {"starts": REQUIRED, "ends": REQUIRED, "axes": None, "steps": None},
    (1, 1),
    _infer_slice,
    _compute_slice,
    _slice_nest,
)
GATHER = move("Gather", {"axis": 0}, (2, 2), _infer_gather, _compute_gather, _gather_nest)
OPS = (CONCAT, SPLIT, SLICE, GATHER)
