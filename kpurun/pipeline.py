"""An op in the double-buffered pipeline: three resources, each doing its commands in turn.

The estimate is what this pipeline cannot beat: the DRAM bus, the block mover and the compute tiles
are each busy for the sum of their commands, nothing computes before the first tile has arrived, and
the last one leaves after everything was computed.
"""

from math import prod
from typing import NamedTuple

from kpurun.compute import Place, array_work, compute_cycles, tile_classes, tile_shape
from kpurun.loops import Loops
from kpurun.machine import Machine
from kpurun.ops.loopnest import Unit
from kpurun.plan import OperandPlan, Plan
from kpurun.traffic import NOTHING, Traffic, l1_traffic, l2_traffic


class Flow(NamedTuple):
    """An op in the pipeline: (L2, L1) traffic of each operand, and how long each resource works."""

    reads: tuple[tuple[Traffic, Traffic], ...]
    writes: tuple[tuple[Traffic, Traffic], ...]
    dma_cycles: int
    mover_cycles: int
    compute_cycles: int
    total_cycles: int  # without dispatch


def flow_of(
    plan: Plan,
    loops: Loops,
    machine: Machine,
    limit: int | None = None,
    ahead: frozenset[str] = frozenset(),
) -> Flow:
    """The resources' work and the shortest time in which they can get through it.

    limit: a search does not need to know by how much an op takes longer than this.
    ahead: ids of reads whose first tiles, one per copy of their buffer, are in L2 when it begins.
    """
    all_reads = tuple(_traffic(operand, loops, machine) for operand in plan.reads)
    writes = tuple(_traffic(operand, loops, machine) for operand in plan.writes)
    dma_in = sum(l2.moved.cycles for l2, _ in all_reads)
    dma_out = sum(l2.moved.cycles for l2, _ in writes)
    mover = sum(l1.moved.cycles for _, l1 in (*all_reads, *writes))
    compute = busy_cycles(plan, loops, machine)
    if loops.copies == 1 and loops.is_split:
        compute = computing(plan, loops, machine).one_by_one
        total = dma_in + dma_out + mover + compute
        return Flow(all_reads, writes, dma_in + dma_out, mover, compute, total)
    early = sum(
        _early_cycles(l2, loops)
        for operand, (l2, _) in zip(plan.reads, all_reads, strict=True)
        if operand.operand.tensor_id in ahead
    )
    reads = tuple(
        (NOTHING if operand.operand.tensor_id in ahead else l2, l1)
        for operand, (l2, l1) in zip(plan.reads, all_reads, strict=True)
    )
    fill, tail = _fill_cycles(reads), _tail_cycles(writes)
    mover_waits = min((l2.first_cycles for l2, l1 in reads if l1.first_cycles), default=0)
    last_store = writes[-1][0].last_cycles if writes[-1][1].last_cycles else 0
    dma_left = dma_in - early
    total = max(fill + compute + tail, mover_waits + mover + last_store, dma_left + dma_out)
    total = max(total, _chained_cycles(plan, loops, machine, reads) + tail)
    if limit is None or total < limit:
        if dma_left:
            late = _after_last_load(plan, loops, machine, tail, last_store)
            total = max(total, dma_left + late, _out_of_turn(plan, loops, machine, reads))
        if dma_out and len(writes) == 1:  # one of several may leave before the others are complete
            before = _before_first_store(plan, loops, machine, fill, mover_waits)
            total = max(total, before + dma_out)
    return Flow(all_reads, writes, dma_in + dma_out, mover, compute, total)


def _early_cycles(l2: Traffic, loops: Loops) -> int:
    """Of the bus, for the tiles that an operand's buffer holds before any is used; at most, as the
    first tile is the largest."""
    return min(l2.moved.cycles, loops.l2_copies * l2.first_cycles)


def _chained_cycles(
    plan: Plan, loops: Loops, machine: Machine, reads: tuple[tuple[Traffic, Traffic], ...]
) -> int:
    """Each tile waits for what it loads, and its buffers for the tile that had them before: as many
    such chains as there are copies, the longest no shorter than the mean."""
    loading = sum(l1.moved.cycles for _, l1 in reads)
    return (computing(plan, loops, machine).one_by_one + loading) // loops.copies


def _traffic(operand: OperandPlan, loops: Loops, machine: Machine) -> tuple[Traffic, Traffic]:
    return l2_traffic(operand, loops, machine), l1_traffic(operand, loops, machine)


def _fill_cycles(reads: tuple[tuple[Traffic, Traffic], ...]) -> int:
    """Until the first tile is in L1: the mover takes what is in L2, then what DMA brings."""
    arrived = moved = 0
    for l2, l1 in sorted(reads, key=lambda each: each[0].first_cycles > 0):
        arrived += l2.first_cycles
        if l1.first_cycles:
            moved = max(moved, arrived if l2.first_cycles else 0) + l1.first_cycles
    return moved


def _tail_cycles(writes: tuple[tuple[Traffic, Traffic], ...]) -> int:
    """After the last Compute: results to L2, and on to DRAM where they live there."""
    moved = gone = 0
    for l2, l1 in writes:
        moved += l1.last_cycles
        gone = max(gone, moved) + l2.last_cycles
    return max(moved, gone)


def _loops_around_staged(operands: tuple[OperandPlan, ...], loops: Loops) -> tuple[int, ...]:
    """The L2 loops down to the innermost that an operand in DRAM follows: while those inside of it
    run, nothing comes from there or goes there."""
    followed = {dim for operand in operands if operand.staged for dim in operand.dims}
    inner = max((at for at, dim in enumerate(loops.l2_order) if dim in followed), default=-1)
    return loops.l2_order[: inner + 1]


def _after_last_load(plan: Plan, loops: Loops, machine: Machine, tail: int, last_store: int) -> int:
    """What is left to do when everything has come from DRAM: to compute the last L2 tile and,
    for the mover, to bring what came last and take away the results that needed it."""
    outer = _loops_around_staged(plan.reads, loops)
    region = loops.region(outer, at=-1)
    late = [each for each in plan.reads if each.staged and each.dims.issuperset(outer[-1:])][-1]
    loads = l1_traffic(late, region, machine)
    stores = [l1_traffic(write, region, machine) for write in plan.writes]
    moved = loads.moved.cycles
    if loads.once.transfers == prod(region.l1_count(dim) for dim in late.dims):
        moved += sum(store.moved.cycles for store in stores)
    elif late.dims <= plan.output_dims and not plan.splits_reduction(region):
        moved += loads.moved.transfers * min(store.least_cycles for store in stores)
    return max(busy_cycles(plan, region, machine) + tail, moved + last_store)


def _out_of_turn(
    plan: Plan, loops: Loops, machine: Machine, reads: tuple[tuple[Traffic, Traffic], ...]
) -> int:
    """How long an op takes at least of which a part alone comes from DRAM (a concatenation).

    Until the first tile of that part is used, no more of them can have come than L2 has copies;
    and what follows the part waits for all of it.
    """
    longest = 0
    for operand, (l2, _) in zip(plan.reads, reads, strict=True):
        if not l2.moved.transfers:
            continue
        waiting = max(0, l2.moved.transfers - loops.l2_copies) * l2.least_cycles
        for axis in operand.axes:
            if len(axis.terms) != 1 or axis.terms[0][1] != 1:
                continue
            ((dim, _),) = axis.terms
            ahead = _moved(plan, loops.before(dim, -axis.offset), machine)
            behind = _moved(plan, loops.after(dim, axis.size - axis.offset), machine)
            longest = max(longest, ahead + waiting, l2.moved.cycles + behind)
    return longest


def _moved(plan: Plan, loops: Loops | None, machine: Machine) -> int:
    """All work of the block mover in a part of the op."""
    if loops is None:
        return 0
    operands = (*plan.reads, *plan.writes)
    return sum(l1_traffic(each, loops, machine).moved.cycles for each in operands)


def _before_first_store(
    plan: Plan, loops: Loops, machine: Machine, fill: int, mover_waits: int
) -> int:
    """What must be done before the first result goes to DRAM: all of the first L2 tile."""
    region = loops.region(_loops_around_staged(plan.writes, loops), at=0)
    moved = _moved(plan, region, machine)
    return max(fill + busy_cycles(plan, region, machine), mover_waits + moved)


def busy_cycles(plan: Plan, loops: Loops, machine: Machine) -> int:
    """To compute all L1 tiles, parts of each on any array as soon as it is free."""
    return computing(plan, loops, machine).together


class Computing(NamedTuple):
    """Of all L1 tiles of some loops: cycles when they follow as closely as can be, and when each
    waits until the one before has ended."""

    together: int
    one_by_one: int


def computing(plan: Plan, loops: Loops, machine: Machine) -> Computing:
    key = (
        machine, loops.starts, loops.sizes, loops.l2_tile, loops.l1_tile, loops.reduction_split,
        loops.copies,
    )  # fmt: skip
    found = plan.memo.get(key)
    if found is None:
        times = [
            (tile_times(plan, sizes, loops, place, machine), count)
            for sizes, place, count in tile_classes(plan, loops)
        ]
        occupied = sum(count * each.occupied_cycles for each, count in times)
        one_by_one = sum(count * each.cycles for each, count in times)
        dense = -(-occupied // machine.tiles) + min(each.tail_cycles for each, _ in times)
        # buffers hold the operands of so many tiles
        together = max(dense, -(-one_by_one // loops.copies))
        found = plan.memo[key] = Computing(together, one_by_one)
    assert isinstance(found, Computing)
    return found


class TileTimes(NamedTuple):
    """Of one L1 tile alone: cycles to its results; cycles of single arrays that it occupies, added
    up; how long its results still take when its array can go on."""

    cycles: int
    occupied_cycles: int
    tail_cycles: int


def tile_times(
    plan: Plan, sizes: tuple[int, ...], loops: Loops, place: Place, machine: Machine
) -> TileTimes:
    """What one L1 tile takes. A vector tile, and any without overlap, occupies everything."""
    key = (machine, sizes, place, loops.reduction_split)
    found = plan.memo.get(key)
    if found is None:
        shape = tile_shape(plan, sizes, loops, place)
        cycles = compute_cycles(shape, machine)
        found = TileTimes(cycles, cycles * machine.tiles, 0)
        if shape.unit is Unit.SYSTOLIC and machine.overlap_folds:
            work = array_work(shape, machine)
            waiting = work.read_cycles * min(work.parts, machine.tiles)
            occupied = work.parts * work.occupied_cycles + waiting
            found = TileTimes(cycles, occupied, work.tail_cycles)
        plan.memo[key] = found
    assert isinstance(found, TileTimes)
    return found
