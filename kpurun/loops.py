"""A TileConfig resolved against its loop nest: sizes, counts and order of the tile loops.

L2 tiles are cut from every dimension, L1 tiles from each L2 tile; a dimension that is not named is
whole. Dimensions are numbered in the nest's order, so that the timing can work on tuples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import NamedTuple

from formats.program import TileConfig
from kpurun.ops.loopnest import LoopNest


@dataclass(frozen=True)
class Loops:
    """Tile sizes per dimension and the dimensions that are split, from outermost to innermost.

    All L2 loops lie outside all L1 loops. They run over the whole op, or over the region of it that
    begins at `starts`. `copies` and `l2_copies` are how many buffers an operand that changes has in
    L1 and in L2.
    """

    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    l2_tile: tuple[int, ...]
    l1_tile: tuple[int, ...]
    l2_order: tuple[int, ...]
    l1_order: tuple[int, ...]
    copies: int
    l2_copies: int
    reduction_split: int

    def l2_count(self, dim: int) -> int:
        return -(-self.sizes[dim] // self.l2_tile[dim])

    def l1_count(self, dim: int) -> int:
        """L1 tiles over the whole dimension."""
        size, l2_tile, l1_tile = self.sizes[dim], self.l2_tile[dim], self.l1_tile[dim]
        full, last = divmod(size, l2_tile)
        return full * -(-l2_tile // l1_tile) + -(-last // l1_tile)

    def l2_cuts(self, dim: int) -> list[tuple[int, int]]:
        """(start, size) of the L2 tiles along a dimension."""
        return cut(self.starts[dim], self.sizes[dim], self.l2_tile[dim])

    @property
    def steps(self) -> int:
        """L1 tiles of the whole op."""
        return prod(self.l1_count(dim) for dim in range(len(self.sizes)))

    @property
    def is_split(self) -> bool:
        return bool(self.l2_order or self.l1_order)

    def region(self, dims: tuple[int, ...], at: int) -> "Loops":
        """The loops inside the first (at = 0) or the last (at = -1) L2 tile of some dimensions."""
        if not dims:
            return self
        starts, sizes, l2_tile = list(self.starts), list(self.sizes), list(self.l2_tile)
        for dim in dims:
            starts[dim], sizes[dim] = self.l2_cuts(dim)[at]
            l2_tile[dim] = sizes[dim]
        return replace(
            self,
            starts=tuple(starts),
            sizes=tuple(sizes),
            l2_tile=tuple(l2_tile),
            l1_tile=tuple(map(min, self.l1_tile, sizes)),
            l2_order=tuple([dim for dim in self.l2_order if dim not in dims]),
            l1_order=tuple([dim for dim in self.l1_order if self.l1_tile[dim] < sizes[dim]]),
        )

    def before(self, dim: int, end: int) -> "Loops | None":
        """The loops over the L2 tiles that end before a position of a dimension, in the first round
        of the loops outside of it; None where there are none."""
        tile = self.l2_tile[dim]
        return self._along(dim, 0, self.starts[dim], end // tile * tile)

    def after(self, dim: int, start: int) -> "Loops | None":
        """The loops over the L2 tiles that begin after a position, in the last round."""
        tile = self.l2_tile[dim]
        return self._along(dim, -1, -(-start // tile) * tile, self.sizes[dim])

    def _along(self, dim: int, at: int, start: int, end: int) -> "Loops | None":
        if dim not in self.l2_order or not self.starts[dim] <= start < end:
            return None
        inside = self.region(self.l2_order[: self.l2_order.index(dim)], at)
        starts = (*inside.starts[:dim], start, *inside.starts[dim + 1 :])
        sizes = (*inside.sizes[:dim], end - start, *inside.sizes[dim + 1 :])
        order = tuple(each for each in inside.l2_order if inside.l2_tile[each] < sizes[each])
        return replace(inside, starts=starts, sizes=sizes, l2_order=order)


def cut(start: int, size: int, tile: int) -> list[tuple[int, int]]:
    """(start, size) of the tiles of a range; the last may be smaller."""
    end = start + size
    return [(at, min(tile, end - at)) for at in range(start, end, tile)]


def resolve(nest: LoopNest, tiling: TileConfig | None) -> Loops:
    """The loops of a legal tiling (see kpurun.tiles.tiling_problems); None: nothing is split."""
    tiling = tiling or TileConfig()
    sizes = tuple(dim.size for dim in nest.dims)
    names = [dim.name for dim in nest.dims]
    l2_tile = tuple(
        tiling.l2_tile_sizes.get(name, size) for name, size in zip(names, sizes, strict=True)
    )
    l1_tile = tuple(
        min(l2_size, tiling.tile_sizes.get(name, l2_size))
        for name, l2_size in zip(names, l2_tile, strict=True)
    )
    return Loops(
        starts=(0,) * len(sizes),
        sizes=sizes,
        l2_tile=l2_tile,
        l1_tile=l1_tile,
        l2_order=_split_dims(tiling.l2_loop_order, names, sizes, l2_tile),
        l1_order=_split_dims(tiling.loop_order, names, l2_tile, l1_tile),
        copies=1 + tiling.prefetch_distance if tiling.double_buffer else 1,
        l2_copies=1 + tiling.l2_prefetch_distance if tiling.double_buffer else 1,
        reduction_split=tiling.reduction_split,
    )


def _split_dims(
    order: tuple[str, ...], names: list[str], whole: tuple[int, ...], tile: tuple[int, ...]
) -> tuple[int, ...]:
    """Numbers of the dimensions that are split, in the order given (natural for any left out)."""
    ordered = [names.index(name) for name in order]
    ordered += [number for number in range(len(names)) if number not in ordered]
    return tuple(number for number in ordered if tile[number] < whole[number])


def loop_problems(nest: LoopNest, tiling: TileConfig) -> Iterator[str]:
    """What is wrong with a tiling's names, sizes and orders, one sentence each."""
    whole = nest.sizes
    l2_sizes = {**whole, **tiling.l2_tile_sizes}
    yield from _level_problems(nest, tiling.l2_tile_sizes, tiling.l2_loop_order, whole)
    yield from _level_problems(nest, tiling.tile_sizes, tiling.loop_order, l2_sizes)
    if min(tiling.prefetch_distance, tiling.l2_prefetch_distance, tiling.reduction_split) < 1:
        yield "prefetch_distance, l2_prefetch_distance and reduction_split must be at least 1"


def _level_problems(
    nest: LoopNest, tiles: Mapping[str, int], order: Sequence[str], outer: Mapping[str, int]
) -> Iterator[str]:
    """Of the tiles on one level, which are cut from `outer`."""
    dims = {dim.name: dim for dim in nest.dims}
    for name, size in tiles.items():
        if name not in dims:
            yield f"the tiling names {name}, which is no dimension of the op"
        elif not 1 <= size <= outer[name]:
            yield f"a tile of {size} does not fit the {outer[name]} of {name}"
        elif size < outer[name] and not dims[name].splittable:
            yield f"{name} cannot be split"
        elif size < outer[name] and name not in order:
            yield f"{name} is split but not in the loop order"
    if not set(order) <= dims.keys() or len(set(order)) != len(order):
        yield f"the loop order {list(order)} does not name dimensions once each"


def interleaves_reductions(loops: Loops, output_dims: frozenset[int]) -> bool:
    """Whether an output tile is left before its reduction is complete: its partial sums would have
    to be spilled, which the machine does not do. Reduction loops must be the innermost."""
    seen_reduction = False
    for dim in (*loops.l2_order, *loops.l1_order):
        if dim not in output_dims:
            seen_reduction = True
        elif seen_reduction:
            return True
    return False


class Block(NamedTuple):
    """A tile: start and size along every dimension."""

    starts: tuple[int, ...]
    sizes: tuple[int, ...]


def tile_count(loops: Loops) -> int:
    """How many L1 tiles there are, counting whole L2 tiles."""
    levels = zip(loops.sizes, loops.l2_tile, loops.l1_tile, strict=True)
    return prod(-(-size // l2) * -(-l2 // l1) for size, l2, l1 in levels)


def all_tiles(loops: Loops) -> Iterator[tuple[Block, Block]]:
    """Every (L2 tile, L1 tile in it) in execution order."""
    whole = Block(loops.starts, loops.sizes)
    for l2_block in _nested(loops.l2_order, whole, loops.l2_tile):
        for l1_block in _nested(loops.l1_order, l2_block, loops.l1_tile):
            yield l2_block, l1_block


def _nested(order: tuple[int, ...], block: Block, tile: tuple[int, ...]) -> Iterator[Block]:
    """Tiles of a block, the last dimension of `order` running fastest."""
    for picked in product(*(cut(block.starts[dim], block.sizes[dim], tile[dim]) for dim in order)):
        starts, sizes = list(block.starts), list(block.sizes)
        for dim, (start, size) in zip(order, picked, strict=True):
            starts[dim], sizes[dim] = start, size
        yield Block(tuple(starts), tuple(sizes))
