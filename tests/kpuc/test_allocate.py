"""Allocation: no two live intervals share a byte, and the peak stays near the largest live set."""

import time
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpuc.allocate import Interval, allocate, largest_live_set

ALIGNMENT = 64

spans = st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(1, 5000))
interval_lists = st.lists(spans, min_size=1, max_size=40).map(
    lambda drawn: [
        Interval(f"t{index}", size, first, first + length)
        for index, (first, length, size) in enumerate(drawn)
    ]
)


def live_together(one: Interval, other: Interval) -> bool:
    return one.first <= other.last and other.first <= one.last


@given(interval_lists)
def test_live_intervals_never_overlap(intervals):
    addresses = allocate(intervals, ALIGNMENT).addresses
    for index, one in enumerate(intervals):
        for other in intervals[index + 1 :]:
            if live_together(one, other):
                start, end = addresses[one.name], addresses[one.name] + one.size
                assert end <= addresses[other.name] or addresses[other.name] + other.size <= start


@given(interval_lists)
def test_every_address_is_aligned(intervals):
    assert all(
        address % ALIGNMENT == 0 for address in allocate(intervals, ALIGNMENT).addresses.values()
    )


@given(interval_lists)
def test_the_peak_is_never_below_what_must_live_together(intervals):
    allocation = allocate(intervals, 1)
    assert allocation.bound_bytes == largest_live_set(intervals, 1) <= allocation.peak_bytes


@given(interval_lists)
def test_the_same_intervals_get_the_same_addresses(intervals):
    assert allocate(intervals, ALIGNMENT) == allocate(list(intervals), ALIGNMENT)


def test_a_chain_reuses_the_bytes_of_what_has_died():
    # each tensor lives from its producer to the next op: two live at a time, 128 + 128 B
    chain = [Interval(f"t{index}", 128, index, index + 1) for index in range(10)]
    assert allocate(chain, ALIGNMENT).peak_bytes == 256


def network(depth: int, skip: int, staging: int, seed: int) -> list[Interval]:
    """What a network with skip connections keeps in L2: results that the next op reads, every
    `skip`-th one read again later, and buffers for the one op that stages through them."""
    random = Random(seed)
    found = []
    size = 400_000
    for op in range(depth):
        size = max(4_000, size * random.choice([1, 1, 1, 0.5, 0.75, 2 if size < 100_000 else 1]))
        last = op + (random.randint(2, 6) if op % skip == 0 else 1)
        found.append(Interval(f"t{op}", int(size), op, last))
        found += [
            Interval(f"b{op}.{index}", random.randint(64, staging), op, op)
            for index in range(random.randint(1, 3))
        ]
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("depth", "skip", "staging"), [(20, 2, 300_000), (60, 3, 50_000)])
def test_networks_peak_within_a_tenth_of_the_largest_live_set(depth, skip, staging, seed):
    allocation = allocate(network(depth, skip, staging, seed), ALIGNMENT)
    assert allocation.peak_bytes <= 1.1 * allocation.bound_bytes


def test_a_thousand_intervals_take_moments():
    started = time.process_time()
    allocation = allocate(network(400, 5, 100_000, seed=1), ALIGNMENT)
    assert time.process_time() - started < 5
    assert allocation.peak_bytes <= 1.1 * allocation.bound_bytes


def test_nothing_takes_nothing():
    assert (allocate([], ALIGNMENT).peak_bytes, allocate([], ALIGNMENT).bound_bytes) == (0, 0)


def test_hill_climbing_reaches_the_bound_where_sorting_by_size_alone_does_not():
    # A short wide tensor between two long narrow ones: sizes 3, 2, 2 of 64 B
    intervals = [
        Interval("a", 128, 0, 1),
        Interval("b", 192, 1, 2),
        Interval("c", 128, 2, 3),
        Interval("d", 64, 0, 3),
    ]
    allocation = allocate(intervals, ALIGNMENT)
    assert allocation.peak_bytes == allocation.bound_bytes == 128 + 192 + 64
