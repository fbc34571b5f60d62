"""Closed form of an operand's transfers: tile classes times how often the loops visit them.

Along one dimension the tiles of an operand come in a few kinds (clipped at an edge, interior,
rest), and dimensions are independent, so sums over all tiles are sums over products of kinds. How
often a tile is loaded again follows from the loop order alone. The result equals the enumeration in
kpurun.tiles, command for command, at a cost that hardly depends on the number of tiles.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import gcd, prod
from typing import NamedTuple

from kpurun.loops import Loops, cut
from kpurun.machine import Machine
from kpurun.plan import OperandPlan
from kpurun.transfer import Transfer, dram_cycles, mover_cycles

Kind = tuple[tuple[int, int], ...]  # per axis: length, length of the container
Component = tuple[tuple[int, ...], tuple[int, ...]]  # axes that share dimensions, and those


class Sums(NamedTuple):
    """Totals over transfers; `blocks` are lines moved (L1 level) or bursts (L2 level)."""

    transfers: int = 0
    cycles: int = 0
    bytes: int = 0
    blocks: int = 0

    def times(self, count: int) -> "Sums":
        return Sums(*[count * each for each in self])

    def plus(self, other: "Sums") -> "Sums":
        return Sums(*[mine + yours for mine, yours in zip(self, other, strict=True)])


class Traffic(NamedTuple):
    """An operand's transfers at one level: what moves, what each tile once would be, and the
    cycles of the first, the last and the shortest transfer."""

    moved: Sums
    once: Sums
    first_cycles: int
    last_cycles: int
    least_cycles: int


class Along(NamedTuple):
    """An operand's tiles along axes that share dimensions.

    kinds: how many tiles have which lengths, apart for which of the dimensions change their L1 tile
    inside the L2 tile. granules: per axis, what every start is a multiple of (0: always 0).
    """

    kinds: dict[frozenset[int], dict[Kind, int]]
    granules: tuple[int, ...]
    first: Kind
    last: Kind


class OnePass(NamedTuple):
    """Each tile of an operand once, in parts: (dimensions whose L1 tile changes inside the L2 tile,
    sums); with the cycles of the first, the last and the shortest transfer."""

    parts: tuple[tuple[frozenset[int], Sums], ...]
    first_cycles: int
    last_cycles: int
    least_cycles: int


NOTHING = Traffic(Sums(), Sums(), 0, 0, 0)


def l1_traffic(operand: OperandPlan, loops: Loops, machine: Machine) -> Traffic:
    """Between L2 and L1: a read's tile is loaded when the loops change it, a result's is stored
    when they leave it."""
    one_pass = _one_pass(operand, loops, machine, staging=False)
    moved, once = Sums(), Sums()
    for changing, sums in one_pass.parts:
        once = once.plus(sums)
        moved = moved.plus(sums.times(_visits(operand, loops, changing)))
    return Traffic(moved, once, *one_pass[1:])


def l2_traffic(operand: OperandPlan, loops: Loops, machine: Machine) -> Traffic:
    """Between DRAM and L2; nothing for an operand that lives in L2."""
    if not operand.staged:
        return NOTHING
    one_pass = _one_pass(operand, loops, machine, staging=True)
    ((_, once),) = one_pass.parts
    moved = once.times(_visits(operand, loops, frozenset()))
    return Traffic(moved, once, *one_pass[1:])


def granules_of(operand: OperandPlan, loops: Loops, staging: bool) -> tuple[int, ...]:
    """Per axis, what the start of every tile in its container is a multiple of; 0: always 0."""
    along = [_along(operand, loops, component, staging) for component in operand.components]
    return _granules(operand, along)


def _granules(operand: OperandPlan, along: Sequence[Along]) -> tuple[int, ...]:
    granules = [0] * len(operand.axes)
    for (axes, _), each in zip(operand.components, along, strict=True):
        for axis, granule in zip(axes, each.granules, strict=True):
            granules[axis] = granule
    return tuple(granules)


def _visits(operand: OperandPlan, loops: Loops, changing: frozenset[int]) -> int:
    """How often the loops come to each tile anew.

    An operand stays while loops that it does not follow run inside the innermost loop that changes
    its tile, and comes again for every round of those outside of it.
    """
    for position in range(len(loops.l1_order) - 1, -1, -1):
        if loops.l1_order[position] in changing:
            outside = loops.l1_order[:position]
            return prod(
                loops.l1_count(dim) if dim in outside else loops.l2_count(dim)
                for dim in {*loops.l2_order, *outside}
                if dim not in operand.dims
            )
    for position in range(len(loops.l2_order) - 1, -1, -1):
        if loops.l2_order[position] in operand.dims:
            outside = loops.l2_order[:position]
            return prod(loops.l2_count(dim) for dim in outside if dim not in operand.dims)
    return 1


def _one_pass(operand: OperandPlan, loops: Loops, machine: Machine, staging: bool) -> OnePass:
    """staging: the L2 tiles between DRAM and L2; else the L1 tiles between L2 and L1."""
    key = (machine, *_cuts(loops, operand.dims, staging))
    found = operand.memo.get(key)
    if found is None:
        found = operand.memo[key] = _new_pass(operand, loops, machine, staging)
    assert isinstance(found, OnePass)
    return found


def _cuts(loops: Loops, dims: Sequence[int] | frozenset[int], staging: bool) -> tuple[int, ...]:
    """What an operand's pieces along these dimensions depend on."""
    tiles = [loops.l2_tile] if staging else [loops.l2_tile, loops.l1_tile]
    values = (loops.starts, loops.sizes, *tiles)
    return (staging, *[value[dim] for value in values for dim in dims])


def _new_pass(operand: OperandPlan, loops: Loops, machine: Machine, staging: bool) -> OnePass:
    along = [_along(operand, loops, component, staging) for component in operand.components]
    granules = _granules(operand, along)
    block_bytes = machine.burst_bytes if staging else machine.line_bytes
    cost = dram_cycles if staging else mover_cycles

    def cycles_of(kinds: list[Kind]) -> int:
        transfer = _transfer(operand, kinds, granules)
        return cost(transfer, machine) if transfer else 0

    parts = []
    least_cycles = 0
    for picked in product(*(each.kinds.items() for each in along)):
        sums = Sums()
        for combination in product(*(kinds.items() for _, kinds in picked)):
            transfer = _transfer(operand, [kind for kind, _ in combination], granules)
            if transfer is None:
                continue
            count = prod([times for _, times in combination])
            cycles = cost(transfer, machine)
            blocks = transfer.blocks(block_bytes)
            sums = sums.plus(Sums(1, cycles, transfer.bytes, blocks).times(count))
            least_cycles = min(least_cycles or cycles, cycles)
        parts.append((frozenset[int]().union(*(dims for dims, _ in picked)), sums))
    first = cycles_of([each.first for each in along])
    last = cycles_of([each.last for each in along])
    return OnePass(tuple(parts), first, last, least_cycles)


def _transfer(
    operand: OperandPlan, kinds: Sequence[Kind], granules: tuple[int, ...]
) -> Transfer | None:
    """How a piece of one kind per component moves; None for an empty one."""
    lengths, containers = [0] * len(operand.axes), [0] * len(operand.axes)
    for (axes, _), kind in zip(operand.components, kinds, strict=True):
        for axis, (length, whole) in zip(axes, kind, strict=True):
            lengths[axis], containers[axis] = length, whole
    return operand.transfer(lengths, containers, granules)


def _along(operand: OperandPlan, loops: Loops, component: Component, staging: bool) -> Along:
    key = (component, *_cuts(loops, component[1], staging))
    found = operand.memo.get(key)
    if found is None:
        found = operand.memo[key] = _new_along(operand, loops, component, staging)
    assert isinstance(found, Along)
    return found


def _new_along(operand: OperandPlan, loops: Loops, component: Component, staging: bool) -> Along:
    axes, _ = component
    kinds: dict[frozenset[int], dict[Kind, int]] = {}
    granules = [0] * len(axes)
    first: Kind | None = None
    kind: Kind = ()
    for changing, starts, kind in _pieces(operand, loops, component, staging):
        group = kinds.setdefault(changing, {})
        group[kind] = group.get(kind, 0) + 1
        granules = [gcd(granule, start) for granule, start in zip(granules, starts, strict=True)]
        first = first or kind
    return Along(kinds, tuple(granules), first or kind, kind)


def _pieces(
    operand: OperandPlan, loops: Loops, component: Component, staging: bool
) -> Iterator[tuple[frozenset[int], list[int], Kind]]:
    """What each combination of the dimensions' tiles touches along the component's axes: (which
    dimensions change inside the L2 tile, starts in the container, lengths).

    The container is the whole tensor (of a box, that which it is a part of), or the L2 tile of an
    operand that is staged there.
    """
    axes, dims = component
    starts, sizes = list(loops.starts), list(loops.sizes)
    l2_starts, l2_sizes = starts.copy(), sizes.copy()
    in_l2_tile = operand.staged and not staging
    for picked in product(*(_tiles(loops, dim, staging) for dim in dims)):
        for dim, (_, l2_tile, tile) in zip(dims, picked, strict=True):
            l2_starts[dim], l2_sizes[dim] = l2_tile
            starts[dim], sizes[dim] = tile
        lows, kind = [], []
        for axis in axes:
            low, high = operand.span(axis, starts, sizes)
            first, end = -operand.starts[axis], operand.container[axis] - operand.starts[axis]
            if in_l2_tile:
                first, end = operand.span(axis, l2_starts, l2_sizes)
            lows.append(low - first)
            kind.append((high - low, end - first))
        changing = [dim for dim, (changes, _, _) in zip(dims, picked, strict=True) if changes]
        yield frozenset(changing), lows, tuple(kind)


Range = tuple[int, int]  # (start, size)


def _tiles(loops: Loops, dim: int, staging: bool) -> list[tuple[bool, Range, Range]]:
    """(whether it is one of several in its L2 tile, L2 tile, tile) along one dimension; when
    staging, the tiles are the L2 tiles."""
    l2_tiles = loops.l2_cuts(dim)
    if staging:
        return [(False, l2_tile, l2_tile) for l2_tile in l2_tiles]
    l1_size = loops.l1_tile[dim]
    return [
        (l1_size < l2_tile[1], l2_tile, tile)
        for l2_tile in l2_tiles
        for tile in cut(*l2_tile, l1_size)
    ]
