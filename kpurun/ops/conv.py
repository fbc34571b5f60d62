"""Convolution over one, two or three spatial axes, dense, grouped or depthwise."""

import numpy as np

from formats.precision import DType
from kpurun.ops.checks import at_least, float_operands, integer, integers
from kpurun.ops.loopnest import Access, Axis, Dim, LoopNest, Role, Unit
from kpurun.ops.opdef import Int8Rule, OpDef
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


def _window(attributes: Attributes, weight_shape: tuple[int, ...]) -> Window:
    kernel = weight_shape[2:]
    given = attributes["kernel_shape"]
    if given is not None and integers("Conv", "kernel_shape", given, len(kernel)) != kernel:
        raise OpError(f"Conv: kernel_shape {list(given)} differs from the weight's {list(kernel)}")
    return window_of("Conv", attributes, kernel)


def _check_channels(x: TensorType, w: TensorType, groups: int) -> None:
    at_least("Conv", "group", (groups,), 1)
    channels, filters, channels_per_group = x.shape[1], w.shape[0], w.shape[1]
    if channels % groups or filters % groups:
        raise OpError(
            f"Conv: group {groups} must divide the {channels} input channels "
            f"and the {filters} filters"
        )
    if channels != channels_per_group * groups:
        raise OpError(
            f"Conv: the weight expects {channels_per_group * groups} input channels "
            f"({channels_per_group} × group {groups}), the input has {channels}"
        )


def _infer(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    float_operands("Conv", types)
    x, w = types[0], types[1]
    spatial_rank("Conv", x.rank)
    if w.rank != x.rank:
        raise OpError(f"Conv: the weight has {w.rank} dimensions, the input {x.rank}")
    _check_channels(x, w, integer("Conv", "group", attributes["group"]))
    if len(types) == 3 and types[2].shape != (w.shape[0],):
        raise OpError(f"Conv: the bias must have shape [{w.shape[0]}], got {list(types[2].shape)}")
    sizes = output_sizes("Conv", _window(attributes, w.shape), x.shape[2:])
    return (TensorType((x.shape[0], w.shape[0], *sizes), DType.FP32),)


def _compute(
    attributes: Attributes, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """x [N, C, spatial…], w [F, C/group, kernel…], bias [F] -> [N, F, outputs…].

    All float32, or all float64 (exact sums of integers).
    """
    groups = attributes["group"]
    window = _window(attributes, w.shape)
    outputs = output_sizes("Conv", window, x.shape[2:])
    padded = padded_for(x, window, outputs, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values here
        if w.shape[1] == 1 and groups > 1:
            out = _per_channel_products(padded, w, window, outputs)
        else:
            out = _matrix_products(padded, w, window, outputs, groups)
        if bias is not None:
            out = out + bias.reshape(-1, *(1,) * window.rank)
    return (out.astype(x.dtype, copy=False),)


def _per_channel_products(
    padded: np.ndarray, w: np.ndarray, window: Window, outputs: tuple[int, ...]
) -> np.ndarray:
    """Depthwise: one multiply-add of whole maps per kernel position."""
    channels, filters = padded.shape[1], w.shape[0]
    multiplier = filters // channels
    out = np.zeros((padded.shape[0], channels, multiplier, *outputs), padded.dtype)
    factors = w.reshape(channels, multiplier, -1, *(1,) * window.rank)
    for index, samples in enumerate(taps(padded, window, outputs)):
        out += samples[:, :, None] * factors[:, :, index]
    return out.reshape(padded.shape[0], filters, *outputs)


def _matrix_products(
    padded: np.ndarray, w: np.ndarray, window: Window, outputs: tuple[int, ...], groups: int
) -> np.ndarray:
    """im2col: per image and group, [F/group, C/group·taps] × [C/group·taps, pixels]."""
    batch, channels = padded.shape[:2]
    samples = list(taps(padded, window, outputs))
    columns = np.stack(samples, axis=2)  # [N, C, taps, outputs…]
    depth = channels // groups * len(samples)
    columns = columns.reshape(batch, groups, depth, -1)
    filters = w.reshape(groups, w.shape[0] // groups, depth)
    products = np.asarray(np.matmul(filters, columns))
    return products.reshape(batch, w.shape[0], *outputs)


def is_depthwise(attributes: Attributes, w: TensorType) -> bool:
    """One input channel per group: the array would idle, the vector unit executes it."""
    return attributes["group"] > 1 and w.shape[1] == 1


def _loop_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    if is_depthwise(attributes, ins[1]):
        return _depthwise_nest(attributes, ins, outs[0])
    return _systolic_nest(attributes, ins, outs[0])


def _spatial_dims(out: TensorType, kernel: tuple[int, ...], role: Role) -> tuple[list[Dim], ...]:
    letters = SPATIAL_NAMES[len(kernel)]
    positions = [
        Dim(f"O{letter}", size, role) for letter, size in zip(letters, out.shape[2:], strict=True)
    ]
    kernel_dims = [
        Dim(f"K{letter}", size, Role.DEPTH) for letter, size in zip(letters, kernel, strict=True)
    ]
    return positions, kernel_dims


def _axes(dims: list[Dim]) -> tuple[Axis, ...]:
    return tuple(Axis(dim.size, ((dim.name, 1),)) for dim in dims)


def _systolic_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], out: TensorType
) -> LoopNest:
    """Pixels of all images are rows, filters columns, channels and taps the reduction."""
    x, w = ins[0], ins[1]
    groups = attributes["group"]
    filters_per_group, channels_per_group = w.shape[0] // groups, w.shape[1]
    positions, kernel_dims = _spatial_dims(out, w.shape[2:], Role.ROW)
    group_dims = [Dim("G", groups, Role.BATCH)] if groups > 1 else []
    filter_terms = [("OC", 1)]
    channel_terms = [("IC", 1)]
    if groups > 1:
        filter_terms.insert(0, ("G", filters_per_group))
        channel_terms.insert(0, ("G", channels_per_group))
    batch = Axis(x.shape[0], (("N", 1),))
    channels = Axis(x.shape[1], tuple(channel_terms))
    filters = Axis(w.shape[0], tuple(filter_terms))
    window = _window(attributes, w.shape)
    reads = [
        Access((batch, channels, *input_axes(window, x.shape[2:]))),
        Access((filters, Axis(channels_per_group, (("IC", 1),)), *_axes(kernel_dims))),
        Access((filters,)),
    ]
    return LoopNest(
        unit=Unit.SYSTOLIC,
        dims=(
            Dim("N", x.shape[0], Role.ROW),
            *group_dims,
            Dim("OC", filters_per_group, Role.COLUMN),
            *positions,
            Dim("IC", channels_per_group, Role.DEPTH),
            *kernel_dims,
        ),
        reads=tuple(reads[: len(ins)]),
        writes=(Access((batch, filters, *_axes(positions))),),
        lane_ops=len(ins) - 2,  # the bias is added as the accumulator drains
    )


def _depthwise_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], out: TensorType
) -> LoopNest:
    """Every channel on its own; with several filters per channel, CM counts them."""
    x, w = ins[0], ins[1]
    channels = x.shape[1]
    multiplier = w.shape[0] // channels
    positions, kernel_dims = _spatial_dims(out, w.shape[2:], Role.POINT)
    multiplier_dims = []
    filter_terms: tuple[tuple[str, int], ...] = (("C", 1),)
    if multiplier > 1:
        # Whole in every tile, so that a tile of channels is one run of filters.
        multiplier_dims = [Dim("CM", multiplier, Role.POINT, splittable=False)]
        filter_terms = (("C", multiplier), ("CM", 1))
    batch = Axis(x.shape[0], (("N", 1),))
    filters = Axis(w.shape[0], filter_terms)
    window = _window(attributes, w.shape)
    reads = [
        Access((batch, Axis(channels, (("C", 1),)), *input_axes(window, x.shape[2:]))),
        Access((filters, Axis(1), *_axes(kernel_dims))),
        Access((filters,)),
    ]
    return LoopNest(
        unit=Unit.VECTOR,
        dims=(
            Dim("N", x.shape[0], Role.POINT),
            Dim("C", channels, Role.POINT),
            *multiplier_dims,
            *positions,
            *kernel_dims,
        ),
        reads=tuple(reads[: len(ins)]),
        writes=(Access((batch, filters, *_axes(positions))),),
        lane_ops=CONV.lane_ops,  # the bias is what the accumulator starts from: no extra work
    )


CONV = OpDef(
    name="Conv",
    attributes={
        "kernel_shape": None,  # None: the weight's
        "strides": None,  # None: all 1
        "pads": None,  # None: all 0
        "dilations": None,  # None: all 1
        "group": 1,
    },
    operands=(2, 3),
    infer=_infer,
    compute=_compute,
    int8=Int8Rule.KERNEL,
    loop_nest=_loop_nest,
    accumulator_operands=(2,),
    stage=False,
    lane_ops=1,  # depthwise: a lane retires one multiply-accumulate per cycle
)

OPS = (CONV,)
