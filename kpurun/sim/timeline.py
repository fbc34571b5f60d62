"""A whole program played: its ops one after another, every command with its cycles."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from formats.errors import LimitError
from formats.profile import KPUPerformanceMetrics
from formats.program import KPUOp, KPUProgram
from kpurun.metrics import estimates, summarize
from kpurun.sim.interlocks import Interlocks
from kpurun.sim.play import PlayedOp, play_all
from kpurun.sim.tasks import Task, tasks_of
from kpurun.timing import OpEstimate
from kpurun.work import work_of


@dataclass(frozen=True)
class Timeline:
    """starts: cycle in which each op is dispatched; ops are those of the program in order."""

    program: KPUProgram
    ops: tuple[KPUOp, ...]
    played: tuple[PlayedOp, ...]
    costs: tuple[OpEstimate, ...]  # what each op moves and does, in the cycles that it took
    starts: tuple[int, ...]

    @property
    def total_cycles(self) -> int:
        return self.starts[-1] + self.played[-1].total_cycles if self.ops else 0

    def tasks(self) -> Iterator[tuple[int, Task]]:
        """(index of the op, task) of every command; op by op, in program order."""
        for index, played in enumerate(self.played):
            for task in played.tasks:
                yield index, task


def simulate(program: KPUProgram, max_cycles: int | None = None) -> Timeline:
    """The program on its own machine. LimitError where it takes more than `max_cycles`."""
    ops = tuple(program.get_ops_in_order())
    played = play_all(_tasks(program, ops), program.target_config)
    ends = list(accumulate(each.total_cycles for each in played))
    for op, end in zip(ops, ends, strict=True):
        if max_cycles is not None and end > max_cycles:
            raise LimitError(f"op {op.name or op.id} ends in cycle {end:,}, beyond {max_cycles:,}")
    alone = estimates(program)
    costs = [_as_played(alone[op.id], each) for op, each in zip(ops, played, strict=True)]
    starts = [0, *ends][: len(ops)]
    return Timeline(program, ops, tuple(played), tuple(costs), tuple(starts))


def _tasks(program: KPUProgram, ops: Sequence[KPUOp]) -> Iterator[list[Task]]:
    interlocks = Interlocks(program)
    for op in ops:
        work = work_of(program, op)
        tasks = tasks_of(work, op.tiling, program.target_config)
        interlocks.add(op, work, tasks)
        yield tasks


def _as_played(estimate: OpEstimate, played: PlayedOp) -> OpEstimate:
    """The same work in the cycles that it took."""
    return replace(
        estimate,
        total_cycles=played.total_cycles,
        compute_cycles=played.compute_cycles,
        memory_stall_cycles=played.dma_stall_cycles + played.mover_stall_cycles,
        other_cycles=played.other_cycles,
        working_cycles=played.working_cycles,
    )


def simulated_metrics(timeline: Timeline) -> KPUPerformanceMetrics:
    """Every metric of the run. The per-op table says beside it why nothing computed:
    `dma_stall_cycles` and `mover_stall_cycles`, together the memory stalls."""
    costs = {op.id: cost for op, cost in zip(timeline.ops, timeline.costs, strict=True)}
    metrics = summarize(timeline.program, costs)
    for op, played in zip(timeline.ops, timeline.played, strict=True):
        metrics.op_metrics[op.id] |= {
            "dma_stall_cycles": float(played.dma_stall_cycles),
            "mover_stall_cycles": float(played.mover_stall_cycles),
        }
    return metrics
