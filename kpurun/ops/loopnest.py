"""What an op iterates over: what tiling, traffic, cycles and energy derive from.

An op is a nest of loops. Each operand axis follows the loops affinely: over a tile that spans
[start_d, start_d + size_d) of every dimension d, the axis touches
[offset + sum(step·start_d), offset + sum(step·(start_d + size_d - 1))], clipped to the operand.
A convolution's input row is `Axis(H, (("OH", stride), ("KH", dilation)), offset=-pad)`: the halo
and the padding fall out of the same rule as everything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import prod


class Role(str, Enum):
    """What a dimension is to the unit that executes the op."""

    ROW = "row"  # systolic: rows of output blocks (pixels, M)
    COLUMN = "column"  # systolic: columns of output blocks (output channels, N)
    DEPTH = "depth"  # reduction (K)
    BATCH = "batch"  # systolic: independent products (groups, batched matmul)
    POINT = "point"  # vector and move: independent points


class Unit(str, Enum):
    """Which part of a compute tile executes the op."""

    SYSTOLIC = "systolic"
    VECTOR = "vector"
    MOVE = "move"  # block mover and DMA only: data changes place, not value
    VIEW = "view"  # nothing moves: the output names the input's bytes


@dataclass(frozen=True)
class Dim:
    """One loop. A dimension that may not be split (softmax's axis) is whole in every tile."""

    name: str
    size: int
    role: Role
    splittable: bool = True


@dataclass(frozen=True)
class Axis:
    """How one axis of an operand follows the loops; no terms: the whole axis in every tile."""

    size: int
    terms: tuple[tuple[str, int], ...] = ()
    offset: int = 0

    def span(self, start: Mapping[str, int], tile: Mapping[str, int]) -> tuple[int, int]:
        """Half-open range of this axis touched by the tile, clipped; empty as (x, x)."""
        if not self.terms:
            return 0, self.size
        low = self.offset + sum(step * start[dim] for dim, step in self.terms)
        high = low + sum(step * (tile[dim] - 1) for dim, step in self.terms) + 1
        clipped_low = min(max(low, 0), self.size)
        return clipped_low, max(clipped_low, min(high, self.size))

    def extent(self, tile: Mapping[str, int]) -> int:
        """Largest span of any tile of these sizes: what its buffer must hold."""
        if not self.terms:
            return self.size
        return min(self.size, sum(step * (tile[dim] - 1) for dim, step in self.terms) + 1)

    def is_run(self, tile: Mapping[str, int]) -> bool:
        """Whether a tile touches every position of its span, none through two points."""
        run = 1
        for dim, step in sorted(self.terms, key=lambda term: term[1]):
            if tile[dim] > 1 and step != run:
                return False
            run += step * (tile[dim] - 1)
        return True


@dataclass(frozen=True)
class Access:
    """How one operand is touched. `scattered`: its rows are picked by an index tensor, so each
    point fetches its own (Gather, a reflecting Pad); the axes then say how much one tile fetches at
    most (their extents), not from where (their spans)."""

    axes: tuple[Axis, ...]
    scattered: bool = False

    def elements(self, tile: Mapping[str, int]) -> int:
        """Elements a buffer for one tile must hold."""
        return prod(axis.extent(tile) for axis in self.axes)


@dataclass(frozen=True)
class LoopNest:
    """Dimensions from outermost to innermost in natural order, one access per operand and result.

    Work is one multiply-accumulate per point on a systolic unit, `lane_ops` lane operations per
    point (the product of all dimensions, reductions included) on a vector unit. On a systolic unit
    `lane_ops` counts what the op itself does per output element as it drains (a bias).
    """

    unit: Unit
    dims: tuple[Dim, ...]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    lane_ops: int = 1

    @property
    def points(self) -> int:
        return prod(dim.size for dim in self.dims)

    @property
    def sizes(self) -> dict[str, int]:
        return {dim.name: dim.size for dim in self.dims}

    def writes_once(self, tile: Mapping[str, int]) -> bool:
        """Whether tiles of these sizes write no element twice; other sizes are not legal.

        Only an axis that several dimensions drive can fail (the filters of a grouped convolution:
        G·filters + OC): a tile of several groups must hold all filters of each.
        """
        return all(axis.is_run(tile) for access in self.writes for axis in access.axes)
