"""The machine to be stepped through: `KPUSimulator`, as the host's simulator interface asks."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from formats.errors import UsageError
from formats.profile import KPUPerformanceMetrics
from formats.program import KPUProgram, MemoryType
from formats.verify import verify
from kpurun.metrics import live_l2_bytes
from kpurun.sim.play import PlayedOp
from kpurun.sim.power import power_trace
from kpurun.sim.tasks import Resource, Task
from kpurun.sim.timeline import Timeline, simulate, simulated_metrics
from kpurun.sim.traces import MemoryAccess, memory_trace
from kpurun.tiles import Compute, Load
from kpurun.wellformed import require_wellformed

IDLE = "idle"


@dataclass(frozen=True)
class SimulatorState:
    """What the machine does in a cycle.

    op: id of the one that runs, None after the last. step: the L1 tile that was last begun. units:
    by name ("dma", "mover", "compute", "dispatch"), "idle" or what it works on. l1_bytes: tiles in
    L1 that are still needed; l2_bytes: live tensors and staging buffers in L2. commands_done: of
    the whole program.
    """

    cycle: int
    is_complete: bool
    op: str | None
    step: int
    units: dict[str, str]
    l1_bytes: int
    l2_bytes: int
    commands_done: int


class KPUSimulator:
    """Plays one program, cycle by cycle or to its end. Stepping in any stride gives the same.

    Raises FileError for a malformed program, LimitError where it takes more than `max_cycles`.
    """

    def __init__(self, program: KPUProgram, *, max_cycles: int | None = None) -> None:
        verify(program, has_weights=program.weights_blob is not None)
        require_wellformed(program)
        self._timeline = simulate(program, max_cycles)
        self._live_l2 = live_l2_bytes(program)
        self._cycle = 0

    @property
    def timeline(self) -> Timeline:
        """All of it, whatever the cycle."""
        return self._timeline

    @property
    def total_cycles(self) -> int:
        return self._timeline.total_cycles

    def reset(self) -> None:
        """Back to before the first cycle."""
        self._cycle = 0

    def step(self, cycles: int = 1) -> SimulatorState:
        """Go on by so many cycles, at most to the end; UsageError for a negative number."""
        if cycles < 0:
            raise UsageError(f"a simulator steps forward, not by {cycles} cycles")
        self._cycle = min(self._cycle + cycles, self.total_cycles)
        return self.get_state()

    def run_until_complete(self) -> KPUPerformanceMetrics:
        """Go on to the end; the metrics of the whole run."""
        self._cycle = self.total_cycles
        return simulated_metrics(self._timeline)

    def get_state(self) -> SimulatorState:
        """Of the cycle that comes next."""
        timeline, now = self._timeline, self._cycle
        done, running = 0, []
        for index, task in timeline.tasks():
            start, end = timeline.starts[index] + task.start, timeline.starts[index] + task.end
            done += end <= now
            if start <= now < end:
                running.append(task)
        if now >= self.total_cycles:
            units = dict.fromkeys((*_names(), "dispatch"), IDLE)
            return SimulatorState(now, True, None, 0, units, 0, 0, done)
        # the last op that starts by now: those that take no time start where the next one does
        index = bisect_right(timeline.starts, now) - 1
        units = dict.fromkeys((*_names(), "dispatch"), IDLE)
        for task in reversed(running):
            units[task.resource.name.lower()] = _described(task)
        dispatch_cycles = timeline.program.target_config.timing.dispatch_cycles
        for op, start, played in zip(timeline.ops, timeline.starts, timeline.played, strict=True):
            if 0 < start + played.dispatched - now <= dispatch_cycles and played.tasks:
                units["dispatch"] = op.id
        started = [
            task.command.step
            for task in timeline.played[index].tasks
            if task.start + timeline.starts[index] <= now
        ]
        return SimulatorState(
            cycle=now,
            is_complete=False,
            op=timeline.ops[index].id,
            step=max(started, default=0),
            units=units,
            l1_bytes=sum(
                _l1_bytes(played, now - start)
                for played, start in zip(timeline.played, timeline.starts, strict=True)
            ),
            l2_bytes=self._live_l2[index],
            commands_done=done,
        )

    def get_power_trace(self) -> list[tuple[int, float]]:
        """(cycle, watts from then on) up to the present cycle."""
        power = power_trace(self._timeline)
        past = power.starts < self._cycle
        return list(zip(power.starts[past].tolist(), power.watts[past].tolist(), strict=True))

    def get_memory_trace(self) -> list[MemoryAccess]:
        """(cycle, "read" or "write", DRAM address, bytes) of what has begun by now."""
        return [access for access in memory_trace(self._timeline) if access[0] < self._cycle]


def _names() -> Iterator[str]:
    return (resource.name.lower() for resource in Resource)


def _described(task: Task) -> str:
    command = task.command
    if isinstance(command, Compute):
        return f"tile {command.step}"
    verb = "load" if isinstance(command, Load) else "store"
    return f"{verb} {command.tensor_id}, tile {command.step}"


def _l1_bytes(played: PlayedOp, cycle: int) -> int:
    """Tiles that have begun to come and are still to be used, results that are still to leave."""
    last_use: dict[Task, int] = {}
    for task in played.tasks:
        for other in task.after:
            last_use[other] = max(last_use.get(other, 0), task.end)
    held = 0
    for task in played.tasks:
        command = task.command
        if isinstance(command, Compute):
            continue
        if command.target is MemoryType.SRAM_L1:
            is_there = task.start <= cycle < last_use.get(task, task.end)
        elif command.source is MemoryType.SRAM_L1:
            made = [other.start for other in task.after if other.resource is Resource.COMPUTE]
            is_there = max(made, default=task.start) <= cycle < task.end
        else:
            continue
        held += command.transfer.bytes * is_there
    return held
