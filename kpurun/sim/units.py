"""What works on tasks: the DRAM bus and the block mover one at a time, the arrays on parts of
several, the vector units on one, beside what drains from the arrays."""

import heapq
from math import ceil

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


class Lanes(Unit):
    """All vector units together. What drains from the arrays takes its lanes first: a vector tile
    takes longer by that."""

    def __init__(self, tiles: int) -> None:
        super().__init__()
        self._tiles = tiles
        self._last: Task | None = None
        self._draining: list[tuple[int, int, float]] = []  # start, end, cycles of all lanes

    def run(self, task: Task, ready: int) -> None:
        super().run(task, ready)
        self._draining = [each for each in self._draining if each[1] > task.start]
        taken = sum(_within(each, task.start, task.end) for each in self._draining)
        self._lengthen(task, taken)
        self._last = task

    def drain(self, task: Task, work: ArrayWork) -> None:
        """An array tile has begun: its results pass through the lanes until it ends."""
        drained = task.start, task.end, work.parts * work.drain_cycles / self._tiles
        self._draining.append(drained)
        if self._last is not None and self._last.end > task.start:
            self._lengthen(self._last, _within(drained, self._last.start, self._last.end))

    def _lengthen(self, task: Task, cycles: float) -> None:
        task.end += ceil(cycles)
        self._free = task.end


class Arrays(Unit):
    """The compute tiles. Parts of a systolic tile go to whichever array is free first, also while
    others still work on the tile before; tiles that must not overlap take all."""

    def __init__(self, count: int, lanes: Lanes) -> None:
        super().__init__()  # when everything that was begun has ended
        self._arrays = [0] * count  # a heap of when each can take another part
        self._lanes = lanes

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
        self._lanes.drain(task, work)

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


def _within(drained: tuple[int, int, float], start: int, end: int) -> float:
    """The part of a drain that falls into some cycles, as if it were even."""
    first, last, cycles = drained
    return cycles * max(0, min(last, end) - max(first, start)) / max(1, last - first)
