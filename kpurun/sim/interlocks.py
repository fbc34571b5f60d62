"""What a command waits for beyond its own op: the machine lets none touch bytes that an earlier one
still needs, nor read what an earlier one has still to write.

So ops overlap as far as their addresses let them, and the result is that of one after another.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from formats.errors import FileError
from formats.places import capacities
from formats.program import Buffer, KPUOp, KPUProgram, KPUTensor, MemoryType
from kpurun.plan import plan_of
from kpurun.sim.tasks import Place, Queue, Task
from kpurun.slots import Side, places_of
from kpurun.tiles import Compute, Load, Store
from kpurun.work import Work

L2, L1 = MemoryType.SRAM_L2, MemoryType.SRAM_L1

Range = tuple[MemoryType, int, int]  # a memory, the first byte and the one behind the last


@dataclass
class _Use:
    """Bytes as one op uses them. root: of the tensor that lives there, None for a buffer."""

    where: Range
    root: str | None = None
    last: dict[Queue, Task] = field(default_factory=dict)  # to use them, of each queue
    on_arrays: list[Task] = field(default_factory=list)  # where a later tile may end before
    writers: dict[Queue, Task] = field(default_factory=dict)  # the first of each queue

    def add(self, task: Task, writes: bool) -> None:
        if task.queue is Queue.ARRAYS:
            self.on_arrays.append(task)
        else:
            self.last[task.queue] = task
        if writes:
            self.writers.setdefault(task.queue, task)

    @property
    def users(self) -> Iterator[Task]:
        """Those that have ended when all have."""
        return chain(self.last.values(), self.on_arrays)


@dataclass
class _Made:
    """The stores that make a tensor: where in it, and from which op on."""

    spans: list[list[tuple[int, int]]] = field(default_factory=list)
    stores: list[Task] = field(default_factory=list)
    array: np.ndarray = field(default_factory=lambda: np.empty((0, 0, 2), np.int64))

    def latest(self, spans: list[tuple[int, int]] | None) -> list[Task]:
        """Of every op that stores into a box of the tensor (None: anywhere), the last store."""
        if len(self.array) < len(self.spans):
            self.array = np.array(self.spans).reshape(len(self.spans), -1, 2)
        hits = list(range(len(self.stores)))
        if spans is not None:
            low, high = np.array(spans).reshape(-1, 2).T
            inside = (self.array[:, :, 0] < high) & (self.array[:, :, 1] > low)
            hits = np.flatnonzero(inside.all(1)).tolist()
        return list({self.stores[hit].order[0]: self.stores[hit] for hit in hits}.values())


class Interlocks:
    """Knows the last ops of a program, which are given in order."""

    def __init__(self, program: KPUProgram) -> None:
        self._program = program
        self._sizes = capacities(program)
        self._buffers: dict[str, list[Buffer]] = defaultdict(list)
        for buffer in program.buffers:
            self._buffers[buffer.op_id].append(buffer)
        self._recent: deque[list[_Use]] = deque(
            maxlen=program.target_config.timing.ops_in_flight - 1
        )
        self._made: dict[str, _Made] = defaultdict(_Made)

    def add(self, op: KPUOp, work: Work, tasks: list[Task]) -> None:
        """Let an op's tasks wait for those of earlier ops."""
        scattered = [operand.scattered for operand in plan_of(work).reads] if tasks else []
        for task in tasks:
            self._wait_for_operand(scattered, task)
        uses = [*self._buffer_uses(op, work, tasks), *self._tensor_uses(tasks)]
        for use in uses:
            before = [
                user
                for earlier in self._recent
                for other in earlier
                if _overlap(use.where, other.where) and (use.root is None or use.root != other.root)
                for user in other.users
            ]
            for writer in use.writers.values():
                writer.after.extend(before)
        self._recent.append(uses)
        for task in tasks:
            self._note_store(task)

    def _wait_for_operand(self, scattered: list[bool], task: Task) -> None:
        """scattered: of each read of the op, whether it is not known where its tiles lie."""
        command = task.command
        if not isinstance(command, Load):
            return
        tensor = self._program.tensors[command.tensor_id]
        made = self._made.get(tensor.alias_of or tensor.id)
        if made is None or command.source is not tensor.layout.memory_type:
            return
        box = None if scattered[command.operand] else self._box(tensor, command.spans)
        task.after.extend(made.latest(box))

    def _note_store(self, task: Task) -> None:
        command = task.command
        if not isinstance(command, Store):
            return
        tensor = self._program.tensors[command.tensor_id]
        if command.target is tensor.layout.memory_type:
            root = self._program.tensors[tensor.alias_of or tensor.id]
            box = self._box(tensor, command.spans) or [(0, size) for size in root.shape]
            self._made[root.id].spans.append(box)
            self._made[root.id].stores.append(task)

    def _box(
        self, tensor: KPUTensor, spans: tuple[tuple[int, int], ...]
    ) -> list[tuple[int, int]] | None:
        """Where a piece of a tensor is in its root; None where the root has another shape."""
        root = self._program.tensors[tensor.alias_of or tensor.id]
        if not tensor.starts and tensor.shape != root.shape:
            return None
        starts = tensor.starts or (0,) * len(tensor.shape)
        return [(low + at, high + at) for (low, high), at in zip(spans, starts, strict=True)]

    def _tensor_uses(self, tasks: list[Task]) -> Iterable[_Use]:
        uses: dict[str, _Use] = {}
        for task in tasks:
            command = task.command
            if isinstance(command, Compute):
                continue
            tensor = self._program.tensors[command.tensor_id]
            writes = isinstance(command, Store)
            end = command.target if isinstance(command, Store) else command.source
            if end is not tensor.layout.memory_type or tensor.is_weight:
                continue
            root = self._program.tensors[tensor.alias_of or tensor.id]
            base = root.layout.base_address
            where = root.layout.memory_type, base, base + root.size_bytes
            uses.setdefault(root.id, _Use(where, root.id)).add(task, writes)
        return uses.values()

    def _buffer_uses(self, op: KPUOp, work: Work, tasks: list[Task]) -> Iterable[_Use]:
        """Every copy by itself; all of L1 and L2 where an op has no buffers, or its commands follow
        one another."""
        buffers = self._buffers[op.id]
        if not tasks:
            return []
        ranges = _ranges(op, work, buffers)
        if ranges is None or not any(task.touched for task in tasks):
            return [self._all_of(memory, tasks) for memory in (L1, L2)]
        uses: dict[Range, _Use] = {}
        for task in tasks:
            for place, number in task.touched:
                where = ranges.of(place, number)
                uses.setdefault(where, _Use(where)).add(task, writes=True)
            if isinstance(task.command, Compute):
                for where in ranges.accumulators:
                    uses.setdefault(where, _Use(where)).add(task, writes=True)
        return uses.values()

    def _all_of(self, memory: MemoryType, tasks: list[Task]) -> _Use:
        use = _Use((memory, 0, self._sizes[memory]))
        for task in tasks:
            use.add(task, writes=True)
        return use


class _Ranges:
    """Where the copies of an op's buffers lie."""

    def __init__(self, op: KPUOp, work: Work, buffers: list[Buffer]) -> None:
        self._reads = len(work.reads)
        self._places = places_of(op, work, op.tiling, buffers)
        self.accumulators = [
            (L1, slots.address, slots.address + slots.stride)
            for slots in self._places.accumulators.values()
        ]

    def of(self, place: Place, number: int) -> Range:
        memory, operand = place
        is_write = operand >= self._reads
        side = Side(is_write, operand - self._reads if is_write else operand)
        slots = self._places.slots[side, memory]
        start = slots.address_of(number)
        return memory, start, start + slots.stride


def _ranges(op: KPUOp, work: Work, buffers: list[Buffer]) -> _Ranges | None:
    """None for an op that does not have all the buffers that it needs."""
    try:
        return _Ranges(op, work, buffers)
    except FileError:
        return None


def _overlap(one: Range, other: Range) -> bool:
    return one[0] is other[0] and one[1] < other[2] and other[1] < one[2]
