"""Resampling: nearest neighbours are picked, linear interpolation mixes two of them per axis."""

from collections.abc import Callable, Sequence

import torch

from kpuc.lowering.site import Lowered, Site, Symbol, Table, Tensor

aten = torch.ops.aten
Scales = Sequence[float | None]


def upsample_nearest(
    at: Site, x: Tensor, output_size: Sequence[int], *scales: float | None
) -> Lowered:
    """Given a size, and scales where the sizes come from them."""
    return _pick_nearest(at, x, aten.upsample_nearest1d.default, output_size, scales)


def upsample_nearest_vec(
    at: Site, x: Tensor, output_size: Sequence[int] | None, scale_factors: Sequence[float] | None
) -> Lowered:
    """Given a size or scale factors."""
    scales = _per_axis(x, scale_factors)
    return _pick_nearest(at, x, aten.upsample_nearest1d.default, at.shape[2:], scales)


def upsample_nearest_exact_vec(
    at: Site, x: Tensor, output_size: Sequence[int] | None, scale_factors: Sequence[float] | None
) -> Lowered:
    """Mode "nearest-exact": by pixel centres."""
    scales = _per_axis(x, scale_factors)
    return _pick_nearest(at, x, aten._upsample_nearest_exact1d.default, at.shape[2:], scales)


def _per_axis(x: Tensor, scale_factors: Sequence[float] | None) -> Scales:
    return scale_factors or (None,) * (len(x.shape) - 2)


def _pick_nearest(
    at: Site,
    x: Tensor,
    row: Callable[[torch.Tensor, list[int], float | None], torch.Tensor],
    sizes: Sequence[int],
    scales: Scales,
) -> Symbol:
    """Which source position each output takes, torch itself says, on a ramp."""
    out = x
    for axis, (size, scale) in enumerate(zip(sizes, scales, strict=True), start=2):
        ramp = torch.arange(x.shape[axis], dtype=torch.float64).reshape(1, 1, -1)
        positions = row(ramp, [size], scale).flatten().to(torch.int64)
        if positions.tolist() != list(range(x.shape[axis])):
            out = at.gather(out, axis, positions)
    return out if isinstance(out, Symbol) else at.emit("Identity", out)


def upsample_linear_vec(
    at: Site,
    x: Tensor,
    output_size: Sequence[int] | None,
    align_corners: bool,
    scale_factors: Sequence[float] | None,
) -> Lowered:
    """Linear, bilinear, trilinear: along each axis a mix of two neighbours.

    The weights are torch's own: its linear interpolation of the unit vectors.
    """
    out = x
    rank = len(x.shape)
    scales = _per_axis(x, scale_factors)
    for axis, (size, scale) in enumerate(zip(at.shape[2:], scales, strict=True), start=2):
        length = x.shape[axis]
        if size == length:
            continue
        units = torch.eye(length).reshape(1, length, length)
        weights = aten.upsample_linear1d.default(units, [size], align_corners, scale)[0]
        left = torch.argmax((weights > 0).to(torch.int8), dim=0)  # the first that contributes
        right = (left + 1).clamp(max=length - 1)
        columns = torch.arange(size)
        of_right = torch.where(right > left, weights[right, columns], 0.0)
        shape = tuple(size if index == axis else 1 for index in range(rank))
        at_left, at_right = at.gather(out, axis, left), at.gather(out, axis, right)
        # a + (b - a)·w: where the neighbours are equal the result is exactly theirs
        rise = at.emit("Mul", at.emit("Sub", at_right, at_left), of_right.reshape(shape))
        out = at.emit("Add", at_left, rise)
    return out if isinstance(out, Symbol) else at.emit("Identity", out)


TABLE: Table = {
    aten.upsample_nearest1d.default: upsample_nearest,
    aten.upsample_nearest2d.default: upsample_nearest,
    aten.upsample_nearest3d.default: upsample_nearest,
    aten.upsample_nearest1d.vec: upsample_nearest_vec,
    aten.upsample_nearest2d.vec: upsample_nearest_vec,
    aten.upsample_nearest3d.vec: upsample_nearest_vec,
    aten._upsample_nearest_exact1d.vec: upsample_nearest_exact_vec,
    aten._upsample_nearest_exact2d.vec: upsample_nearest_exact_vec,
    aten._upsample_nearest_exact3d.vec: upsample_nearest_exact_vec,
    aten.upsample_linear1d.vec: upsample_linear_vec,
    aten.upsample_bilinear2d.vec: upsample_linear_vec,
    aten.upsample_trilinear3d.vec: upsample_linear_vec,
}
