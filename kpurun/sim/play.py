"""Tasks played on their resources: the event loop, and what one op comes to.

Ops follow one another: one is dispatched when the one before has ended. Only the DRAM bus may be
ahead, with tiles of weights that the program wants in L2 before their op begins.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from formats.config import KPUConfig
from formats.program import TileConfig
from kpurun.machine import machine_of
from kpurun.sim.tasks import Resource, Task, Tasks, tasks_of
from kpurun.sim.units import Arrays, Bus, Unit
from kpurun.work import Work


@dataclass(frozen=True)
class PlayedOp:
    """One op as it ran, in cycles from its dispatch. All zero and empty for a view.

    tasks: in program order, with their starts and ends; what was loaded ahead starts below zero.
    compute_cycles: some array or vector unit works. While none does: dma_stall_cycles, the DRAM bus
    works for the op; mover_stall_cycles, only the block mover does. other_cycles: nothing works for
    the op, it is dispatched.
    """

    tasks: tuple[Task, ...] = ()
    total_cycles: int = 0
    compute_cycles: int = 0
    dma_stall_cycles: int = 0
    mover_stall_cycles: int = 0
    other_cycles: int = 0


def play(work: Work, tiling: TileConfig | None, config: KPUConfig) -> PlayedOp:
    """One op on its own, from its dispatch to the end of its last command."""
    (played,) = play_all([tasks_of(work, tiling, config)], config)
    return played


def play_all(
    ops: Iterable[Tasks], config: KPUConfig, most_ops_ahead: int = 0
) -> Iterator[PlayedOp]:
    """Ops one after another; each as soon as it has ended.

    most_ops_ahead: of any load, so that no more ops than needed are held at a time.
    """
    player, ops = _Player(config), iter(ops)
    coming = deque(islice(ops, most_ops_ahead + 1))
    while coming:
        played = player.run(coming.popleft(), coming)
        coming.extend(islice(ops, 1))
        yield played


class _Player:
    """The machine between ops: which op it is at, and what its resources have done."""

    def __init__(self, config: KPUConfig) -> None:
        machine = machine_of(config)
        self._dispatch_cycles = machine.dispatch_cycles
        self._bus = Bus()
        self._units = {
            Resource.DMA: self._bus,
            Resource.MOVER: Unit(),
            Resource.COMPUTE: Arrays(machine.tiles),
        }
        self._position = 0
        self._now = 0

    def run(self, tasks: Tasks, coming: Iterable[Tasks]) -> PlayedOp:
        """Play an op, and meanwhile load ahead for the coming ones."""
        start, position = self._now, self._position
        self._offer(tasks, position, position)
        for place, later in enumerate(coming, position + 1):
            self._offer(later, place, position)
        self._position += 1
        if not tasks.every:
            return PlayedOp()
        self._bus.claim(position)
        self._run(tasks, start)
        self._now = max(task.end for task in tasks.every)
        self._bus.idle_until(self._now)
        return _summary(tasks, start, self._now)

    def _offer(self, tasks: Tasks, place: int, position: int) -> None:
        """Of the op at a place, the loads whose time comes with the op at a position."""
        for task in tasks.ahead:
            if place - task.ahead == position:
                self._bus.offer(place, task)

    def _run(self, tasks: Tasks, start: int) -> None:
        """Give every task its start and end.

        Of the tasks at the heads of the queues the one that can start first goes next; of two that
        can start together, the one that was ready first.
        """
        begin = start + self._dispatch_cycles
        queues = [(task for task in queue if task.end < 0) for queue in tasks.queues.values()]
        heads = [next(queue, None) for queue in queues]
        while any(head is not None for head in heads):
            _, ready, number = min(
                (max(ready, self._units[head.resource].free(head)), ready, number)
                for number, head in enumerate(heads)
                if head is not None
                and (ready := _ready(head, start if head.ahead else begin)) is not None
            )
            task = heads[number]
            assert task is not None, "only tasks that are ready are chosen"
            self._units[task.resource].run(task, ready)
            heads[number] = next(queues[number], None)


def _ready(task: Task, gate: int) -> int | None:
    """When everything that the task waits for has ended; None while that is not known."""
    ready = gate
    for other in task.after:
        if other.end < 0:
            return None
        ready = max(ready, other.end)
    return ready


def _summary(tasks: Tasks, start: int, end: int) -> PlayedOp:
    """The op in its own cycles."""
    for task in tasks.every:
        task.start -= start
        task.resumed -= start
        task.end -= start
    total = end - start
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


def _busy_cycles(tasks: Iterable[Task], resources: tuple[Resource, ...]) -> int:
    """Cycles since the op's dispatch in which at least one of the resources works for it."""
    busy = last = 0
    spans = ((max(t.start, t.resumed), t.end) for t in tasks if t.resource in resources)
    for start, end in sorted(spans):
        busy += max(0, end - max(start, last))
        last = max(last, end)
    return busy
