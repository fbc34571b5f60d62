"""Pad: constant (negative widths crop), reflected or repeated edges."""

from dataclasses import replace

import numpy as np

from kpurun.ops.checks import element, integers, one_dtype, type_of
from kpurun.ops.data import move
from kpurun.ops.loopnest import Access, Axis, LoopNest, Unit
from kpurun.ops.nests import identity_access, point_dims
from kpurun.ops.opdef import REQUIRED
from kpurun.ops.types import Attributes, OpError, TensorType

PAD_MODES = ("constant", "reflect", "edge")


def _pad_widths(attributes: Attributes, type_: TensorType) -> tuple[tuple[int, int], ...]:
    """(before, after) of every axis; `pads` is every beginning, then every end, as in ONNX."""
    mode = attributes["mode"]
    if mode not in PAD_MODES:
        raise OpError(f"Pad: mode must be one of {', '.join(PAD_MODES)}, got {mode!r}")
    element("Pad", "value", attributes["value"], type_.dtype)
    pads = integers("Pad", "pads", attributes["pads"], 2 * type_.rank)
    widths = tuple(zip(pads[: type_.rank], pads[type_.rank :], strict=True))
    for axis, (size, width) in enumerate(zip(type_.shape, widths, strict=True)):
        _check_width(mode, axis, size, width)
    return widths


def _check_width(mode: str, axis: int, size: int, width: tuple[int, int]) -> None:
    if mode == "constant":
        if size + min(width[0], 0) + min(width[1], 0) < 1:
            raise OpError(f"Pad: {list(width)} crops all {size} elements of axis {axis}")
        return
    if min(width) < 0:
        raise OpError(f"Pad: mode {mode} cannot crop, got {list(width)} on axis {axis}")
    if mode == "reflect" and max(width) >= size:
        raise OpError(
            f"Pad: mode reflect needs pads smaller than the {size} elements of axis {axis}, "
            f"got {list(width)}"
        )


def _infer_pad(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    one_dtype("Pad", types)
    widths = _pad_widths(attributes, types[0])
    shape = tuple(
        size + before + after for size, (before, after) in zip(types[0].shape, widths, strict=True)
    )
    return (replace(types[0], shape=shape),)


def _compute_pad(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Negative widths crop (mode constant)."""
    widths = _pad_widths(attributes, type_of(x))
    kept = tuple(
        slice(max(-before, 0), size - max(-after, 0))
        for size, (before, after) in zip(x.shape, widths, strict=True)
    )
    added = [(max(before, 0), max(after, 0)) for before, after in widths]
    if attributes["mode"] != "constant":
        return (np.pad(x, added, mode=attributes["mode"]),)
    return (np.pad(x[kept], added, constant_values=x.dtype.type(attributes["value"])),)


def _pad_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    """A reflected or repeated edge is fetched by position, so those modes are scattered."""
    widths = _pad_widths(attributes, ins[0])
    read = Access(
        tuple(
            Axis(size, ((f"D{index}", 1),), offset=-before)
            for index, (size, (before, _)) in enumerate(zip(ins[0].shape, widths, strict=True))
        ),
        scattered=attributes["mode"] != "constant",
    )
    write = identity_access(outs[0].shape)
    return LoopNest(Unit.MOVE, point_dims(outs[0].shape), (read,), (write,), lane_ops=0)


PAD = move(
    "Pad",
    {"pads": REQUIRED, "mode": "constant", "value": 0.0},
    (1, 1),
    _infer_pad,
    _compute_pad,
    _pad_nest,
)

OPS = (PAD,)
