"""Addresses that let ops overlap: every buffer where nothing was for the longest time.

The machine begins an op while those before it still run, as far as no command touches bytes that an
earlier one needs. What stays in memory from op to op has its place already; what an op stages can
go anywhere beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from formats.program import Buffer, MemoryType
from kpuc.allocate import Interval, aligned
from kpuc.staging import Staged

NEVER = 1 << 30  # in ops, from bytes in which nothing is
Span = tuple[int, int]  # first byte, and the one behind the last


@dataclass
class Rotation:
    """One memory: what lives there from op to op, and who used which bytes last.

    fixed: (interval, address) of what has its place. capacity and alignment in bytes.
    """

    fixed: Sequence[tuple[Interval, int]]
    capacity: int
    alignment: int
    _used: list[tuple[int, int, int]] = field(default_factory=list)  # start, end, last position

    def place(self, position: int, sizes: Sequence[int]) -> list[int] | None:
        """Addresses for what an op stages, in the order given; None if there is no room. As low as
        can be where there is not enough of it to choose from."""
        needed = [aligned(size, self.alignment) for size in sizes]
        found = self._placed(position, needed, as_low=False)
        if found is None:
            found = self._placed(position, needed, as_low=True)
        if found is not None:
            for at, size in zip(found, needed, strict=True):
                self._note(at, at + size, position)
        return found

    def _placed(self, position: int, sizes: Sequence[int], as_low: bool) -> list[int] | None:
        """The largest first; None where one of them finds no room."""
        taken = [
            (at, at + aligned(each.size, self.alignment))
            for each, at in self.fixed
            if each.first <= position <= each.last
        ]
        found = [0] * len(sizes)
        for number in sorted(range(len(sizes)), key=lambda each: -sizes[each]):
            size = sizes[number]
            starts = self._starts(taken, size)
            if not starts:
                return None
            chosen = starts[0]
            if not as_low:
                chosen = min(starts, key=lambda at: (self._nearness(position, at, at + size), at))
            found[number] = chosen
            taken.append((chosen, chosen + size))
        return found

    def _starts(self, taken: list[Span], size: int) -> list[int]:
        """Where a block fits beside what is there, in order: next to that, or where something was
        or will be."""
        edges = {0, self.capacity - size}
        edges.update(*((high, low - size) for low, high in taken))
        edges.update(*((low, high, low - size) for low, high, _ in self._used))
        return [
            at
            for at in sorted(edges)
            if 0 <= at <= self.capacity - size
            and at % self.alignment == 0
            and all(at + size <= low or high <= at for low, high in taken)
        ]

    def _nearness(self, position: int, start: int, end: int) -> tuple[int, int]:
        """Of what was in these bytes, or will be: minus the distance in ops of the nearest, and how
        many bytes a buffer shares with it. Less is better."""
        nearest, shared = -NEVER, 0
        for low, high, last in self._used:
            if low < end and start < high:
                common = min(high, end) - max(low, start)
                nearest, shared = max((nearest, shared), (last - position, common))
        for each, at in self.fixed:
            if at < end and start < at + each.size:
                is_past = each.last < position
                distance = each.last - position if is_past else position - each.first
                nearest = max(nearest, distance)
        return nearest, shared

    def _note(self, start: int, end: int, position: int) -> None:
        """From now on these bytes were used last at a position."""
        kept = [
            (low, high, last)
            for old_low, old_high, last in self._used
            for low, high in ((old_low, min(old_high, start)), (max(old_low, end), old_high))
            if low < high
        ]
        self._used = [*kept, (start, end, position)]


def rotated(
    node_ids: Sequence[str],
    staged: Sequence[Sequence[Staged]],
    memory_type: MemoryType,
    rotation: Rotation,
) -> list[Buffer] | None:
    """The buffers of ops in order in one memory; None if they do not all fit."""
    buffers = []
    for position, (node_id, each) in enumerate(zip(node_ids, staged, strict=True)):
        addresses = rotation.place(position, [one.size_bytes for one in each])
        if addresses is None:
            return None
        buffers += [
            Buffer(node_id, one.tensor_id, memory_type, at, one.size_bytes, one.copies)
            for one, at in zip(each, addresses, strict=True)
        ]
    return buffers
