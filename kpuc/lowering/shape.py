"""Views, moves and selections: elements change place, not value."""

from collections.abc import Sequence
from math import prod

import torch

from kpuc.lowering.site import (
    Lowered,
    Site,
    Table,
    Tensor,
    axis_of,
    per_axis,
)

aten = torch.ops.aten


def same(at: Site, x: Tensor, *ignored: object) -> Lowered:
    """Memory format, detaching and aliasing do not change a value."""
    return x


def to_type(at: Site, x: Tensor, *ignored: object) -> Lowered:
    """Conversions of element type, which the result's type tells; device and layout stay."""
    return at.cast(x)


def view(at: Site, x: Tensor, *ignored: object) -> Lowered:
    """The same elements in the same order: the result's shape says it all."""
    return at.reshape(x, at.shape)


def squeeze(at: Site, x: Tensor, *ignored: object) -> Lowered:
    """Axes of size 1 removed; torch leaves an axis of another size alone."""
    if at.shape == x.shape:
        return x
    return at.reshape(x, at.shape)


def unsqueeze(at: Site, x: Tensor, dim: int) -> Lowered:
    """A new axis of size 1."""
    return at.emit("Unsqueeze", x, axes=(axis_of(dim, len(x.shape) + 1),))


def permute(at: Site, x: Tensor, dims: Sequence[int]) -> Lowered:
    """Axes in another order."""
    return at.transpose(x, [axis_of(dim, len(x.shape)) for dim in dims])


def transpose(at: Site, x: Tensor, dim0: int, dim1: int) -> Lowered:
    """Two axes swapped."""
    perm = list(range(len(x.shape)))
    if not perm:
        return x
    first, second = axis_of(dim0, len(perm)), axis_of(dim1, len(perm))
    perm[first], perm[second] = perm[second], perm[first]
    return at.transpose(x, perm)


def matrix_transpose(at: Site, x: Tensor) -> Lowered:
    """t(): the axes of a matrix swapped, a vector as it is."""
    return x if len(x.shape) < 2 else at.transpose(x, (1, 0))


def last_two_swapped(at: Site, x: Tensor) -> Lowered:
    """mT: every matrix of a stack transposed."""
    return transpose(at, x, -2, -1)


def expand(at: Site, x: Tensor, size: Sequence[int], implicit: bool) -> Lowered:
    """Axes of size 1 repeated, new ones in front."""
    added = len(at.shape) - len(x.shape)
    out = at.reshape(x, (*(1,) * added, *x.shape))
    for axis, (before, after) in enumerate(zip(out.shape, at.shape, strict=True)):
        if before != after:
            out = at.gather(out, axis, torch.zeros(after, dtype=torch.int64))
    return out


def expand_as(at: Site, x: Tensor, other: Tensor) -> Lowered:
    """As expand, to another tensor's shape."""
    return expand(at, x, other.shape, False)


def repeat(at: Site, x: Tensor, repeats: Sequence[int]) -> Lowered:
    """The whole tensor side by side along every axis."""
    added = len(repeats) - len(x.shape)
    out = at.reshape(x, (*(1,) * added, *x.shape))
    for axis, count in enumerate(repeats):
        if count != 1:
            out = at.gather(out, axis, torch.arange(out.shape[axis]).repeat(count))
    return out


def repeat_interleave(
    at: Site, x: Tensor, repeats: int, dim: int | None, output_size: int | None
) -> Lowered:
    """Each slice repeated in place; without a dim, of the flattened tensor."""
    flat = at.reshape(x, (prod(x.shape),)) if dim is None else x
    axis = 0 if dim is None else axis_of(dim, len(x.shape))
    return at.gather(flat, axis, torch.arange(flat.shape[axis]).repeat_interleave(repeats))


def cat(at: Site, tensors: Sequence[Tensor], dim: int) -> Lowered:
    """Tensors joined along an axis; empty ones add nothing."""
    parts = [at.cast(tensor) for tensor in tensors if prod(tensor.shape)]
    if len(parts) == 1:
        return parts[0]
    return at.emit("Concat", *parts, axis=axis_of(dim, len(at.shape)))


def stack(at: Site, tensors: Sequence[Tensor], dim: int) -> Lowered:
    """Tensors joined along a new axis."""
    axis = axis_of(dim, len(at.shape))
    parts = [at.emit("Unsqueeze", at.cast(tensor), axes=(axis,)) for tensor in tensors]
    return parts[0] if len(parts) == 1 else at.emit("Concat", *parts, axis=axis)


def split(at: Site, x: Tensor, sizes: int | Sequence[int], dim: int) -> Lowered:
    """Consecutive parts of an axis, as long as eager's results are."""
    axis = axis_of(dim, len(x.shape))
    if len(at.results) == 1:
        return (x,)
    parts = tuple(shape[axis] for shape, _ in at.results)
    return at.emit_all("Split", x, axis=axis, split=parts)


def unbind(at: Site, x: Tensor, dim: int) -> Lowered:
    """Every slice of an axis on its own, without that axis."""
    axis = axis_of(dim, len(x.shape))
    if x.shape[axis] == 1:
        return (at.emit("Squeeze", x, axes=(axis,)),)
    slices = at.emit_all("Split", x, axis=axis, split=(1,) * x.shape[axis])
    return tuple(at.emit("Squeeze", part, axes=(axis,)) for part in slices)


def slice_(at: Site, x: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Lowered:
    """x[start:end:step] along an axis, with Python's rule for bounds out of range."""
    if at.shape == x.shape:
        return x
    axis = axis_of(dim, len(x.shape))
    first, last, _ = slice(start, end).indices(x.shape[axis])
    return at.emit("Slice", x, starts=(first,), ends=(last,), axes=(axis,), steps=(step,))


def select(at: Site, x: Tensor, dim: int, index: int) -> Lowered:
    """One slice of an axis, without that axis."""
    axis = axis_of(dim, len(x.shape))
    position = index % x.shape[axis]
    row = x
    if x.shape[axis] > 1:
        row = at.emit(
            "Slice", x, starts=(position,), ends=(position + 1,), axes=(axis,), steps=(1,)
        )
    return at.emit("Squeeze", row, axes=(axis,))


def flip(at: Site, x: Tensor, dims: Sequence[int]) -> Lowered:
    """Axes in reverse order; a number has none."""
    out = x
    for dim in dims if x.shape else ():
        axis = axis_of(dim, len(x.shape))
        out = at.gather(out, axis, torch.arange(x.shape[axis]).flip(0))
    return out


def roll(at: Site, x: Tensor, shifts: Sequence[int], dims: Sequence[int]) -> Lowered:
    """Axes rotated; without dims the flattened tensor is."""
    out = x if dims else at.reshape(x, (prod(x.shape),))
    axes = [axis_of(dim, len(x.shape)) for dim in dims] or [0]
    for axis, shift in zip(axes, per_axis(shifts, len(axes)), strict=True):
        out = at.gather(out, axis, torch.arange(out.shape[axis]).roll(shift))
    return at.reshape(out, at.shape)


def pixel_shuffle(at: Site, x: Tensor, factor: int) -> Lowered:
    """[…, C·r², H, W] -> […, C, H·r, W·r]."""
    *batch, channels, height, width = x.shape
    kept, lead = channels // factor**2, len(batch)
    split_up = at.reshape(x, (prod(batch), kept, factor, factor, height, width))
    moved = at.transpose(split_up, (0, 1, 4, 2, 5, 3))
    return at.reshape(moved, (*x.shape[:lead], kept, height * factor, width * factor))


def pixel_unshuffle(at: Site, x: Tensor, factor: int) -> Lowered:
    """[…, C, H·r, W·r] -> […, C·r², H, W]."""
    *batch, channels, height, width = x.shape
    rows, columns = height // factor, width // factor
    split_up = at.reshape(x, (prod(batch), channels, rows, factor, columns, factor))
    moved = at.transpose(split_up, (0, 1, 3, 5, 2, 4))
    return at.reshape(moved, (*batch, channels * factor**2, rows, columns))


def channel_shuffle(at: Site, x: Tensor, groups: int) -> Lowered:
    """Channels of the groups interleaved."""
    channels = x.shape[1]
    return at.gather(x, 1, torch.arange(channels).reshape(groups, -1).t().flatten())


TABLE: Table = {
    aten.view.default: view,
    aten._unsafe_view.default: view,
    aten.reshape.default: view,
    aten.flatten.using_ints: view,
    aten.unflatten.int: view,
    aten.view_as.default: view,
    aten.squeeze.default: squeeze,
    aten.squeeze.dim: squeeze,
    aten.squeeze.dims: squeeze,
    aten.unsqueeze.default: unsqueeze,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.t.default: matrix_transpose,
    aten.mT.default: last_two_swapped,
    aten.expand.default: expand,
    aten.expand_as.default: expand_as,
    aten.repeat.default: repeat,
    aten.repeat_interleave.self_int: repeat_interleave,
    aten.cat.default: cat,
    aten.stack.default: stack,
    aten.split.Tensor: split,
    aten.chunk.default: split,
    aten.split_with_sizes.default: split,
    aten.unbind.int: unbind,
    aten.slice.Tensor: slice_,
    aten.select.int: select,
    aten.flip.default: flip,
    aten.roll.default: roll,
    aten.pixel_shuffle.default: pixel_shuffle,
    aten.pixel_unshuffle.default: pixel_unshuffle,
    aten.channel_shuffle.default: channel_shuffle,
    aten.contiguous.default: same,
    aten.clone.default: same,
    aten.detach.default: same,
    aten.alias.default: same,
    aten.lift_fresh_copy.default: same,
    aten.to.dtype: to_type,
    aten._to_copy.default: to_type,
    aten.type_as.default: to_type,
}
