"""Indexing with constants, and the functional form of writes into a slice."""

from collections.abc import Sequence
from math import prod

import torch

from kpuc.lowering.site import Lowered, LoweringError, Operand, Site, Symbol, Table, Tensor, axis_of

aten = torch.ops.aten


def index_select(at: Site, x: Tensor, dim: int, index: Tensor) -> Lowered:
    """Slices of an axis, in the order of `index`."""
    return at.emit("Gather", x, index, axis=axis_of(dim, len(x.shape)))


def embedding(
    at: Site,
    weight: Tensor,
    indices: Tensor,
    padding_idx: int,
    scale_grad_by_freq: bool,
    sparse: bool,
) -> Lowered:
    """Rows of a table; the other arguments concern gradients only."""
    return at.emit("Gather", weight, indices, axis=0)


def index(at: Site, x: Tensor, indices: Sequence[Tensor | None]) -> Lowered:
    """x[:, i] with integer tensors on neighbouring axes, constants unless there is only one.

    (A boolean mask makes a shape that depends on values, which is refused when it is captured.)
    """
    axes = [axis for axis, given in enumerate(indices) if given is not None]
    given = [tensor for tensor in indices if tensor is not None]
    if len(given) == 1 and isinstance(given[0], Symbol):
        return at.emit("Gather", x, given[0], axis=axes[0])
    constants = [tensor for tensor in given if isinstance(tensor, torch.Tensor)]
    if len(constants) < len(given):
        raise LoweringError("GatherND", "several index tensors that depend on the input")
    if any(tensor.dtype in (torch.bool, torch.uint8) for tensor in constants):
        raise LoweringError("NonZero", "indexing by a mask")
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise LoweringError("GatherND", f"index tensors on axes {axes}, which are not neighbours")
    sizes = x.shape[axes[0] : axes[-1] + 1]
    linear = torch.zeros((), dtype=torch.int64)
    for size, position in zip(sizes, constants, strict=True):
        linear = linear * size + position % size
    merged = at.reshape(x, (*x.shape[: axes[0]], prod(sizes), *x.shape[axes[-1] + 1 :]))
    return at.emit("Gather", merged, linear, axis=axes[0])


def slice_scatter(
    at: Site,
    x: Operand,
    source: Operand,
    dim: int,
    start: int | None,
    end: int | None,
    step: int,
) -> Lowered:
    """x with x[start:end:step] replaced: what is left of an in-place write."""
    axis = axis_of(dim, len(at.shape))
    positions = range(*slice(start, end, step).indices(at.shape[axis]))
    return _replace(at, at.cast(x), at.cast(source), axis, positions)


def select_scatter(at: Site, x: Operand, source: Operand, dim: int, position: int) -> Lowered:
    """x with one slice of an axis replaced."""
    axis = axis_of(dim, len(at.shape))
    row = at.emit("Unsqueeze", at.cast(source), axes=(axis,))
    start = position % at.shape[axis]
    return _replace(at, at.cast(x), row, axis, range(start, start + 1))


def _replace(at: Site, x: Tensor, source: Tensor, axis: int, positions: range) -> Tensor:
    """Both side by side, then each position from where it comes."""
    size = at.shape[axis]
    if len(positions) == size and positions.step == 1:
        return source
    if not positions:
        return x
    origin = torch.arange(size)
    origin[positions.start : positions.stop : positions.step] = torch.arange(
        size, size + len(positions)
    )
    return at.gather(at.emit("Concat", x, source, axis=axis), axis, origin)


def copy(at: Site, x: Tensor, source: Tensor, non_blocking: bool) -> Lowered:
    """`source` in the shape and type of x: what is left of copy_."""
    from kpuc.lowering.shape import expand

    converted = at.cast(source)
    return expand(at, converted, at.shape, False)


def full_like(at: Site, x: Tensor, value: float, *ignored: object) -> Lowered:
    """A constant of the result's shape."""
    return torch.full(at.shape, value, dtype=at.results[0][1])


def zeros_like(at: Site, x: Tensor, *ignored: object) -> Lowered:
    """Zeros of the result's shape; also for `empty`, whose content is undefined."""
    return torch.zeros(at.shape, dtype=at.results[0][1])


def ones_like(at: Site, x: Tensor, *ignored: object) -> Lowered:
    """Ones of the result's shape."""
    return torch.ones(at.shape, dtype=at.results[0][1])


def new_full(at: Site, x: Tensor, size: Sequence[int], value: float, *ignored: object) -> Lowered:
    """A constant with x's type unless another is given."""
    return torch.full(at.shape, value, dtype=at.results[0][1])


def fill(at: Site, x: Tensor, value: Operand) -> Lowered:
    """x overwritten with one number."""
    if isinstance(value, Symbol):
        return copy(at, x, value, False)
    return torch.fill(torch.empty(at.shape, dtype=at.results[0][1]), value)


TABLE: Table = {
    aten.index_select.default: index_select,
    aten.embedding.default: embedding,
    aten.index.Tensor: index,
    aten.slice_scatter.default: slice_scatter,
    aten.select_scatter.default: select_scatter,
    aten.copy.default: copy,
    aten.fill.Scalar: fill,
    aten.fill.Tensor: fill,
    aten.full_like.default: full_like,
    aten.zeros_like.default: zeros_like,
    aten.empty_like.default: zeros_like,
    aten.ones_like.default: ones_like,
    aten.new_zeros.default: zeros_like,
    aten.new_empty.default: zeros_like,
    aten.new_ones.default: ones_like,
    aten.new_full.default: new_full,
}
