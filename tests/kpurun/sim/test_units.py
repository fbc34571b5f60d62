"""Who works on what: parts dealt over arrays, lanes beside what drains from those."""

from kpurun.compute import ArrayWork
from kpurun.sim.tasks import Queue, Resource, Task
from kpurun.sim.units import Arrays, Lanes
from kpurun.tiles import Compute
from tests.kpurun.test_timing import block

PLACE = (True, True)


def tile(parts, occupied=100, tail=20, is_first=True, drain=16, reads=0):
    """A systolic tile to be computed."""
    place = type("Place", (), {"is_first": is_first, "is_last": True})()
    command = Compute(0, (), (), place, block())
    work = ArrayWork(parts, occupied, tail, drain, reads)
    return Task(command, Resource.COMPUTE, Queue.ARRAYS, 0, work)


def vector(length):
    return Task(tile(1).command, Resource.COMPUTE, Queue.LANES, length)


def four_arrays():
    return Arrays(4, Lanes(4))


def ran(unit, task, ready=0):
    unit.run(task, ready)
    return task.start, task.end


def test_the_busiest_array_decides():
    # 9 parts on 4 arrays: 3 rounds; the last part starts at 200 and ends at 200 + 100 + 20
    assert ran(four_arrays(), tile(9)) == (0, 320)


def test_the_next_tile_takes_the_arrays_that_are_left_over():
    arrays = four_arrays()
    ran(arrays, tile(5))  # one array until 200, three until 100
    assert ran(arrays, tile(3)) == (100, 220)


def test_many_parts_are_dealt_as_if_one_by_one():
    """2 arrays, one of them 30 behind: 7 parts of 10 fill up the gap first, then take turns."""
    arrays = Arrays(2, Lanes(2))
    ran(arrays, tile(1, occupied=30, tail=0))
    # starts: 0 10 20 | 30 30 | 40 40, so the last ends at 50
    assert ran(arrays, tile(7, occupied=10, tail=0)) == (0, 50)


def test_a_tile_that_must_not_overlap_waits_for_all_arrays_and_takes_all():
    arrays, alone = four_arrays(), Task(tile(1).command, Resource.COMPUTE, Queue.ARRAYS, 50)
    ran(arrays, tile(1))
    assert ran(arrays, alone) == (120, 170)
    assert ran(arrays, tile(1))[0] == 170


def test_sums_are_added_up_after_the_tile_before_has_left_them():
    arrays = four_arrays()
    ran(arrays, tile(1))  # ends at 120
    assert ran(arrays, tile(1, is_first=False)) == (0, 136)  # its drain of 16 comes after


def test_reads_of_the_drain_edge_hold_every_array_up():
    arrays = four_arrays()
    ran(arrays, tile(1, reads=7))
    assert ran(arrays, tile(1))[0] == 7


def test_what_drains_from_the_arrays_takes_its_lanes_first():
    """A tile of 4 parts drains 16 · 4 / 4 arrays = 16 cycles of all lanes over its 120 cycles.
    Vector work of 60 beside it meets half of them: it takes 68."""
    lanes = Lanes(4)
    ran(Arrays(4, lanes), tile(4))
    assert ran(lanes, vector(60)) == (0, 68)


def test_a_vector_tile_that_runs_already_takes_longer_when_a_tile_begins_to_drain():
    lanes, work = Lanes(4), vector(60)
    ran(lanes, work)
    ran(Arrays(4, lanes), tile(4))
    assert work.end == 68


def test_drains_that_are_over_take_no_lanes():
    lanes = Lanes(4)
    ran(Arrays(4, lanes), tile(4))
    assert ran(lanes, vector(60), ready=120) == (120, 180)
