"""An op in the double-buffered pipeline: three resources, each doing its commands in turn.

The estimate is what this pipeline cannot beat: the DRAM bus, the block mover and the compute tiles
are each busy for the sum of their commands, nothing computes before the first tile has arrived, and
the last one leaves after everything was computed.
"""

from math import prod
from typing import NamedTuple

from kpurun.compute import Place, compute_cycles, tile_classes, tile_shape
from kpurun.loops import Loops
from kpurun.machine import Machine
from kpurun.plan import OperandPlan, Plan
from kpurun.traffic import Traffic, l1_traffic, l2_traffic


class Flow(NamedTuple):
    """An op in the pipeline: (L2, L1) traffic of each operand, and how long each resource works."""

    reads: tuple[tuple[Traffic, Traffic], ...]
    writes: tuple[tuple[Traffic, Traffic], ...]
    dma_cycles: int
    mover_cycles: int
    compute_cycles: int
    total_cycles: int  # without dispatch


def flow_of(plan: Plan, loops: Loops, machine: Machine) -> Flow:
    """The resources' work and the shortest time in which they can get through it."""
    reads = tuple(_traffic(operand, loops, machine) for operand in plan.reads)
    writes = tuple(_traffic(operand, loops, machine) for operand in plan.writes)
    dma_in = sum(l2.moved.cycles for l2, _ in reads)
    dma_out = sum(l2.moved.cycles for l2, _ in writes)
    mover = sum(l1.moved.cycles for _, l1 in (*reads, *writes))
    compute = busy_cycles(plan, loops, machine)
    if loops.copies == 1 and loops.is_split:
        total = dma_in + dma_out + mover + compute
        return Flow(reads, writes, dma_in + dma_out, mover, compute, total)
    fill, tail = _fill_cycles(reads), _tail_cycles(writes)
    mover_waits = min((l2.first_cycles for l2, l1 in reads if l1.first_cycles), default=0)
    last_store = writes[-1][0].last_cycles if writes[-1][1].last_cycles else 0
    bounds = [
        fill + compute + tail,
        mover_waits + mover + last_store,
        dma_in + dma_out,
    ]
    if dma_in:
        outer = _loops_around_staged(plan.reads, loops)
        region = loops.region(outer, at=-1)
        late = [each for each in plan.reads if each.staged and each.dims.issuperset(outer[-1:])]
        after_last_load = max(
            busy_cycles(plan, region, machine) + tail,
            _moved_after(late[-1], plan, region, machine) + last_store,
        )
        bounds.append(dma_in + after_last_load)
    if dma_out and len(writes) == 1:  # one of several may leave before the others are complete
        region = loops.region(_loops_around_staged(plan.writes, loops), at=0)
        moving = (l1_traffic(each, region, machine) for each in (*plan.reads, *plan.writes))
        before_first_store = max(
            fill + busy_cycles(plan, region, machine),
            mover_waits + sum(each.moved.cycles for each in moving),
        )
        bounds.append(before_first_store + dma_out)
    return Flow(reads, writes, dma_in + dma_out, mover, compute, max(bounds))


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


def _moved_after(late: OperandPlan, plan: Plan, region: Loops, machine: Machine) -> int:
    """What the block mover has left to do when the last operand has come from DRAM: to bring its
    tiles of the last region, and to take away the results of the tiles that needed it."""
    loads = l1_traffic(late, region, machine)
    stores = [l1_traffic(write, region, machine) for write in plan.writes]
    if loads.once.transfers == prod(region.l1_count(dim) for dim in late.dims):
        return loads.moved.cycles + sum(store.moved.cycles for store in stores)
    if late.dims <= plan.output_dims and not plan.splits_reduction(region):
        shortest = min(store.least_cycles for store in stores)
        return loads.moved.cycles + loads.moved.transfers * shortest
    return loads.moved.cycles


def busy_cycles(plan: Plan, loops: Loops, machine: Machine) -> int:
    """Compute cycles of all L1 tiles."""
    key = (machine, loops.starts, loops.sizes, loops.l2_tile, loops.l1_tile, loops.reduction_split)
    found = plan.memo.get(key)
    if found is None:
        found = plan.memo[key] = sum(
            count * tile_cycles(plan, sizes, loops, place, machine)
            for sizes, place, count in tile_classes(plan, loops)
        )
    assert isinstance(found, int)
    return found


def tile_cycles(
    plan: Plan, sizes: tuple[int, ...], loops: Loops, place: Place, machine: Machine
) -> int:
    """Compute cycles of one L1 tile."""
    key = (machine, sizes, place, loops.reduction_split)
    found = plan.memo.get(key)
    if found is None:
        shape = tile_shape(plan, sizes, loops, place)
        found = plan.memo[key] = compute_cycles(shape, machine)
    assert isinstance(found, int)
    return found
