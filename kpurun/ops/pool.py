"""Pooling over one, two or three spatial axes, with PyTorch's rule for partial windows."""

import numpy as np

from formats.precision import DType
from kpurun.ops.checks import flag, float_operands, integers
from kpurun.ops.loopnest import Access, Axis, Dim, LoopNest, Role, Unit
from kpurun.ops.opdef import REQUIRED, Int8Rule, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType
from kpurun.ops.window import (
    SPATIAL_NAMES,
    Window,
    input_axes,
    output_sizes,
    padded_for,
    spatial_rank,
    taps,
    window_of,
)


def _window(op: str, attributes: Attributes, rank: int) -> Window:
    kernel = integers(op, "kernel_shape", attributes["kernel_shape"], rank)
    window = window_of(op, attributes, kernel)
    for begin, end, extent in zip(window.begins, window.ends, window.extents, strict=True):
        if max(begin, end) >= extent:
            raise OpError(
                f"{op}: pads {list(attributes['pads'])} let a window of extent {extent} "
                "lie in the padding alone"
            )
    return window


def _positions(
    op: str, attributes: Attributes, shape: tuple[int, ...]
) -> tuple[Window, tuple[int, ...]]:
    """The window and its number of positions on each axis of an input [N, C, spatial…]."""
    window = _window(op, attributes, spatial_rank(op, len(shape)))
    ceil_mode = flag(op, "ceil_mode", attributes["ceil_mode"])
    return window, output_sizes(op, window, shape[2:], ceil_mode)


def _infer_max(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    float_operands("MaxPool", types)
    shape = types[0].shape
    _, outputs = _positions("MaxPool", attributes, shape)
    return (TensorType((*shape[:2], *outputs), DType.FP32),)


def _compute_max(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Largest sample of each window; padding is -inf, NaN wins."""
    window, outputs = _positions("MaxPool", attributes, x.shape)
    padded = padded_for(x, window, outputs, -np.inf)
    out = np.full((*x.shape[:2], *outputs), -np.inf, np.float32)
    for samples in taps(padded, window, outputs):
        np.maximum(out, samples, out=out)
    return (out,)


def _infer_average(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    float_operands("AveragePool", types)
    flag("AveragePool", "count_include_pad", attributes["count_include_pad"])
    shape = types[0].shape
    _, outputs = _positions("AveragePool", attributes, shape)
    return (TensorType((*shape[:2], *outputs), DType.FP32),)


def _compute_average(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sum of each window over the number of its elements: with count_include_pad those inside the
    padded input, else those inside the input. What ceil_mode adds beyond the padding never counts.
    """
    window, outputs = _positions("AveragePool", attributes, x.shape)
    padded = padded_for(x, window, outputs, 0.0)
    total = np.zeros((*x.shape[:2], *outputs), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values here
        for samples in taps(padded, window, outputs):
            total += samples
    return (np.divide(total, average_counts(attributes, x.shape)),)


def average_counts(attributes: Attributes, shape: tuple[int, ...]) -> np.ndarray:
    """How many elements of an input of this shape each window of an AveragePool counts, float32."""
    window, outputs = _positions("AveragePool", attributes, shape)
    counts = np.ones((), np.float32)
    for axis, count in enumerate(outputs):
        on_axis = _elements_counted(
            window, axis, shape[2 + axis], count, bool(attributes["count_include_pad"])
        )
        counts = np.multiply.outer(counts, on_axis)
    return counts


def _elements_counted(
    window: Window, axis: int, size: int, count: int, include_pad: bool
) -> np.ndarray:
    """Elements that the window counts at each of its positions on one axis, as float32."""
    first = np.arange(count) * window.strides[axis] - window.begins[axis]
    least, most = (-window.begins[axis], size + window.ends[axis]) if include_pad else (0, size)
    last = np.minimum(first + window.kernel[axis], most)
    return (last - np.maximum(first, least)).astype(np.float32)


def _infer_global(_: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    float_operands("GlobalAveragePool", types)
    shape = types[0].shape
    spatial = spatial_rank("GlobalAveragePool", len(shape))
    return (TensorType((*shape[:2], *(1,) * spatial), DType.FP32),)


def _compute_global(_: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    axes = tuple(range(2, x.ndim))
    return (np.asarray(np.mean(x, axis=axes, keepdims=True, dtype=np.float64), np.float32),)


def _window_nest(
    op: str, attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    """Output positions are points, taps the reduction: one lane operation each."""
    shape, out_shape = ins[0].shape, outs[0].shape
    window = _window(op, attributes, len(shape) - 2)
    letters = SPATIAL_NAMES[window.rank]
    planes = (Axis(shape[0], (("N", 1),)), Axis(shape[1], (("C", 1),)))
    positions = [
        Dim(f"O{letter}", size, Role.POINT)
        for letter, size in zip(letters, out_shape[2:], strict=True)
    ]
    kernel = [
        Dim(f"K{letter}", size, Role.DEPTH)
        for letter, size in zip(letters, window.kernel, strict=True)
    ]
    write = (*planes, *(Axis(dim.size, ((dim.name, 1),)) for dim in positions))
    return LoopNest(
        unit=Unit.VECTOR,
        dims=(
            Dim("N", shape[0], Role.POINT),
            Dim("C", shape[1], Role.POINT),
            *positions,
            *kernel,
        ),
        reads=(Access((*planes, *input_axes(window, shape[2:]))),),
        writes=(Access(write),),
        lane_ops=1,
    )


def _max_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    return _window_nest("MaxPool", attributes, ins, outs)


def _average_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    return _window_nest("AveragePool", attributes, ins, outs)


def _global_nest(
    _: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    shape = ins[0].shape
    letters = SPATIAL_NAMES[len(shape) - 2]
    reduced = [
        Dim(letter, size, Role.DEPTH) for letter, size in zip(letters, shape[2:], strict=True)
    ]
    planes = (Axis(shape[0], (("N", 1),)), Axis(shape[1], (("C", 1),)))
    return LoopNest(
        unit=Unit.VECTOR,
        dims=(Dim("N", shape[0], Role.POINT), Dim("C", shape[1], Role.POINT), *reduced),
        reads=(Access((*planes, *(Axis(dim.size, ((dim.name, 1),)) for dim in reduced))),),
        writes=(Access((*planes, *(Axis(1) for _ in reduced))),),
        lane_ops=1,
    )


MAX_POOL = OpDef(
    name="MaxPool",
    attributes={
        "kernel_shape": REQUIRED,
        "strides": None,  # None: all 1
        "pads": None,  # None: all 0
        "dilations": None,  # None: all 1
        "ceil_mode": False,
    },
    operands=(1, 1),
    infer=_infer_max,
    compute=_compute_max,
    int8=Int8Rule.CODES,
    loop_nest=_max_nest,
    accumulator_operands=(),
    stage=False,
    lane_ops=1,  # a comparison with selection per sample
)

AVERAGE_POOL = OpDef(
    name="AveragePool",
    attributes={
        "kernel_shape": REQUIRED,
        "strides": None,
        "pads": None,
        "ceil_mode": False,
        "count_include_pad": False,
    },
    operands=(1, 1),
    infer=_infer_average,
    compute=_compute_average,
    int8=Int8Rule.DEQUANTISE,
    loop_nest=_average_nest,
    accumulator_operands=(),
    stage=False,
    lane_ops=1,  # a multiply-add per sample, by the reciprocal of the count
)

GLOBAL_AVERAGE_POOL = OpDef(
    name="GlobalAveragePool",
    attributes={},
    operands=(1, 1),
    infer=_infer_global,
    compute=_compute_global,
    int8=Int8Rule.DEQUANTISE,
    loop_nest=_global_nest,
    accumulator_operands=(),
    stage=False,
    lane_ops=1,
)

OPS = (MAX_POOL, AVERAGE_POOL, GLOBAL_AVERAGE_POOL)
