"""What a trace is made of, in no format yet: tracks of slices and counters, over cycles.

Slices of a track may overlap: parts of two tiles on the arrays, a load that waits for another.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache

Value = str | int | float
OPS, STALLS, UNKNOWN = "Ops", "Stalls", "Not recorded"
ARRAYS, LANES = "Systolic arrays", "Vector units"
DMA_IN, DMA_OUT, MOVER = "DMA in", "DMA out", "Block mover"
TRACKS = (OPS, ARRAYS, LANES, MOVER, DMA_IN, DMA_OUT, STALLS, UNKNOWN)  # from top to bottom
MOST_NS = 1 << 53  # 104 days: beyond, a number of JSON is no longer exact
NS_PER_US = 1000


@dataclass(frozen=True)
class Slice:
    """Half-open range of cycles. leaving, arriving: numbers of the arrows to and from slices; each
    arrow leaves one slice and arrives at one."""

    name: str
    start: int
    end: int
    args: Mapping[str, Value] = field(default_factory=dict)
    leaving: tuple[int, ...] = ()
    arriving: tuple[int, ...] = ()


@dataclass(frozen=True)
class CounterTrack:
    """A value holds from its cycle until the next point's; the last point ends what is known."""

    name: str
    unit: str
    points: tuple[tuple[int, float], ...]
    about: str = ""


@dataclass(frozen=True)
class Trace:
    """tracks: of TRACKS, those that the profile knows of. about: of the whole run. missing: what a
    reader may look for that the profile does not hold, one sentence each."""

    process: str
    clock_mhz: float
    about: Mapping[str, Value]
    tracks: Mapping[str, list[Slice]]
    counters: tuple[CounterTrack, ...]
    missing: tuple[str, ...]

    @property
    def scale(self) -> str:
        """How long a cycle is, for a person."""
        ns, clock = ns_per_cycle(self.clock_mhz), f"({self.clock_mhz:.10g} MHz)"
        if ns.denominator == 1:
            return f"1 cycle = {ns} ns {clock}"
        return f"1 cycle = {ns} ns {clock}; times are rounded to whole ns, cycles are exact"

    def ns(self, cycle: int) -> int:
        """A cycle's time in whole nanoseconds, to the nearest; later cycles are never earlier."""
        ns = ns_per_cycle(self.clock_mhz)
        return (2 * cycle * ns.numerator + ns.denominator) // (2 * ns.denominator)


@cache
def ns_per_cycle(clock_mhz: float) -> Fraction:
    """Of the clock as the decimal number that it is written as: 333.3 MHz is 10000/3333 ns."""
    return NS_PER_US / Fraction(repr(float(clock_mhz)))


def lanes(slices: list[Slice]) -> list[list[Slice]]:
    """The slices in rows without overlaps, each in order of start; as few rows as can be."""
    rows: list[list[Slice]] = []
    free: list[int] = []  # numbers of rows; the first one is taken
    busy: list[tuple[int, int]] = []  # (until when, number of the row)
    for each in sorted(slices, key=lambda one: (one.start, one.end)):
        while busy and busy[0][0] <= each.start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if not free:
            rows.append([])
        row = heapq.heappop(free) if free else len(rows) - 1
        rows[row].append(each)
        heapq.heappush(busy, (each.end, row))
    return rows
