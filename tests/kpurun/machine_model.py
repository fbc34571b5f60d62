"""The pipeline played command by command: a small event model to hold the closed form against.

Three resources work in parallel, each on one command at a time: DRAM bus, block mover, compute
tiles. Loads run ahead in order as far as buffers are free; stores leave in order; of a load and a
store that are both ready, the one that was ready first goes.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from formats.config import KPUConfig
from formats.program import MemoryType, TileConfig
from kpurun.buffers import l1_buffers, l2_buffers
from kpurun.tiles import Compute, Load, Store, tile_commands
from kpurun.timing import cycles
from kpurun.work import Work

DRAM, L2 = MemoryType.DRAM, MemoryType.SRAM_L2


@dataclass
class Task:
    """One command: it may start when all tasks in `after` have ended."""

    resource: str
    length: int
    after: list["Task"] = field(default_factory=list)
    end: int = -1

    def ready(self) -> int | None:
        if any(task.end < 0 for task in self.after):
            return None
        return max((task.end for task in self.after), default=0)


def played_cycles(work: Work, tiling: TileConfig, config: KPUConfig) -> int:
    """Cycles from the first command to the last, dispatch included."""
    tasks, queues = _tasks(work, tiling, config)
    free: dict[str, int] = defaultdict(int)
    left = len(tasks)
    while left:
        heads = []
        for number, queue in enumerate(queues):
            if queue and (ready := queue[0].ready()) is not None:
                heads.append((max(ready, free[queue[0].resource]), ready, number))
        assert heads, "deadlock"
        start, _, number = min(heads)
        task = queues[number].pop(0)
        task.end = free[task.resource] = start + task.length
        left -= 1
    return config.timing.dispatch_cycles + max((task.end for task in tasks), default=0)


def _tasks(
    work: Work, tiling: TileConfig, config: KPUConfig
) -> tuple[list[Task], list[list[Task]]]:
    """Every command as a task, and the five queues: loads and stores of DMA and mover, compute."""
    copies = {}
    for level, buffers in (("l1", l1_buffers(work, tiling)), ("l2", l2_buffers(work, tiling))):
        for buffer in buffers:
            if not buffer.is_accumulator:
                copies[level, buffer.tensor_id] = buffer.copies
    queues: dict[str, list[Task]] = {name: [] for name in ("dl", "dr", "ml", "mr", "c")}
    fills: dict[tuple[str, str], list[Task]] = defaultdict(list)  # loads into a buffer, in order
    users: dict[int, list[Task]] = defaultdict(list)  # id of a fill -> tasks that read it
    pieces: dict[str, list[list[Task]]] = defaultdict(lambda: [[]])  # L1 stores per L2 tile
    leaving: dict[tuple[str, str], list[Task]] = defaultdict(list)
    current: dict[tuple[str, str], Task] = {}
    computed: Task | None = None
    for command in tile_commands(work, tiling):
        length = cycles(command, config)
        if isinstance(command, Load):
            from_dram = command.source is DRAM
            task = Task("dma" if from_dram else "mover", length)
            place = ("l2" if from_dram else "l1", command.tensor_id)
            earlier = fills[place]
            if len(earlier) >= copies[place]:
                task.after += users[id(earlier[-copies[place]])]
            if not from_dram and ("l2", command.tensor_id) in current:
                source = current["l2", command.tensor_id]
                task.after.append(source)
                users[id(source)].append(task)
            earlier.append(task)
            current[place] = task
            queues["dl" if from_dram else "ml"].append(task)
        elif isinstance(command, Compute):
            task = Task("compute", length)
            for (level, _), fill in current.items():
                if level == "l1":
                    task.after.append(fill)
                    users[id(fill)].append(task)
            for write in work.writes:
                gone = leaving["l1", write.tensor_id]
                held = copies["l1", write.tensor_id]
                if command.place.is_last and len(gone) >= held:
                    task.after.append(gone[-held])
            computed = task
            queues["c"].append(task)
        else:
            _store(command, length, copies, queues, current, users, pieces, leaving, computed)
    everything = [task for queue in queues.values() for task in queue]
    return everything, list(queues.values())


def _store(command: Store, length, copies, queues, current, users, pieces, leaving, computed):
    tensor = command.tensor_id
    if command.target is DRAM:
        task = Task("dma", length, list(pieces[tensor][-1]))
        pieces[tensor].append([])
        leaving["l2", tensor].append(task)
        queues["dr"].append(task)
        return
    task = Task("mover", length)
    if computed is not None:
        task.after.append(computed)
    else:
        for (level, _), fill in current.items():
            if level == "l1":
                task.after.append(fill)
                users[id(fill)].append(task)
    gone = leaving["l2", tensor]
    if ("l2", tensor) in copies and len(gone) >= copies["l2", tensor]:
        task.after.append(gone[-copies["l2", tensor]])
    leaving["l1", tensor].append(task)
    pieces[tensor][-1].append(task)
    queues["mr"].append(task)
