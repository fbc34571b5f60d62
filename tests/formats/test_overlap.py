"""The sweep finds an overlap exactly where comparing every pair finds one."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from formats.overlap import Placement, overlaps
from formats.program import MemoryType

MEMORIES = [MemoryType.SRAM_L1, MemoryType.SRAM_L2]


@st.composite
def placements(draw):
    found = []
    for index in range(draw(st.integers(0, 12))):
        first = draw(st.integers(-1, 6))
        found.append(
            Placement(
                name=f"t{index}",
                memory_type=draw(st.sampled_from(MEMORIES)),
                start=draw(st.integers(0, 30)),
                size=draw(st.integers(1, 12)),
                first=first,
                last=first + draw(st.integers(0, 4)),
            )
        )
    return found


def collide(one: Placement, other: Placement) -> bool:
    return (
        one.memory_type is other.memory_type
        and one.start < other.start + other.size
        and other.start < one.start + one.size
        and one.first <= other.last
        and other.first <= one.last
    )


@given(placements())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_an_overlap_is_found_if_and_only_if_there_is_one(placed):
    found = list(overlaps(placed))
    assert all(collide(*pair) for pair in found)
    assert bool(found) == any(collide(*pair) for pair in combinations(placed, 2))


def test_neighbours_in_space_and_in_time_do_not_overlap():
    l2 = MemoryType.SRAM_L2
    beside = [Placement("a", l2, 0, 64, 0, 3), Placement("b", l2, 64, 64, 0, 3)]
    after = [Placement("a", l2, 0, 64, 0, 3), Placement("b", l2, 0, 64, 4, 4)]
    assert not list(overlaps(beside))
    assert not list(overlaps(after))
    assert list(overlaps([beside[0], Placement("c", l2, 63, 1, 3, 9)]))
