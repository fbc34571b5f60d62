"""Tasks played on their resources: the event loop, and what one op comes to.

Ops are dispatched in order, each while those before it still run. What a task must wait for it
knows (`tasks`, `interlocks`); of those that can start, one of the first op goes first.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from formats.config import KPUConfig
from formats.program import TileConfig
from kpurun.machine import machine_of
from kpurun.sim.spans import Spans
from kpurun.sim.tasks import Queue, Resource, Task, tasks_of
from kpurun.sim.units import Arrays, Lanes, Unit
from kpurun.work import Work


@dataclass(frozen=True)
class PlayedOp:
    """One op as it ran. All zero and empty for a view.

    total_cycles: by how much later the program ends, so far, than before the op; the others are
    shares of these cycles. compute_cycles: some array or vector unit works, for whichever op. While
    none does: dma_stall_cycles, the DRAM bus works; mover_stall_cycles, only the block mover does.
    other_cycles: nothing works, an op is dispatched.
    tasks: in program order, with starts and ends counted from where the op's cycles begin; what
    begins earlier, beside the ops before, starts below zero. dispatched: when it could begin.
    working_cycles: in which arrays or lanes work for the op, in its own cycles or before.
    """

    tasks: tuple[Task, ...] = ()
    total_cycles: int = 0
    compute_cycles: int = 0
    dma_stall_cycles: int = 0
    mover_stall_cycles: int = 0
    other_cycles: int = 0
    dispatched: int = 0
    working_cycles: int = 0


def play(work: Work, tiling: TileConfig | None, config: KPUConfig) -> PlayedOp:
    """One op on its own, from its dispatch to the end of its last command."""
    (played,) = play_all([tasks_of(work, tiling, config)], config)
    return played


def play_all(ops: Iterable[list[Task]], config: KPUConfig) -> list[PlayedOp]:
    """Ops in their order, each dispatched as soon as there is room for it."""
    player = _Player(config)
    given = []
    for position, tasks in enumerate(ops):
        for task in tasks:
            task.order = (position, task.order[1])
        given.append(tasks)
        if tasks:
            player.dispatch(tasks)
    player.finish()
    return player.summaries(given)


class _Waiting:
    """One of an op's queues, in front of the unit that works on it."""

    def __init__(self, unit: Unit, begin: int, tasks: deque[Task]) -> None:
        self.unit = unit
        self.tasks = tasks
        self._begin = begin
        self._ended = begin  # what the first task waits for, as far as it was looked at
        self._on_lanes: list[Task] = []  # of that, what may still take longer

    def blocker(self) -> Task | None:
        """Something that the first task waits for and that has still to be played."""
        after = self.tasks[0].after
        while after:
            other = after[-1]
            if other.end < 0:
                return other
            after.pop()
            if other.queue is Queue.LANES:
                self._on_lanes.append(other)
            else:
                self._ended = max(self._ended, other.end)
        return None

    def ready(self) -> int:
        """When everything that the first task waits for has ended; nothing blocks it."""
        if not self._on_lanes:
            return self._ended
        return max(self._ended, *(other.end for other in self._on_lanes))

    def next(self) -> bool:
        """Go on to the task behind the first; whether there is one."""
        self.tasks.popleft()
        self._ended = self._begin
        self._on_lanes = []
        return bool(self.tasks)


class _Player:
    """The machine: what is in flight, and what its resources have done."""

    def __init__(self, config: KPUConfig) -> None:
        machine = machine_of(config)
        self._dispatch_cycles = machine.dispatch_cycles
        self._ops_in_flight = config.timing.ops_in_flight
        bus, mover, lanes = Unit(), Unit(), Lanes(machine.tiles)
        arrays = Arrays(machine.tiles, lanes)
        self._units: dict[Queue, Unit] = {
            Queue.DMA_WEIGHTS: bus,
            Queue.DMA_LOADS: bus,
            Queue.DMA_STORES: bus,
            Queue.MOVER_WEIGHTS: mover,
            Queue.MOVER_LOADS: mover,
            Queue.MOVER_STORES: mover,
            Queue.ARRAYS: arrays,
            Queue.LANES: lanes,
        }
        self._ready: list[_Waiting] = []
        self._blocked: dict[Task, list[_Waiting]] = defaultdict(list)  # by what they wait for
        self._now = 0  # when the last task that was chosen could start
        self._in_flight: deque[list[Task]] = deque()
        self._dispatched = 0  # when the last op was
        self._begins: dict[int, int] = {}  # by position: when an op's commands could begin
        self._left: dict[int, int] = {}  # by position: how many of them have not been played

    def dispatch(self, tasks: list[Task]) -> None:
        """Once the op that is so many before has ended, an op's commands enter their queues."""
        if len(self._in_flight) == self._ops_in_flight:
            oldest = self._in_flight.popleft()
            while self._left[oldest[0].order[0]]:
                self._advance()
            self._dispatched = max(self._dispatched, *(task.end for task in oldest))
        self._dispatched += self._dispatch_cycles
        position = tasks[0].order[0]
        self._begins[position] = self._dispatched
        self._left[position] = len(tasks)
        self._in_flight.append(tasks)
        queues: dict[Queue, deque[Task]] = defaultdict(deque)
        for task in tasks:
            queues[task.queue].append(task)
        for queue, waiting in queues.items():
            self._queue(_Waiting(self._units[queue], self._dispatched, waiting))

    def finish(self) -> None:
        """Play everything that is still to be done."""
        while self._ready:
            self._advance()
        assert not self._blocked, "tasks wait for one another"

    def _advance(self) -> None:
        """Of the tasks that wait for nothing but their unit, let the one work that can start first;
        of those that could have started by now, one of the first op, the one that was ready first.
        """
        now, chosen = min(((self._start(each), each) for each in self._ready), key=_when_and_which)
        self._now = now
        self._ready.remove(chosen)
        task = chosen.tasks[0]
        chosen.unit.run(task, chosen.ready())
        self._left[task.order[0]] -= 1
        if chosen.next():
            self._queue(chosen)
        for waiting in self._blocked.pop(task, ()):
            self._queue(waiting)

    def _start(self, waiting: _Waiting) -> int:
        return max(self._now, waiting.ready(), waiting.unit.free(waiting.tasks[0]))

    def _queue(self, waiting: _Waiting) -> None:
        blocker = waiting.blocker()
        if blocker is None:
            self._ready.append(waiting)
        else:
            self._blocked[blocker].append(waiting)

    def summaries(self, ops: Sequence[list[Task]]) -> list[PlayedOp]:
        """Every op in its own cycles."""
        busy: dict[Resource, list[tuple[int, int]]] = {resource: [] for resource in Resource}
        for tasks in ops:
            for task in tasks:
                busy[task.resource].append((task.start, task.end))
        computing = Spans(busy[Resource.COMPUTE])
        or_dma = Spans(busy[Resource.COMPUTE] + busy[Resource.DMA])
        or_any = Spans(busy[Resource.COMPUTE] + busy[Resource.DMA] + busy[Resource.MOVER])
        found, start = [], 0
        for position, tasks in enumerate(ops):
            if not tasks:
                found.append(PlayedOp())
                continue
            end = max(start, *(task.end for task in tasks))
            computed = computing.within(start, end)
            with_dma, with_any = or_dma.within(start, end), or_any.within(start, end)
            found.append(
                PlayedOp(
                    working_cycles=_working_cycles(tasks),
                    tasks=tuple(_since(task, start) for task in tasks),
                    total_cycles=end - start,
                    compute_cycles=computed,
                    dma_stall_cycles=with_dma - computed,
                    mover_stall_cycles=with_any - with_dma,
                    other_cycles=end - start - with_any,
                    dispatched=self._begins[position] - start,
                )
            )
            start = end
        return found


def _working_cycles(tasks: Sequence[Task]) -> int:
    computing = [task for task in tasks if task.resource is Resource.COMPUTE]
    if not computing:
        return 0
    spans = Spans((task.start, task.end) for task in computing)
    return spans.within(0, max(task.end for task in computing))


def _since(task: Task, start: int) -> Task:
    """The task with its cycles counted from another one."""
    task.start -= start
    task.end -= start
    return task


def _when_and_which(choice: tuple[int, _Waiting]) -> tuple[int, int, int, int]:
    start, waiting = choice
    op, number = waiting.tasks[0].order
    return start, op, waiting.ready(), number
