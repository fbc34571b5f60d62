"""The only cycle arithmetic: what one command costs, and in closed form what a whole op costs.

roofline <= estimate <= what any machine with these resources takes <= all commands one by one.
"""

from dataclasses import dataclass

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
    working_cycles: in which arrays or lanes work for the op, beside others too.
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
    working_cycles: int = 0
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
    if work.nest.unit is Unit.VIEW:
        return OpEstimate()
    machine, plan, loops = machine_of(config), plan_of(work), resolve(work.nest, tiling)
    flow = flow_of(plan, loops, machine)
    total = machine.dispatch_cycles + flow.total_cycles
    return OpEstimate(
        total_cycles=total,
        compute_cycles=flow.compute_cycles,
        memory_stall_cycles=flow.total_cycles - flow.compute_cycles,
        other_cycles=machine.dispatch_cycles,
        dma_cycles=flow.dma_cycles,
        mover_cycles=flow.mover_cycles,
        roofline_cycles=plan.roofline_cycles(machine),
        working_cycles=flow.compute_cycles,
        bound_by=_bound(work, flow, machine),
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
