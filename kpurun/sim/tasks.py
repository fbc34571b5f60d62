"""The commands of an op as tasks: which resource each occupies, for how long, and after which.

Nothing is overlapped but what the program says: buffers have as many copies as its tiling gives
them, and without double buffering one command follows another.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from itertools import pairwise
from typing import NamedTuple, cast

from formats.config import KPUConfig
from formats.program import MemoryType, TileConfig
from kpurun.buffers import l1_buffers, l2_buffers
from kpurun.compute import ArrayWork
from kpurun.loops import resolve
from kpurun.machine import machine_of
from kpurun.ops.loopnest import Unit
from kpurun.plan import plan_of
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


class Queue(Enum):
    """The commands of an op wait in these: none overtakes what is in front of it, but may overtake
    what is in another."""

    DMA_WEIGHTS = auto()
    DMA_LOADS = auto()
    DMA_STORES = auto()
    MOVER_WEIGHTS = auto()
    MOVER_LOADS = auto()
    MOVER_STORES = auto()
    ARRAYS = auto()
    LANES = auto()


@dataclass(eq=False)
class Task:
    """A command that may start when all in `after` have ended; start and end in cycles of its op,
    -1 until it is played. parts: what it deals over the arrays if it need not have them all.
    touched: the copies of buffers that it fills, reads or empties, and which filling of them.
    """

    command: Command
    resource: Resource
    queue: Queue
    length: int
    parts: ArrayWork | None = None
    after: list["Task"] = field(default_factory=list)
    touched: list[tuple[Place, int]] = field(default_factory=list)
    order: tuple[int, int] = (0, 0)  # of its op in the program, its own in the op
    start: int = -1
    end: int = -1

    @property
    def adds_up(self) -> bool:
        """Whether it adds to sums that the tile before it leaves in L1."""
        return isinstance(self.command, Compute) and not self.command.place.is_first


class _Priced(NamedTuple):
    """What a task begins with."""

    command: Command
    resource: Resource
    queue: Queue
    length: int
    parts: ArrayWork | None


def tasks_of(work: Work, tiling: TileConfig | None, config: KPUConfig) -> list[Task]:
    """The tasks of one op in program order; none for a view."""
    loops = resolve(work.nest, tiling)
    tasks = [
        Task(*priced, order=(0, number))
        for number, priced in enumerate(_priced_commands(work, tiling, config))
    ]
    if loops.copies == 1 and loops.is_split:
        for before, task in pairwise(tasks):
            task.after.append(before)
        return tasks
    walk = _Walk(work, tiling)
    for task in tasks:
        walk.add(task)
    return tasks


def _priced_commands(work: Work, tiling: TileConfig | None, config: KPUConfig) -> Sequence[_Priced]:
    """Once for all the places at which a compiler looks at the same op in the same tiles."""
    memo, key = plan_of(work).memo, (_priced_commands, repr(tiling), machine_of(config))
    if key not in memo:
        memo[key] = [_priced(command, work, config) for command in tile_commands(work, tiling)]
    return cast(Sequence[_Priced], memo[key])


def _priced(command: Command, work: Work, config: KPUConfig) -> _Priced:
    length, dealt = cycles(command, config), parts(command, config)
    if isinstance(command, Compute):
        queue = Queue.LANES if command.shape.unit is Unit.VECTOR else Queue.ARRAYS
        return _Priced(command, Resource.COMPUTE, queue, length, dealt)
    is_dma = DRAM in (command.source, command.target)
    resource = Resource.DMA if is_dma else Resource.MOVER
    if isinstance(command, Store):
        queue = Queue.DMA_STORES if is_dma else Queue.MOVER_STORES
        return _Priced(command, resource, queue, length, dealt)
    if work.reads[command.operand].is_weight:
        queue = Queue.DMA_WEIGHTS if is_dma else Queue.MOVER_WEIGHTS
    else:
        queue = Queue.DMA_LOADS if is_dma else Queue.MOVER_LOADS
    return _Priced(command, resource, queue, length, dealt)


class _Walk:
    """What the buffers hold while the commands are listed, and who still uses it."""

    def __init__(self, work: Work, tiling: TileConfig | None) -> None:
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

    def add(self, task: Task) -> None:
        """The next command in program order."""
        command = task.command
        if isinstance(command, Load):
            self._load(command, task)
        elif isinstance(command, Compute):
            self._compute(command, task)
        else:
            self._store(command, task)

    def _load(self, command: Load, task: Task) -> None:
        """Into a copy of the buffer that all users of its last content have left."""
        place = (command.target, command.operand)
        earlier, copies = self._fills[place], self._copies[place]
        if len(earlier) >= copies:
            task.after += self._users[earlier[-copies]]
        task.touched.append((place, len(earlier)))
        source = (command.source, command.operand)
        if source in self._held:
            self._use(source, task)
        earlier.append(task)
        self._held[place] = task

    def _compute(self, command: Compute, task: Task) -> None:
        """On what L1 holds; a tile that completes its results needs room for them."""
        self._use_l1(task)
        for number in self._results if command.place.is_last else ():
            self._wait_for_room((L1, number), task)
            self._touch_result((L1, number), task)
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
            self._touch_result((L2, number), task)
            self._pieces[number].append(task)
        self._touch_result((command.source, number), task)
        self._gone[command.source, number].append(task)

    def _use_l1(self, task: Task) -> None:
        for place in self._held:
            if place[0] is L1:
                self._use(place, task)

    def _use(self, place: Place, user: Task) -> None:
        fill = self._held[place]
        user.after.append(fill)
        user.touched.append((place, len(self._fills[place]) - 1))
        self._users[fill].append(user)

    def _touch_result(self, place: Place, task: Task) -> None:
        """The copy of a result's buffer, where it has one there, that is emptied next."""
        if place in self._copies:
            task.touched.append((place, len(self._gone[place])))

    def _wait_for_room(self, place: Place, task: Task) -> None:
        """Where the operand has a buffer there: until one of its copies has been emptied."""
        gone, copies = self._gone[place], self._copies.get(place)
        if copies is not None and len(gone) >= copies:
            task.after.append(gone[-copies])
