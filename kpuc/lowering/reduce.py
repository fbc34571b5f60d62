"""Sums, means and extrema over axes, and dropout, which in eval mode does nothing."""

from collections.abc import Sequence
from math import prod

import torch

from kpuc.lowering.site import (
    Absent,
    Lowered,
    LoweringError,
    Site,
    Symbol,
    Table,
    Tensor,
    axes_of,
    axis_of,
)

aten = torch.ops.aten


def _reduce(
    at: Site, op_type: str, x: Tensor, dims: Sequence[int] | int | None, keepdim: bool
) -> Symbol:
    """In the result's type: the operand is converted first, as torch does."""
    axes = axes_of(dims, len(x.shape))
    converted = at.cast(x)
    if not axes:  # a scalar: the sum or mean of one element
        return at.emit("Identity", converted)
    return at.emit(op_type, converted, axes=axes, keepdims=keepdim)


def mean(
    at: Site,
    x: Tensor,
    dims: Sequence[int] | None,
    keepdim: bool,
    dtype: torch.dtype | None,
) -> Lowered:
    """Mean over axes; none given means all."""
    return _reduce(at, "ReduceMean", x, dims, keepdim)


def mean_of_all(at: Site, x: Tensor, dtype: torch.dtype | None) -> Lowered:
    """Mean of every element."""
    return _reduce(at, "ReduceMean", x, None, False)


def sum_(
    at: Site,
    x: Tensor,
    dims: Sequence[int] | None,
    keepdim: bool,
    dtype: torch.dtype | None,
) -> Lowered:
    """Sum over axes; integers add up in int64, as in torch."""
    return _reduce(at, "ReduceSum", x, dims, keepdim)


def sum_of_all(at: Site, x: Tensor, dtype: torch.dtype | None) -> Lowered:
    """Sum of every element."""
    return _reduce(at, "ReduceSum", x, None, False)


def variance(
    at: Site, x: Tensor, dims: Sequence[int] | None, correction: float | None, keepdim: bool
) -> Lowered:
    """Mean squared deviation times n / (n - correction); the correction defaults to 1."""
    axes = axes_of(dims, len(x.shape))
    count = prod(x.shape[axis] for axis in axes)
    freedom = count - (1 if correction is None else correction)
    if freedom <= 0:
        raise LoweringError("ReduceVariance", f"{count} elements with correction {correction}")
    deviation = at.emit("Sub", x, at.emit("ReduceMean", x, axes=axes, keepdims=True))
    square = at.emit("Mul", deviation, deviation)
    spread = at.emit("ReduceMean", square, axes=axes, keepdims=keepdim)
    return at.emit("Mul", spread, count / freedom)


def amax(at: Site, x: Tensor, dims: Sequence[int], keepdim: bool) -> Lowered:
    """Maximum over axes, as one max-pool whose window is all of them."""
    rank = len(x.shape)
    reduced = axes_of(dims, rank)
    kept = tuple(axis for axis in range(rank) if axis not in reduced)
    count = prod(x.shape[axis] for axis in reduced)
    moved = at.transpose(x, kept + reduced)
    rows = at.reshape(moved, (1, prod(x.shape[axis] for axis in kept), count))
    return at.reshape(at.emit("MaxPool", rows, kernel_shape=(count,)), at.shape)


def amin(at: Site, x: Tensor, dims: Sequence[int], keepdim: bool) -> Lowered:
    """Minimum over axes: -max(-x)."""
    largest = amax(at, at.emit("Mul", x, -1), dims, keepdim)
    assert isinstance(largest, Symbol)
    return at.emit("Mul", largest, -1)


def max_along(at: Site, x: Tensor, dim: int, keepdim: bool) -> Lowered:
    """(maxima, positions): the positions are refused if anything uses them."""
    positions = Absent("ArgMax", "the positions of max(dim) are used")
    values = amax(at, x, [axis_of(dim, len(x.shape))], keepdim)
    assert isinstance(values, Symbol)
    return values, positions


def min_along(at: Site, x: Tensor, dim: int, keepdim: bool) -> Lowered:
    """(minima, positions): the positions are refused if anything uses them."""
    positions = Absent("ArgMin", "the positions of min(dim) are used")
    values = amin(at, x, [axis_of(dim, len(x.shape))], keepdim)
    assert isinstance(values, Symbol)
    return values, positions


def max_of_all(at: Site, x: Tensor) -> Lowered:
    """The largest element."""
    return amax(at, x, [], False)


def min_of_all(at: Site, x: Tensor) -> Lowered:
    """The smallest element."""
    return amin(at, x, [], False)


def dropout(at: Site, x: Tensor, p: float, train: bool | None) -> Lowered:
    """Dropout in eval mode is the identity; in training it is random."""
    if train and p > 0:
        raise LoweringError("Dropout", "in training mode it is random: call eval()")
    return x


TABLE: Table = {
    aten.mean.default: mean_of_all,
    aten.mean.dim: mean,
    aten.sum.default: sum_of_all,
    aten.sum.dim_IntList: sum_,
    aten.var.correction: variance,
    aten.amax.default: amax,
    aten.amin.default: amin,
    aten.max.dim: max_along,
    aten.min.dim: min_along,
    aten.max.default: max_of_all,
    aten.min.default: min_of_all,
    aten.dropout.default: dropout,
    aten.feature_dropout.default: dropout,
    aten.alpha_dropout.default: dropout,
    aten.feature_alpha_dropout.default: dropout,
}
