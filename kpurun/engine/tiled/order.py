"""The orders in which an op's tile commands are played: the two between which every machine lies.

In turn, one command follows the other. Ahead, DMA and the block mover run ahead of the compute
tiles as far as the copies of the buffers let them: every load is as early, every store as late as
possible. The first is hardest on operands whose place a result takes, the second on the buffers.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from formats.program import MemoryType
from kpurun.loops import Block, Loops, all_tiles
from kpurun.plan import Plan
from kpurun.slots import Places, Side
from kpurun.tiles import Command, Compute, Load, Store

L1, L2, DRAM = MemoryType.SRAM_L1, MemoryType.SRAM_L2, MemoryType.DRAM


class Fill(NamedTuple):
    """The contents of an operand's buffer from one load (or first store) to the next: the
    `number`-th in that memory."""

    side: Side
    memory: MemoryType
    number: int


@dataclass(frozen=True)
class Step:
    """The compute tiles work on what L1 holds; of an op that only moves data, the block mover
    arranges the result. `reads` and `writes`: the fills of each operand."""

    step: int
    block: Block
    is_first: bool
    is_last: bool
    reads: dict[int, Fill]
    writes: dict[int, Fill]


@dataclass(eq=False)
class Task:
    """Something to be played once everything in `after` was.

    source, target: a fill, or None for the place where the tensor lives.
    """

    command: Load | Store | Step
    source: Fill | None = None
    target: Fill | None = None
    after: list["Task"] = field(default_factory=list)
    is_done: bool = False


def tasks_of(
    commands: Iterable[Command], plan: Plan, loops: Loops, places: Places, runs_ahead: bool
) -> Iterator[list[Task]]:
    """The commands as tasks, in five queues: loads of DMA and mover, steps, stores of mover and
    DMA; one queue if nothing is to run ahead of anything."""
    planner = _Planner(plan, loops, places)
    tasks = [task for command in commands for task in planner.tasks(command)]
    if not runs_ahead:
        yield tasks
        return
    queues: dict[int, list[Task]] = defaultdict(list)
    for task in tasks:
        queues[_turn(task.command)].append(task)
    for turn in sorted(queues):
        yield queues[turn]


def played(queues: Iterable[list[Task]]) -> Iterator[Task]:
    """Tasks in the order in which they run: always the first queue whose next task can."""
    left = [iter(queue) for queue in queues]
    heads = [next(queue, None) for queue in left]
    while any(heads):
        number = next(
            (n for n, head in enumerate(heads) if head and all(t.is_done for t in head.after)), None
        )
        assert number is not None, "tasks wait for one another"
        task = heads[number]
        assert task is not None, "it was just found"
        yield task
        task.is_done = True
        heads[number] = next(left[number], None)


def _turn(command: Load | Store | Step) -> int:
    if isinstance(command, Step):
        return 2
    if isinstance(command, Load):
        return 0 if command.source is DRAM else 1
    return 4 if command.target is DRAM else 3


class _Planner:
    """Which fill each command makes, reads or empties, and so what it must wait for."""

    def __init__(self, plan: Plan, loops: Loops, places: Places) -> None:
        self._plan = plan
        self._places = places
        self._blocks = [block for _, block in all_tiles(loops)]
        self._fills: dict[tuple[Side, MemoryType], int] = defaultdict(int)
        self._makers: dict[Fill, list[Task]] = defaultdict(list)
        self._users: dict[Fill, list[Task]] = defaultdict(list)
        self._step: Task | None = None

    def tasks(self, command: Command) -> Iterator[Task]:
        if isinstance(command, Compute):
            yield self._compute(command.step, Block(command.starts, command.sizes), *command.place)
        elif isinstance(command, Load):
            yield self._load(command)
        else:
            if self._step is None or self._step.command.step != command.step:  # only moves data
                yield self._compute(command.step, self._blocks[command.step], True, True)
            yield self._store(command)

    def _load(self, command: Load) -> Task:
        side = Side(False, command.operand)
        target = self._next(side, command.target)
        task = Task(command, target=target, after=self._freeing(target))
        if command.source is L2 and self._plan.reads[command.operand].staged:
            task.source = self._latest(side, L2)
            task.after = task.after + self._makers[task.source]
            self._users[task.source].append(task)
        self._makers[target].append(task)
        return task

    def _compute(self, step: int, block: Block, is_first: bool, is_last: bool) -> Task:
        reads = {
            side.number: self._latest(side, memory)
            for side, memory in self._fills
            if memory is L1 and not side.is_write
        }
        writes = {
            number: Fill(Side(True, number), L1, self._fills[Side(True, number), L1])
            for number in range(len(self._plan.writes))
        }
        task = Task(Step(step, block, is_first, is_last, reads, writes))
        for fill in reads.values():
            task.after = task.after + self._makers[fill]
            self._users[fill].append(task)
        if is_last:
            for fill in writes.values():
                task.after = task.after + self._freeing(fill)
        self._step = task
        return task

    def _store(self, command: Store) -> Task:
        """The fill that it empties is complete: what is written next begins another."""
        side = Side(True, command.operand)
        source = self._open(side, command.source)
        self._fills[side, command.source] += 1
        task = Task(command, source=source)
        self._users[source].append(task)
        if command.source is L2:
            task.after = list(self._makers[source])
            return task
        assert self._step is not None, "a step comes before its stores"
        task.after = [self._step]
        if self._plan.writes[command.operand].staged:
            task.target = self._open(side, L2)
            task.after = task.after + self._freeing(task.target)
            self._makers[task.target].append(task)
        return task

    def _next(self, side: Side, memory: MemoryType) -> Fill:
        self._fills[side, memory] += 1
        return self._latest(side, memory)

    def _latest(self, side: Side, memory: MemoryType) -> Fill:
        return Fill(side, memory, self._fills[side, memory] - 1)

    def _open(self, side: Side, memory: MemoryType) -> Fill:
        return Fill(side, memory, self._fills[side, memory])

    def _freeing(self, fill: Fill) -> list[Task]:
        """What must be done before the bytes of a fill are free for it: all that uses the one that
        has them."""
        slots = self._places.slots.get((fill.side, fill.memory))
        copies = slots.copies if slots else 1
        return list(self._users[fill._replace(number=fill.number - copies)])
