"""Which tiles are worth timing for an op: sizes that suit the arrays, loop orders, L2 tiles.

Every dimension is cut into equal parts, so that no sliver is left at the edge, columns and depth in
whole array blocks. The lists are short, because the search times every entry.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import combinations, product

from kpurun.buffers import l1_bytes
from kpurun.loops import Loops
from kpurun.machine import Machine
from kpurun.ops.loopnest import Dim, Role, Unit
from kpurun.plan import Plan

FINE_PARTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 128)
COARSE_PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024, 4096, 16384, 65536)
DOUBLE_BUFFERED = 2
LARGEST_FILLS = 3  # sizes of the filling dimension to try, from the largest that fits

Sizes = tuple[int, ...]


def loops_of(plan: Plan, l1_tile: Sizes, copies: int = DOUBLE_BUFFERED) -> Loops:
    """L1 tiles cut straight from whole operands, in the nest's order."""
    sizes = tuple(dim.size for dim in plan.work.nest.dims)
    split = tuple(dim for dim in range(len(sizes)) if l1_tile[dim] < sizes[dim])
    return Loops(
        starts=(0,) * len(sizes),
        sizes=sizes,
        l2_tile=sizes,
        l1_tile=l1_tile,
        l2_order=(),
        l1_order=split,
        copies=copies,
        l2_copies=copies,
        reduction_split=1,
    )


def uncut(plan: Plan) -> Loops:
    """Everything in one tile."""
    return loops_of(plan, tuple(dim.size for dim in plan.work.nest.dims), copies=1)


def smallest(plan: Plan) -> Loops:
    """The smallest tiles there are, without double buffers."""
    sizes = tuple(1 if dim.splittable else dim.size for dim in plan.work.nest.dims)
    return loops_of(plan, sizes, copies=1)


def in_channel_parts(plan: Plan, machine: Machine, parts: int) -> Loops:
    """About so many tiles along the channels of the operand or of the result, whichever are more;
    whole where they cannot be cut."""
    sizes = [dim.size for dim in plan.dims]
    if cut := [dim for dim in _channel_dims(plan) if plan.dims[dim].splittable]:
        dim = max(cut, key=lambda each: sizes[each])
        part = -(-sizes[dim] // parts)
        sizes[dim] = min(sizes[dim], -(-part // machine.columns) * machine.columns)
    return loops_of(plan, tuple(sizes))


def _channel_dims(plan: Plan) -> list[int]:
    """What the second axis of the first operand and of the result follow."""
    axes = [each.axes[1] for each in (plan.reads[0], plan.writes[0]) if len(each.axes) > 1]
    return [axis.terms[0][0] for axis in axes if len(axis.terms) == 1]


def l1_tiles(plan: Plan, machine: Machine, l1_budget_bytes: int) -> Iterator[list[Loops]]:
    """L1 tiles whose buffers fit, in batches: a later one is for when no earlier will do.

    First few dimensions are cut at a time and kernels, and the dimension that runs along image
    rows, stay whole; then any two dimensions are cut; then all of them, at last without double
    buffers.
    """
    if not plan.dims:
        return
    fill = _filling_dim(plan)
    options = [
        _sizes(dim, number in plan.reduced, FINE_PARTS if number == fill else COARSE_PARTS, machine)
        for number, dim in enumerate(plan.dims)
    ]
    usual = [dim for dim in _usual_dims(plan) if dim != fill]
    every = [dim for dim in range(len(options)) if dim != fill]
    together = 2 if plan.work.nest.unit is Unit.SYSTOLIC else 1
    for dims, at_most in ((usual, together), (every, 2)):
        # Searches of one op for other places and budgets in L2 ask for the same ones.
        key = (l1_tiles, tuple(dims), at_most, l1_budget_bytes, machine.columns)
        found = plan.memo.get(key)
        if found is None:
            tiles = (
                tile
                for sizes in _cut_together(options, dims, at_most)
                for tile in _filled(plan, sizes, fill, options[fill], l1_budget_bytes)
            )
            found = plan.memo[key] = list(dict.fromkeys(tiles))
        assert isinstance(found, list)
        yield found
    for copies in (DOUBLE_BUFFERED, 1):
        halvings = [loops_of(plan, sizes, copies) for sizes in _halvings(plan)]
        yield [loops for loops in halvings if l1_bytes(plan, loops) <= l1_budget_bytes]


def _halvings(plan: Plan) -> Iterator[Sizes]:
    """Tiles that shrink from whole to the smallest, the longest dimension halved each time."""
    sizes = [dim.size for dim in plan.dims]
    while True:
        yield tuple(sizes)
        divisible = [dim for dim in range(len(sizes)) if plan.dims[dim].splittable]
        longest = max(divisible, key=lambda dim: sizes[dim], default=None)
        if longest is None or sizes[longest] == 1:
            return
        sizes[longest] = -(-sizes[longest] // 2)


def _sizes(dim: Dim, is_reduced: bool, parts: tuple[int, ...], machine: Machine) -> list[int]:
    """Tile sizes of one dimension, from whole downwards: equal parts, in blocks for the arrays."""
    if not dim.splittable:
        return [dim.size]
    grain = machine.columns if dim.role is Role.COLUMN or is_reduced else 1
    sizes = [dim.size]
    for count in parts:
        part = -(-dim.size // count)
        size = min(dim.size, -(-part // grain) * grain)
        if size < sizes[-1]:
            sizes.append(size)
    if sizes[-1] > 1 and grain == 1:
        sizes.append(1)
    return sizes


def _usual_dims(plan: Plan) -> list[int]:
    """What is cut first: not a kernel, and not the last of several rows (an image's width)."""
    rows = _rows(plan)
    kept_whole = {rows[-1]} if len(rows) > 1 else set()
    kernel = {dim for dim in plan.reduced if plan.dims[dim].size < 16}
    return [dim for dim in range(len(plan.dims)) if dim not in kept_whole | kernel]


def _rows(plan: Plan) -> list[int]:
    return [
        number
        for number, dim in enumerate(plan.dims)
        if dim.role in (Role.ROW, Role.POINT) and dim.size > 1 and number in plan.output_dims
    ]


def _filling_dim(plan: Plan) -> int:
    """The dimension whose tile is made as large as L1 allows: image rows where there are some."""
    rows = [dim for dim in _rows(plan) if plan.dims[dim].splittable]
    if not rows:
        candidates = range(len(plan.dims))
        return max(candidates, key=lambda dim: (plan.dims[dim].splittable, plan.dims[dim].size))
    return rows[-2] if len(rows) > 1 else rows[0]


def _cut_together(options: list[list[int]], dims: list[int], at_most: int) -> Iterator[Sizes]:
    """Sizes with up to `at_most` of the dimensions cut, all others whole."""
    whole = tuple(sizes[0] for sizes in options)
    for count in range(at_most + 1):
        for chosen in combinations([dim for dim in dims if len(options[dim]) > 1], count):
            for cut in product(*(options[dim][1:] for dim in chosen)):
                sizes = list(whole)
                for dim, size in zip(chosen, cut, strict=True):
                    sizes[dim] = size
                yield tuple(sizes)


def _filled(
    plan: Plan, sizes: Sizes, fill: int, options: list[int], l1_budget_bytes: int
) -> Iterator[Loops]:
    """The largest sizes of the filling dimension with which the tile fits."""

    def filled(size: int) -> Loops:
        return loops_of(plan, (*sizes[:fill], size, *sizes[fill + 1 :]))

    def fits(size: int) -> bool:
        return l1_bytes(plan, filled(size)) <= l1_budget_bytes

    if not fits(options[-1]):
        return
    # Buffers shrink with the tile, but for the first cut, which calls for second copies.
    low = 0 if fits(options[0]) else bisect_left(options, True, lo=1, key=fits)
    for size in options[low : low + LARGEST_FILLS]:
        if fits(size):
            yield filled(size)


def around(plan: Plan, tiled: Loops) -> list[Loops]:
    """The loops worth timing around one L1 tile: L2 tiles of what is staged, and loop orders."""
    sizes, l1_tile = tiled.sizes, tiled.l1_tile
    staged = {dim for each in (*plan.reads, *plan.writes) if each.staged for dim in each.dims}
    choices = [
        _l2_sizes(whole, tile, dim in staged, dim in plan.reduced)
        for dim, (whole, tile) in enumerate(zip(sizes, l1_tile, strict=True))
    ]
    orders = list(product(orders_of(plan), repeat=2))
    found: dict[Loops, None] = {}
    for l2_tile in product(*choices):
        for l2_order, l1_order in orders:
            loops = replace(
                tiled,
                l2_tile=l2_tile,
                l2_order=tuple([dim for dim in l2_order if l2_tile[dim] < sizes[dim]]),
                l1_order=tuple([dim for dim in l1_order if l1_tile[dim] < l2_tile[dim]]),
            )
            found[loops] = None
    return list(found)


def _l2_sizes(whole: int, tile: int, is_staged: bool, is_reduced: bool) -> list[int]:
    """L2 tiles of one dimension: whole where nothing in DRAM follows it."""
    if not is_staged or tile == whole:
        return [whole]
    several = (1,) if is_reduced else (1, 3)
    return list(dict.fromkeys([*(min(whole, tile * times) for times in several), whole]))


@lru_cache(maxsize=1024)
def orders_of(plan: Plan) -> list[tuple[int, ...]]:
    """Columns outside of rows (weights stay), and rows outside of columns (activations stay);
    reductions always innermost, so that partial sums never leave L1."""
    outputs = [dim for dim in range(len(plan.dims)) if dim not in plan.reduced]

    def sorted_by(first: Role) -> tuple[int, ...]:
        def rank(dim: int) -> int:
            role = plan.dims[dim].role
            return 0 if role is Role.BATCH else 1 if role is first else 2

        return (*sorted(outputs, key=rank), *plan.reduced)

    return list(dict.fromkeys((sorted_by(Role.COLUMN), sorted_by(Role.ROW))))
