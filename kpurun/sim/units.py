"""What works on tasks: the DRAM bus and the block mover one at a time, the arrays on parts of
several."""

import heapq

from kpurun.compute import ArrayWork
from kpurun.sim.tasks import Task


class Unit:
    """Works on one task after another."""

    def __init__(self) -> None:
        self._free = 0

    def free(self, _: Task) -> int:
        """The cycle from which it could work on a task."""
        return self._free

    def run(self, task: Task, ready: int) -> None:
        """Give the task its start and end."""
        task.start = max(ready, self.free(task))
        task.end = self._free = task.start + task.length


class Bus(Unit):
    """The DRAM bus: while it has nothing to do for the op that runs, it loads ahead for later ones,
    of which the next op comes first. Loading ahead gives way between any two bursts."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead: list[tuple[int, int, Task]] = []  # a heap by position of the op, then turn
        self._turn = 0

    def offer(self, position: int, task: Task) -> None:
        """Work that may be done from now on, of the op at a position."""
        heapq.heappush(self._ahead, (position, self._turn, task))
        self._turn += 1

    def claim(self, position: int) -> None:
        """What is left of an op's loads ahead waits no longer: the op has begun."""
        while self._ahead and self._ahead[0][0] <= position:
            heapq.heappop(self._ahead)

    def run(self, task: Task, ready: int) -> None:
        start = max(ready, self._free)
        self.idle_until(start)
        task.start = start if task.start < 0 else task.start
        task.resumed = start
        task.end = self._free = start + task.length - task.done

    def idle_until(self, cycle: int) -> None:
        """Load ahead until then."""
        while self._ahead and self._free < cycle:
            task = self._ahead[0][2]
            if task.start < 0:
                task.start = self._free
            worked = min(cycle - self._free, task.length - task.done)
            task.done += worked
            self._free += worked
            if task.done == task.length:
                task.end = self._free
                heapq.heappop(self._ahead)
        self._free = max(self._free, cycle)


class Arrays(Unit):
    """The compute tiles. Parts of a systolic tile go to whichever array is free first, also while
    others still work on the tile before; vector work, and tiles that must not overlap, take all."""

    def __init__(self, count: int) -> None:
        super().__init__()  # when everything that was begun has ended
        self._arrays = [0] * count  # a heap of when each can take another part

    def free(self, task: Task) -> int:
        return self._arrays[0] if task.parts else self._free

    def run(self, task: Task, ready: int) -> None:
        work, before = task.parts, self._free
        if work is None:
            super().run(task, ready)
            self._arrays = [task.end] * len(self._arrays)
            return
        task.start = max(ready, self._arrays[0])
        last_start = self._deal(work, ready)
        task.end = last_start + work.occupied_cycles + work.tail_cycles + work.read_cycles
        if task.adds_up:
            task.end = max(task.end, before + work.drain_cycles)
        self._free = max(before, task.end)

    def _deal(self, work: ArrayWork, ready: int) -> int:
        """Start of the last part. Reads beside the arrays hold all of them up."""
        count, each, left = len(self._arrays), work.occupied_cycles, work.parts
        for _ in range(min(left, count)):
            last_start = self._deal_one(ready, each)
        left -= min(left, count)
        if left and max(self._arrays) - self._arrays[0] <= each:  # then they take turns
            rounds = (left - 1) // count
            self._arrays = [free + rounds * each for free in self._arrays]
            left -= rounds * count
        for _ in range(left):
            last_start = self._deal_one(ready, each)
        self._arrays = [free + work.read_cycles for free in self._arrays]
        return last_start

    def _deal_one(self, ready: int, each: int) -> int:
        start = max(ready, self._arrays[0])
        heapq.heapreplace(self._arrays, start + each)
        return start
