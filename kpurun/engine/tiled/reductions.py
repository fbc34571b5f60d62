"""Pools, means and sums of one tile: what one element is made of, over the reduced dimensions."""

from collections.abc import Callable
from math import prod

import numpy as np

from kpurun.engine.tiled.operands import folded, unrolled
from kpurun.engine.tiled.tile import Tile
from kpurun.ops.pool import average_counts


def partial_maximum(tile: Tile) -> np.ndarray:
    """float32; padding is -inf."""
    return _by_tap(tile, np.maximum, -np.inf)


def partial_window_sum(tile: Tile) -> np.ndarray:
    """float32, one sample of the window after the other; padding is 0."""
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values here
        return _by_tap(tile, np.add, 0)


def partial_sum(tile: Tile) -> np.ndarray:
    """float64 of floats; integers in their own type, where they wrap around."""
    values, dims = unrolled(tile.real(0), tile.plan.reads[0], tile.block, padding=0)
    is_float = np.issubdtype(values.dtype, np.floating)
    axes = tuple(dims.index(dim) for dim in tile.plan.reduced)
    total = values.sum(axis=axes, dtype=np.float64 if is_float else values.dtype)
    kept = [dim for dim in dims if dim not in tile.plan.reduced]
    return folded(np.asarray(total), kept, tile.plan.writes[0], tile.block)


def mean(tile: Tile, total: np.ndarray) -> np.ndarray:
    count = prod(tile.plan.dims[dim].size for dim in tile.plan.reduced)
    return np.asarray(total / count)


def window_mean(tile: Tile, total: np.ndarray) -> np.ndarray:
    """Sums over the number of elements that each window counts."""
    counts = average_counts(tile.attributes, tile.tensor(0).shape)
    axes = tile.plan.writes[0].axes[2:]
    inside = tuple(
        slice(start, start + size)
        for ((dim, _),) in (axis.terms for axis in axes)
        for start, size in [(tile.block.starts[dim], tile.block.sizes[dim])]
    )
    return np.asarray(total / counts[inside])


def _by_tap(tile: Tile, join: Callable[..., np.ndarray], start: float) -> np.ndarray:
    values, dims = unrolled(tile.real(0), tile.plan.reads[0], tile.block, padding=start)
    reduced = [dim for dim in dims if dim in tile.plan.reduced]
    kept = [dim for dim in dims if dim not in tile.plan.reduced]
    turned = values.transpose([dims.index(dim) for dim in (*reduced, *kept)])
    total = np.full(turned.shape[len(reduced) :], start, np.float32)
    for tap in np.ndindex(*turned.shape[: len(reduced)]):
        total = np.asarray(join(total, turned[tap]))
    return folded(total, kept, tile.plan.writes[0], tile.block)
