"""Do two things that live at the same time share bytes? A sweep over time, per memory."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from formats.program import MemoryType


@dataclass(frozen=True)
class Placement:
    """`size` bytes at `start` of one memory, from op `first` to op `last`, both included."""

    name: str
    memory_type: MemoryType
    start: int
    size: int
    first: int
    last: int


def overlaps(placements: Sequence[Placement]) -> Iterator[tuple[Placement, Placement]]:
    """Pairs that share a byte at the same time; the first found per newcomer and neighbour.

    The live set is kept sorted by address. While it is free of overlaps, a newcomer can only
    overlap its two neighbours, so the sweep takes O(n log n) comparisons.
    """
    by_memory: dict[MemoryType, list[Placement]] = defaultdict(list)
    for placement in placements:
        by_memory[placement.memory_type].append(placement)
    for group in by_memory.values():
        yield from _sweep(group)


def _sweep(group: list[Placement]) -> Iterator[tuple[Placement, Placement]]:
    births = sorted(group, key=lambda placement: (placement.first, placement.start))
    deaths = sorted(group, key=lambda placement: placement.last)
    live: list[tuple[int, str, Placement]] = []
    gone = 0
    for newcomer in births:
        while gone < len(deaths) and deaths[gone].last < newcomer.first:
            _remove(live, deaths[gone])
            gone += 1
        at = bisect_left(live, (newcomer.start, newcomer.name), key=lambda entry: entry[:2])
        for _, _, neighbour in live[max(0, at - 1) : at + 1]:
            if _share_bytes(neighbour, newcomer):
                yield neighbour, newcomer
        insort(live, (newcomer.start, newcomer.name, newcomer), key=lambda entry: entry[:2])


def _remove(live: list[tuple[int, str, Placement]], placement: Placement) -> None:
    at = bisect_left(live, (placement.start, placement.name), key=lambda entry: entry[:2])
    if at < len(live) and live[at][2] is placement:
        del live[at]


def _share_bytes(one: Placement, other: Placement) -> bool:
    return one.start < other.start + other.size and other.start < one.start + one.size
