"""Tasks played on their resources: the event loop, and what one op comes to."""

from collections.abc import Iterable
from dataclasses import dataclass

from formats.config import KPUConfig
from formats.program import TileConfig
from kpurun.machine import machine_of
from kpurun.sim.tasks import Resource, Task, Tasks, tasks_of
from kpurun.work import Work


@dataclass(frozen=True)
class PlayedOp:
    """One op as it ran, in cycles from its dispatch. All zero and empty for a view.

    tasks: in program order, with their starts and ends. compute_cycles: some array or vector unit
    works. While none does: dma_stall_cycles, the DRAM bus works; mover_stall_cycles, only the block
    mover does. other_cycles: nothing works, the op is dispatched.
    """

    tasks: tuple[Task, ...] = ()
    total_cycles: int = 0
    compute_cycles: int = 0
    dma_stall_cycles: int = 0
    mover_stall_cycles: int = 0
    other_cycles: int = 0


def play(work: Work, tiling: TileConfig | None, config: KPUConfig) -> PlayedOp:
    """One op on its own, from its dispatch to the end of its last command."""
    tasks = tasks_of(work, tiling, config)
    if not tasks.every:
        return PlayedOp()
    _run(tasks, machine_of(config).dispatch_cycles)
    total = max(task.end for task in tasks.every)
    computing = _busy_cycles(tasks.every, (Resource.COMPUTE,))
    or_dma = _busy_cycles(tasks.every, (Resource.COMPUTE, Resource.DMA))
    or_any = _busy_cycles(tasks.every, tuple(Resource))
    return PlayedOp(
        tasks=tuple(tasks.every),
        total_cycles=total,
        compute_cycles=computing,
        dma_stall_cycles=or_dma - computing,
        mover_stall_cycles=or_any - or_dma,
        other_cycles=total - or_any,
    )


def _run(tasks: Tasks, start: int) -> None:
    """Give every task its start and end, none before `start`.

    Of the tasks at the heads of the queues the one that can start first goes next; of two that can
    start together on one resource, the one that was ready first.
    """
    queues = [iter(queue) for queue in tasks.queues.values()]
    heads = [next(queue, None) for queue in queues]
    free = dict.fromkeys(Resource, start)
    while any(head is not None for head in heads):
        _, _, number = min(
            (max(ready, free[head.resource]), ready, number)
            for number, head in enumerate(heads)
            if head is not None and (ready := _ready(head, start)) is not None
        )
        task = heads[number]
        assert task is not None, "only tasks that are ready are chosen"
        task.start = max(_ready(task, start) or 0, free[task.resource])
        task.end = free[task.resource] = task.start + task.length
        heads[number] = next(queues[number], None)


def _ready(task: Task, start: int) -> int | None:
    """When everything that the task waits for has ended; None while that is not known."""
    ready = start
    for other in task.after:
        if other.end < 0:
            return None
        ready = max(ready, other.end)
    return ready


def _busy_cycles(tasks: Iterable[Task], resources: tuple[Resource, ...]) -> int:
    """Cycles in which at least one of the resources works."""
    busy = last = 0
    for start, end in sorted((t.start, t.end) for t in tasks if t.resource in resources):
        busy += max(0, end - max(start, last))
        last = max(last, end)
    return busy
