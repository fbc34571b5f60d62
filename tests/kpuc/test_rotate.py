"""Addresses of what ops stage: never in what lives, and where nothing was for the longest time."""

from itertools import pairwise

from formats.program import MemoryType
from kpuc.allocate import Interval
from kpuc.rotate import Rotation, rotated
from kpuc.staging import Staged

L1 = MemoryType.SRAM_L1


def addresses(rotation, sizes):
    """Of one buffer per op."""
    return [rotation.place(position, [size]) for position, size in enumerate(sizes)]


def test_buffers_of_ops_in_turn_go_round():
    # three of 100 fit 300; the fourth goes where the first was, which is the longest ago
    assert addresses(Rotation([], 300, 1), [100, 100, 100, 100]) == [[0], [100], [200], [0]]


def test_what_lives_there_is_left_alone():
    living = Interval("x", 100, first=0, last=1)
    first, second, third = addresses(Rotation([(living, 0)], 300, 1), [100, 100, 100])
    assert (first, second) == ([100], [200])
    assert third == [100]  # nothing is there since op 0, where x was since op 1


def test_what_will_live_there_is_kept_away_from():
    coming = Interval("y", 100, first=1, last=5)
    assert Rotation([(coming, 0)], 300, 1).place(0, [100]) == [200]


def test_buffers_of_one_op_do_not_overlap():
    found = Rotation([], 300, 1).place(0, [100, 50, 150])
    spans = sorted(zip(found, [100, 50, 150], strict=True))
    assert all(at + size <= later for (at, size), (later, _) in pairwise(spans))


def test_addresses_and_sizes_are_aligned():
    first, second = Rotation([], 256, 64).place(0, [65, 10])
    assert first % 64 == second % 64 == 0
    assert abs(first - second) >= 128 or second >= first + 128


def test_where_little_room_is_left_it_is_packed():
    """After a buffer in the middle, one of all bytes still fits, as do two that fill memory."""
    rotation = Rotation([], 300, 1)
    assert rotation.place(0, [100]) == [0]
    assert rotation.place(1, [300]) == [0]
    assert sorted(rotation.place(2, [200, 100])) in ([0, 200], [0, 100])


def test_what_does_not_fit_has_no_address():
    living = Interval("x", 250, first=0, last=9)
    assert Rotation([(living, 0)], 300, 1).place(0, [100]) is None
    assert rotated(["op"], [[Staged("w", 400, 1)]], L1, Rotation([], 300, 1)) is None


def test_every_buffer_is_listed_with_its_op_in_order():
    staged = [[Staged("x", 10, 1), Staged("w", 20, 2)], [Staged("y", 30, 1)]]
    found = rotated(["a", "b"], staged, L1, Rotation([], 300, 1))
    assert [(each.op_id, each.tensor_id, each.size_bytes, each.copies) for each in found] == [
        ("a", "x", 10, 1),
        ("a", "w", 20, 2),
        ("b", "y", 30, 1),
    ]
