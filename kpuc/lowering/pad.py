"""Padding: constant, mirrored, repeated or wrapped around."""

from collections.abc import Sequence

import torch

from kpuc.lowering.site import Lowered, LoweringError, Site, Table, Tensor

aten = torch.ops.aten


def constant_pad(at: Site, x: Tensor, pad: Sequence[int], value: float) -> Lowered:
    """torch names pads from the last axis backwards, (before, after) each; negative ones crop."""
    return _pad(at, x, pad, "constant", value)


def pad(at: Site, x: Tensor, pad: Sequence[int], mode: str, value: float | None) -> Lowered:
    """All of F.pad's modes."""
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode == "circular":
        return _wrap(at, x, pad)
    if mode not in modes:
        raise LoweringError("Pad", f"mode={mode!r}")
    return _pad(at, x, pad, modes[mode], value or 0.0)


def reflection_pad(at: Site, x: Tensor, padding: Sequence[int]) -> Lowered:
    """The edge mirrored, without repeating it."""
    return _pad(at, x, padding, "reflect", 0.0)


def replication_pad(at: Site, x: Tensor, padding: Sequence[int]) -> Lowered:
    """The edge repeated."""
    return _pad(at, x, padding, "edge", 0.0)


def _pad(at: Site, x: Tensor, pad: Sequence[int], mode: str, value: float) -> Lowered:
    if not any(pad):
        return x
    before, after = _pads_by_axis(pad, len(x.shape))
    return at.emit("Pad", x, pads=(*before, *after), mode=mode, value=value)


def _pads_by_axis(pad: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    before, after = [0] * rank, [0] * rank
    for index in range(len(pad) // 2):
        before[rank - 1 - index], after[rank - 1 - index] = pad[2 * index], pad[2 * index + 1]
    return before, after


def _wrap(at: Site, x: Tensor, pad: Sequence[int]) -> Lowered:
    """What negative pads leave is wrapped around: as in torch, what they crop does not return."""
    out = x
    before, after = _pads_by_axis(pad, len(x.shape))
    for axis, (begin, end) in enumerate(zip(before, after, strict=True)):
        if begin or end:
            left = torch.arange(max(-begin, 0), x.shape[axis] - max(-end, 0))
            turns = torch.arange(-max(begin, 0), len(left) + max(end, 0))
            out = at.gather(out, axis, left[turns % len(left)])
    return out


TABLE: Table = {
    aten.constant_pad_nd.default: constant_pad,
    aten.pad.default: pad,
    aten.reflection_pad1d.default: reflection_pad,
    aten.reflection_pad2d.default: reflection_pad,
    aten.reflection_pad3d.default: reflection_pad,
    aten.replication_pad1d.default: replication_pad,
    aten.replication_pad2d.default: replication_pad,
    aten.replication_pad3d.default: replication_pad,
}
