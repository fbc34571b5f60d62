"""Addresses for things that live from one op to another, so that the highest byte used is low.

The lower bound is the largest live set: no placement can peak below it. Greedy best fit in a few
orders comes within some per cent of it; a hill climb over the order (as in Arm's Vela, "tensor
allocation by hill climbing") usually closes the rest.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

CLIMB_STEPS = 256  # orders tried at most
CLIMB_WORK = 400_000  # intervals placed at most: keeps large programs quick


@dataclass(frozen=True)
class Interval:
    """Something that needs `size` bytes from op `first` to op `last`, both included."""

    name: str
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class Allocation:
    """Addresses by name, the highest byte used, and the largest live set."""

    addresses: dict[str, int]
    peak_bytes: int
    bound_bytes: int


def aligned(size: int, alignment: int) -> int:
    """`size` rounded up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def largest_live_set(intervals: Sequence[Interval], alignment: int) -> int:
    """Bytes that live at the fullest moment, sizes rounded up to the alignment."""
    changes: dict[int, int] = {}
    for interval in intervals:
        size = aligned(interval.size, alignment)
        changes[interval.first] = changes.get(interval.first, 0) + size
        changes[interval.last + 1] = changes.get(interval.last + 1, 0) - size
    return max(accumulate(changes[moment] for moment in sorted(changes)), default=0)


def allocate(intervals: Sequence[Interval], alignment: int) -> Allocation:
    """Addresses without overlap of live intervals; the same intervals get the same addresses.

    Sizes are rounded up to `alignment` (bytes), which peak and bound count.
    """
    sizes = [aligned(interval.size, alignment) for interval in intervals]
    neighbours = _neighbours(intervals)
    bound = largest_live_set(intervals, alignment)
    orders = _first_orders(intervals, sizes)
    tried = [(_place(order, sizes, neighbours), order) for order in orders]
    addresses, order = min(tried, key=lambda pair: _peak(pair[0], sizes))
    if _peak(addresses, sizes) > bound:
        addresses = _climb(order, addresses, sizes, neighbours, bound)
    named = {interval.name: at for interval, at in zip(intervals, addresses, strict=True)}
    return Allocation(named, _peak(addresses, sizes), bound)


def _neighbours(intervals: Sequence[Interval]) -> list[list[int]]:
    """Per interval, the numbers of those that live at the same time as it at some moment."""
    found: list[list[int]] = [[] for _ in intervals]
    live: list[int] = []
    for number in sorted(range(len(intervals)), key=lambda each: intervals[each].first):
        first = intervals[number].first
        live = [other for other in live if intervals[other].last >= first]
        for other in live:
            found[number].append(other)
            found[other].append(number)
        live.append(number)
    return found


def _first_orders(intervals: Sequence[Interval], sizes: list[int]) -> list[list[int]]:
    """By size, by size × life, by life, by birth; ties by birth and place in the list."""
    life = [interval.last - interval.first + 1 for interval in intervals]
    birth = [interval.first for interval in intervals]
    numbers = range(len(intervals))
    return [
        sorted(numbers, key=lambda each: (-sizes[each], birth[each])),
        sorted(numbers, key=lambda each: (-sizes[each] * life[each], birth[each])),
        sorted(numbers, key=lambda each: (-life[each], -sizes[each], birth[each])),
        sorted(numbers, key=lambda each: (birth[each], -sizes[each])),
    ]


def _place(order: list[int], sizes: list[int], neighbours: list[list[int]]) -> list[int]:
    """Each in turn at the bottom of the tightest gap that holds it, between those placed before
    that live with it; above all of them if there is none. Addresses by number."""
    addresses, ends = [-1] * len(order), [0] * len(order)
    for number in order:
        size = sizes[number]
        placed = [other for other in neighbours[number] if addresses[other] >= 0]
        around = sorted([(addresses[other], ends[other]) for other in placed])
        top, best, best_gap = 0, -1, 0
        for start, end in around:
            gap = start - top
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = top, gap
            if end > top:
                top = end
        addresses[number] = top if best < 0 else best
        ends[number] = addresses[number] + size
    return addresses


def _peak(addresses: list[int], sizes: list[int]) -> int:
    return max((at + size for at, size in zip(addresses, sizes, strict=True)), default=0)


def _climb(
    order: list[int],
    addresses: list[int],
    sizes: list[int],
    neighbours: list[list[int]],
    bound: int,
) -> list[int]:
    """Swap the turn of an interval that carries the peak with an earlier neighbour's, and keep what
    is no worse. The random choices are the same in every run."""
    choose = random.Random(0).choice
    best, best_peak = addresses, _peak(addresses, sizes)
    for _ in range(min(CLIMB_STEPS, CLIMB_WORK // max(1, len(order)))):
        if best_peak <= bound:
            break
        stack = _stack_under_peak(best, sizes, neighbours)
        one = choose(stack)
        other = choose(neighbours[one] or stack)
        tried = order.copy()
        at, to = tried.index(one), tried.index(other)
        tried[at], tried[to] = other, one
        placed = _place(tried, sizes, neighbours)
        if _peak(placed, sizes) <= best_peak:
            order, best, best_peak = tried, placed, _peak(placed, sizes)
    return best


def _stack_under_peak(
    addresses: list[int], sizes: list[int], neighbours: list[list[int]]
) -> list[int]:
    """The interval that ends highest, and those it stands on, one upon another."""
    top = max(range(len(addresses)), key=lambda each: addresses[each] + sizes[each])
    stack = [top]
    for number in stack:  # grows while it is walked
        stack += [
            other
            for other in neighbours[number]
            if addresses[other] + sizes[other] == addresses[number] and other not in stack
        ]
    return stack
