"""The only cycle arithmetic: what one command costs, and in closed form what a whole op costs.

roofline <= estimate <= what any machine with these resources takes <= all commands one by one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from formats.config import KPUConfig
from formats.profile import Bound
from formats.program import MemoryType, TileConfig
from kpurun.compute import ArrayWork, array_work, compute_cycles
from kpurun.counters import counts
from kpurun.loops import resolve
from kpurun.machine import Machine, machine_of
from kpurun.ops.loopnest import Unit
from kpurun.pipeline import Flow, flow_of
from kpurun.plan import plan_of
from kpurun.tiles import Command, Compute
from kpurun.transfer import dram_cycles, mover_cycles
from kpurun.work import Work


@dataclass(frozen=True)
class OpEstimate:
    """What one op costs. total = compute + memory_stall + other, always.

    dram_*_bytes: payload; dram_burst_bytes: what the bus carries for it, whole bursts. l1_*, l2_*:
    bytes read from and written to that memory by everyone. hits and misses count lines: one that a
    tile needs and L1 still holds, or had to be moved in; from L2, or for the first time from DRAM.
    macs: of arrays and lanes; lane_macs: the lanes' part (a depthwise convolution).
    stream_bytes: operands fed to arrays and lanes. accumulations: partial sums added in L1.
    """

    total_cycles: int = 0
    compute_cycles: int = 0
    memory_stall_cycles: int = 0
    other_cycles: int = 0
    macs: int = 0
    lane_ops: int = 0
    lane_macs: int = 0
    accumulations: int = 0
    steps: int = 0
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    dram_burst_bytes: int = 0
    l2_read_bytes: int = 0
    l2_write_bytes: int = 0
    l1_read_bytes: int = 0
    l1_write_bytes: int = 0
    stream_bytes: int = 0
    l1_hits: int = 0
    l1_misses: int = 0
    l2_hits: int = 0
    l2_misses: int = 0
    dma_cycles: int = 0
    mover_cycles: int = 0
    roofline_cycles: int = 0
    bound_by: Bound = Bound.NONE


def cycles(command: Command, config: KPUConfig) -> int:
    """Cycles for which a command occupies its resource: DRAM bus, block mover, compute tiles."""
    machine = machine_of(config)
    if isinstance(command, Compute):
        return compute_cycles(command.shape, machine)
    if MemoryType.DRAM in (command.source, command.target):
        return dram_cycles(command.transfer, machine)
    return mover_cycles(command.transfer, machine)


def parts(command: Command, config: KPUConfig) -> ArrayWork | None:
    """What a command deals over the arrays; None for one that has its resource to itself."""
    machine = machine_of(config)
    if not isinstance(command, Compute) or command.shape.unit is not Unit.SYSTOLIC:
        return None
    return array_work(command.shape, machine) if machine.overlap_folds else None


def estimate(work: Work, tiling: TileConfig | None, config: KPUConfig) -> OpEstimate:
    """The op's cost alone in closed form; all zero for a view. The tiling must be legal."""
    (found,) = estimate_all([Planned(work, tiling)], config)
    return found


class Planned(NamedTuple):
    """An op of a program. ahead: tensor id -> how many ops before it its first tiles may come."""

    work: Work
    tiling: TileConfig | None
    ahead: Mapping[str, int] = MappingProxyType({})


def estimate_all(ops: Iterable[Planned], config: KPUConfig) -> list[OpEstimate]:
    """Cost of ops one after another, in closed form; of each the cycles that it adds."""
    machine, ops = machine_of(config), list(ops)
    flows = [planned_flow(op, config) for op in ops]
    totals = cycles_in_turn(flows, [op.ahead for op in ops], config)
    return [
        OpEstimate() if flow is None else _costs(op, flow, total, machine)
        for op, flow, total in zip(ops, flows, totals, strict=True)
    ]


def planned_flow(op: Planned, config: KPUConfig) -> Flow | None:
    """The op in the pipeline; None for a view."""
    if op.work.nest.unit is Unit.VIEW:
        return None
    loops = resolve(op.work.nest, op.tiling)
    return flow_of(plan_of(op.work), loops, machine_of(config), ahead=frozenset(op.ahead))


def cycles_in_turn(
    flows: Sequence[Flow | None], ahead: Sequence[Mapping[str, int]], config: KPUConfig
) -> list[int]:
    """Cycles that each of some ops adds when one follows the other.

    While an op runs, the DRAM bus loads ahead for the next ones whenever it has nothing to do for
    this one; what has not come when an op begins, the op waits for.
    """
    dispatch_cycles = machine_of(config).dispatch_cycles
    offered: dict[int, list[tuple[int, int]]] = defaultdict(list)  # by the op that begins them
    for position, flow in enumerate(flows):
        for tensor_id, (cycles, _) in flow.early.items() if flow else ():
            offered[position - ahead[position][tensor_id]].append((position, cycles))
    totals = []
    to_come: dict[int, int] = {}  # position of an op -> cycles of the bus
    for position, flow in enumerate(flows):
        for later, cycles in offered[position]:
            to_come[later] = to_come.get(later, 0) + cycles
        if flow is None:
            totals.append(0)
            continue
        total, late = flow.total_cycles, to_come.pop(position, 0)
        if late:
            not_first = sum(cycles - first for cycles, first in flow.early.values())
            total = max(total, late + flow.late_cycles, late - not_first + total)
        totals.append(dispatch_cycles + total)
        spare = totals[-1] - flow.own_dma_cycles - late
        for later in sorted(to_come):
            done = min(spare, to_come[later])
            spare -= done
            to_come[later] -= done
    return totals


def _costs(op: Planned, flow: Flow, total: int, machine: Machine) -> OpEstimate:
    plan, loops = plan_of(op.work), resolve(op.work.nest, op.tiling)
    return OpEstimate(
        total_cycles=total,
        compute_cycles=flow.compute_cycles,
        memory_stall_cycles=total - machine.dispatch_cycles - flow.compute_cycles,
        other_cycles=machine.dispatch_cycles,
        dma_cycles=flow.dma_cycles,
        mover_cycles=flow.mover_cycles,
        roofline_cycles=plan.roofline_cycles(machine),
        bound_by=_bound(op.work, flow, machine),
        **counts(plan, loops, flow, machine),
    )


def _bound(work: Work, flow: Flow, machine: Machine) -> Bound:
    """The resource that works longest; where two tie, the one nearer to the arrays."""
    compute = Bound.VECTOR if work.nest.unit is Unit.VECTOR else Bound.COMPUTE
    busy = {
        compute: flow.compute_cycles,
        Bound.SRAM: flow.mover_cycles,
        Bound.DRAM: flow.dma_cycles,
        Bound.DISPATCH: machine.dispatch_cycles,
    }
    return max(busy, key=lambda bound: busy[bound])
