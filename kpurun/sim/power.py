"""Where the energy of a timeline goes in time: watts that are constant between commands.

Every command takes the energy of what it moves and does evenly over its cycles; idle power runs all
the time. The trace therefore integrates to the energy of the per-op table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from formats.config import KPUConfig
from formats.program import MemoryType
from kpurun.energy import energy_pj
from kpurun.machine import machine_of
from kpurun.sim.play import PlayedOp
from kpurun.sim.tasks import Resource, Task
from kpurun.sim.timeline import Timeline
from kpurun.tiles import Compute, Load


@dataclass(frozen=True)
class PowerTrace:
    """starts: int64 cycles at which power changes; watts: float64, from there to the next start, at
    the end to `total_cycles`."""

    starts: np.ndarray
    watts: np.ndarray
    total_cycles: int

    @property
    def cycles(self) -> np.ndarray:
        """For how long each value lasts."""
        return np.diff(self.starts, append=self.total_cycles)

    def energy_uj(self, clock_mhz: float) -> float:
        """What the trace integrates to."""
        return float(self.watts @ self.cycles) / clock_mhz

    def windows_over(self, watts: float) -> list[tuple[int, int, float]]:
        """(first cycle, end, highest watts) of every stretch of cycles above a power."""
        found: list[tuple[int, int, float]] = []
        ends = self.starts + self.cycles
        for index in np.flatnonzero(self.watts > watts).tolist():
            start, end, high = int(self.starts[index]), int(ends[index]), float(self.watts[index])
            if found and found[-1][1] == start:
                first, _, highest = found.pop()
                start, high = first, max(high, highest)
            found.append((start, end, high))
        return found


def power_trace(timeline: Timeline) -> PowerTrace:
    """The power of every cycle of a timeline."""
    config = timeline.program.target_config
    total = timeline.total_cycles
    spans = [span for index in range(len(timeline.ops)) for span in _spans(timeline, index)]
    idle = config.compute.idle_watts
    if not spans:
        return PowerTrace(np.zeros(int(total > 0), np.int64), np.full(int(total > 0), idle), total)
    begins, ends, energies = (np.array(column) for column in zip(*spans, strict=True))
    watts = energies / (ends - begins) * config.compute.clock_mhz * 1e-6
    starts, places = np.unique(np.concatenate([[0], begins, ends]), return_inverse=True)
    changes = np.zeros(len(starts))
    np.add.at(changes, places[1:], np.concatenate([watts, -watts]))
    dynamic = np.maximum(np.cumsum(changes), 0.0)  # sums of floats may end a hair below zero
    is_within = starts < total
    return PowerTrace(starts[is_within].astype(np.int64), (dynamic + idle)[is_within], total)


def _spans(timeline: Timeline, index: int) -> Iterator[tuple[int, int, float]]:
    """(start, end, pJ) of an op's dispatch and of its commands, idle power left out."""
    op, played, cost = timeline.ops[index], timeline.played[index], timeline.costs[index]
    if not played.tasks:
        return
    program, start = timeline.program, timeline.starts[index]
    energy = energy_pj(cost, program.target_config, op.precision or program.precision)
    by_task = [_transfer_pj(task, program.target_config) for task in played.tasks]
    load_pj = program.target_config.energy.program_load_pj
    rest = energy.total_pj - energy.static_pj - load_pj - sum(by_task)
    shares = _shares(played)
    dispatch_cycles = machine_of(program.target_config).dispatch_cycles
    if not dispatch_cycles:
        load_pj, rest = 0.0, load_pj + rest
    elif not sum(shares):
        load_pj, rest = load_pj + rest, 0.0
    dispatched = start + played.dispatched
    if dispatch_cycles:
        yield dispatched - dispatch_cycles, dispatched, load_pj
    whole = sum(shares) or 1
    for task, pj, share in zip(played.tasks, by_task, shares, strict=True):
        if task.length:
            yield start + task.start, start + task.end, pj + rest * share / whole


def _transfer_pj(task: Task, config: KPUConfig) -> float:
    """What a load or store reads at one end and writes at the other."""
    command, energy = task.command, config.energy
    if isinstance(command, Compute):
        return 0.0
    moved = command.transfer.bytes
    l2_pj = moved * energy.l2_pj_per_byte
    if task.resource is Resource.DMA:
        burst_bytes = machine_of(config).burst_bytes
        return l2_pj + command.transfer.blocks(burst_bytes) * burst_bytes * energy.dram_pj_per_byte
    is_load = isinstance(command, Load)
    return l2_pj + moved * (energy.l1_write_pj_per_byte if is_load else energy.l1_read_pj_per_byte)


def _shares(played: PlayedOp) -> list[int]:
    """How the energy of computing is shared: by points of the loop nest, of a move by what leaves
    L1; nothing for commands that take no time."""
    computes = any(isinstance(task.command, Compute) and task.length for task in played.tasks)
    shares = []
    for task in played.tasks:
        command = task.command
        if isinstance(command, Compute):
            shares.append(prod(command.sizes) if task.length else 0)
        elif not computes and command.source is MemoryType.SRAM_L1:
            shares.append(command.transfer.bytes)
        else:
            shares.append(0)
    return shares
