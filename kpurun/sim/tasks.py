"""The commands of an op as tasks: which resource each occupies, for how long, and after which.

Nothing is overlapped but what the program says: buffers have as many copies as its tiling gives
them, and without double buffering one command follows another.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from formats.config import KPUConfig
from formats.program import MemoryType, TileConfig
from kpurun.buffers import l1_buffers, l2_buffers
from kpurun.compute import ArrayWork
from kpurun.loops import resolve
from kpurun.tiles import Command, Compute, Load, Store, tile_commands
from kpurun.timing import cycles, parts
from kpurun.work import Work

DRAM, L2, L1 = MemoryType.DRAM, MemoryType.SRAM_L2, MemoryType.SRAM_L1

# Where an operand's tiles lie: the memory, and its number among the op's reads, then its results.
Place = tuple[MemoryType, int]


class Resource(IntEnum):
    """What works on one command at a time."""

    DMA = 0  # with the DRAM bus
    MOVER = 1  # the block mover between L2 and L1
    COMPUTE = 2  # arrays and vector units


@dataclass(eq=False)
class Task:
    """A command that may start when all in `after` have ended; start and end in cycles of its op,
    -1 until it is played. parts: what it deals over the arrays if it need not have them all. ahead:
    how many ops before its own it may run, where others may interrupt it.
    """

    command: Command
    resource: Resource
    length: int
    parts: ArrayWork | None = None
    ahead: int = 0
    after: list["Task"] = field(default_factory=list)
    start: int = -1
    end: int = -1
    done: int = 0  # cycles of a load ahead, before its op began
    resumed: int = -1  # when the rest of it began

    @property
    def adds_up(self) -> bool:
        """Whether it adds to sums that the tile before it leaves in L1."""
        return isinstance(self.command, Compute) and not self.command.place.is_first


@dataclass
class Tasks:
    """All tasks of an op, in program order, and in queues whose tasks start in order."""

    every: list[Task] = field(default_factory=list)
    ahead: list[Task] = field(default_factory=list)  # that may run before their op
    queues: dict[tuple[Resource, type[Command]], list[Task]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, task: Task) -> Task:
        """Append a task to its queue: loads and stores of a resource overtake each other."""
        self.every.append(task)
        if task.ahead:
            self.ahead.append(task)
        self.queues[task.resource, type(task.command)].append(task)
        return task


def tasks_of(
    work: Work,
    tiling: TileConfig | None,
    config: KPUConfig,
    ahead: Mapping[str, int] = MappingProxyType({}),
) -> Tasks:
    """The tasks of one op; none for a view.

    ahead: tensor id -> how many ops before this one its first tiles may be loaded into L2.
    """
    loops = resolve(work.nest, tiling)
    if loops.copies == 1 and loops.is_split:
        return _one_by_one(tile_commands(work, tiling), config)
    walk = _Walk(work, tiling, config, ahead)
    for command in tile_commands(work, tiling):
        walk.add(command)
    return walk.tasks


def _one_by_one(commands: Iterable[Command], config: KPUConfig) -> Tasks:
    tasks = Tasks()
    for command in commands:
        before = tasks.every[-1:]
        tasks.add(Task(command, _resource(command), cycles(command, config), after=list(before)))
    return tasks


def _resource(command: Command) -> Resource:
    if isinstance(command, Compute):
        return Resource.COMPUTE
    return Resource.DMA if DRAM in (command.source, command.target) else Resource.MOVER


class _Walk:
    """What the buffers hold while the commands are listed, and who still uses it."""

    def __init__(
        self,
        work: Work,
        tiling: TileConfig | None,
        config: KPUConfig,
        ahead: Mapping[str, int],
    ) -> None:
        self.tasks = Tasks()
        self._ahead = ahead
        self._config = config
        self._results = range(len(work.reads), len(work.reads) + len(work.writes))
        self._copies: dict[Place, int] = {
            (buffer.memory_type, buffer.operand): buffer.copies
            for buffer in (*l1_buffers(work, tiling), *l2_buffers(work, tiling))
            if not buffer.is_accumulator
        }
        self._fills: dict[Place, list[Task]] = defaultdict(list)  # loads into a buffer, in order
        self._held: dict[Place, Task] = {}  # the last of them
        self._users: dict[Task, list[Task]] = defaultdict(list)  # of what a load brought
        self._gone: dict[Place, list[Task]] = defaultdict(list)  # stores out of a buffer, in order
        self._pieces: dict[int, list[Task]] = defaultdict(list)  # L1 stores of the L2 tile
        self._computed: Task | None = None

    def add(self, command: Command) -> None:
        """The next command in program order."""
        length, dealt = cycles(command, self._config), parts(command, self._config)
        task = Task(command, _resource(command), length, dealt)
        if isinstance(command, Load):
            self._load(command, task)
        elif isinstance(command, Compute):
            self._compute(command, task)
        else:
            self._store(command, task)
        self.tasks.add(task)

    def _load(self, command: Load, task: Task) -> None:
        """Into a copy of the buffer that all users of its last content have left."""
        place = (command.target, command.operand)
        earlier, copies = self._fills[place], self._copies[place]
        if len(earlier) >= copies:
            task.after += self._users[earlier[-copies]]
        elif command.target is L2:
            task.ahead = self._ahead.get(command.tensor_id, 0)
        staged = self._held.get((command.source, command.operand))
        if staged is not None:
            self._use(staged, task)
        earlier.append(task)
        self._held[place] = task

    def _compute(self, command: Compute, task: Task) -> None:
        """On what L1 holds; a tile that completes its results needs room for them."""
        self._use_l1(task)
        for number in self._results if command.place.is_last else ():
            self._wait_for_room((L1, number), task)
        self._computed = task

    def _store(self, command: Store, task: Task) -> None:
        """Out of L1 when computed (a move has nothing to compute), out of L2 when all is there."""
        number = self._results[command.operand]
        if command.target is DRAM:
            task.after += self._pieces.pop(number, [])
        else:
            if self._computed is not None:
                task.after.append(self._computed)
            else:
                self._use_l1(task)
            self._wait_for_room((L2, number), task)
            self._pieces[number].append(task)
        self._gone[command.source, number].append(task)

    def _use_l1(self, task: Task) -> None:
        for (memory, _), fill in self._held.items():
            if memory is L1:
                self._use(fill, task)

    def _use(self, fill: Task, user: Task) -> None:
        user.after.append(fill)
        self._users[fill].append(user)

    def _wait_for_room(self, place: Place, task: Task) -> None:
        """Where the operand has a buffer there: until one of its copies has been emptied."""
        gone, copies = self._gone[place], self._copies.get(place)
        if copies is not None and len(gone) >= copies:
            task.after.append(gone[-copies])
