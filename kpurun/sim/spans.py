"""Stretches of cycles, to be asked how much of some cycles they fill."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate


class Spans:
    """The union of half-open spans."""

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in sorted(spans):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            elif start < end:
                self._starts.append(start)
                self._ends.append(end)
        lengths = (end - start for start, end in zip(self._starts, self._ends, strict=True))
        self._before = list(accumulate(lengths, initial=0))

    def within(self, start: int, end: int) -> int:
        """How many of the cycles from start to end they fill."""
        return self._until(end) - self._until(start)

    def _until(self, cycle: int) -> int:
        index = bisect_right(self._starts, cycle) - 1
        if index < 0:
            return 0
        return self._before[index] + min(cycle, self._ends[index]) - self._starts[index]
