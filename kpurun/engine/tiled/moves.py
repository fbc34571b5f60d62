"""Ops that pick, join and rename elements, of one tile: on stored bits, or on numbers where the
result is stored in another way."""

import numpy as np

from kpurun.engine.tiled.memory import Positions
from kpurun.engine.tiled.operands import touched
from kpurun.engine.tiled.tile import Tile, encoded
from kpurun.loops import Block
from kpurun.ops.checks import NUMPY_DTYPES
from kpurun.ops.loopnest import Unit
from kpurun.plan import AxisPlan, OperandPlan
from kpurun.work import semantic_type

Arrays = tuple[np.ndarray, ...]


def renamed(tile: Tile) -> Arrays:
    """A view that is copied after all: a tile of it is one run of either shape."""
    return (_source(tile, 0).reshape(_lengths(tile, 0)),)


def joined(tile: Tile) -> Arrays:
    """Concat, Split, Slice, Transpose, constant Pad: positions follow the loops on both sides."""
    numbers = range(tile.op.operand_count)
    pieces = [_source(tile, number) for number in numbers]
    grid = np.full(tile.block.sizes, _padding(tile), pieces[0].dtype)
    for number, piece in zip(numbers, pieces, strict=True):
        _put(grid, tile.plan.reads[number], tile.block, piece)
    return tuple(_part(grid, write, tile.block) for write in tile.plan.writes)


def picked(tile: Tile) -> Arrays:
    """Gather and the other Pads: the piece holds what the tile asked for, in its order."""
    return (_source(tile, 0).reshape(_lengths(tile, 0)),)


def shape_of(tile: Tile) -> Arrays:
    """The operand is not read at all."""
    ((low, high),) = touched(tile.plan.writes[0], tile.block)
    return (np.array(tile.tensor(0).shape[low:high], np.int64),)


def picked_positions(tile: Tile, indices: np.ndarray | None) -> Positions:
    """Which positions of its scattered operand the elements of a tile come from, per axis.

    indices: those of the tile of a Gather; None for a Pad.
    """
    operand, block = tile.plan.reads[0], tile.block
    if indices is None:
        mode = tile.attributes["mode"]
        return tuple(_mirrored(mode, axis.size, _points(axis, block)) for axis in operand.axes)
    gathered = tile.attributes["axis"] % len(operand.axes)
    found = indices.ravel()
    return tuple(
        np.where(found < 0, found + axis.size, found)
        if number == gathered
        else _points(axis, block)
        for number, axis in enumerate(operand.axes)
    )


def _mirrored(mode: str, size: int, points: np.ndarray) -> np.ndarray:
    """Positions inside of an axis for some that may lie beyond its ends."""
    last = size - 1
    return np.asarray(
        np.clip(points, 0, last) if mode == "edge" else last - np.abs(last - np.abs(points))
    )


def _source(tile: Tile, number: int) -> np.ndarray:
    """Stored bits while they only change place, else numbers."""
    return tile.bits(number) if tile.plan.work.nest.unit is Unit.MOVE else tile.real(number)


def _lengths(tile: Tile, number: int) -> list[int]:
    return [high - low for low, high in touched(tile.plan.writes[number], tile.block)]


def _padding(tile: Tile) -> np.ndarray:
    """What a Pad adds, as the elements of `_source` are."""
    tensor = tile.program.tensors[tile.op.output_ids[0]]
    value = np.array(float(tile.attributes.get("value", 0)))
    number = value.astype(NUMPY_DTYPES[semantic_type(tensor).dtype])
    return encoded(number, tensor) if tile.plan.work.nest.unit is Unit.MOVE else number


def _points(axis: AxisPlan, block: Block) -> np.ndarray:
    """Positions of an axis that follows one dimension, in the order of the loop."""
    ((dim, step),) = axis.terms
    return axis.offset + step * (block.starts[dim] + np.arange(block.sizes[dim]))


def _put(grid: np.ndarray, read: OperandPlan, block: Block, piece: np.ndarray) -> None:
    """The part of a tile that comes from one operand."""
    inside: list[slice] = [slice(None)] * grid.ndim
    steps, dims = [], []
    for axis, (low, _) in zip(read.axes, touched(read, block), strict=True):
        ((dim, step),) = axis.terms
        points = _points(axis, block)
        within = np.flatnonzero((points >= 0) & (points < axis.size))
        if not within.size:
            return
        inside[dim] = slice(within[0], within[-1] + 1)
        steps.append(slice(points[within[0]] - low, points[within[-1]] - low + 1, step))
        dims.append(dim)
    grid[tuple(inside)] = piece[tuple(steps)].transpose(np.argsort(dims))


def _part(grid: np.ndarray, write: OperandPlan, block: Block) -> np.ndarray:
    """The part of a tile that goes to one result."""
    inside = [
        slice(low - axis.offset - block.starts[dim], high - axis.offset - block.starts[dim])
        for axis, (low, high) in zip(write.axes, touched(write, block), strict=True)
        for dim, _ in axis.terms
    ]
    return grid[tuple(inside)]
