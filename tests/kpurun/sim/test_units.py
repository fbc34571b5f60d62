"""Who works on what: parts dealt over arrays, loads ahead in the gaps of the DRAM bus."""

from kpurun.compute import ArrayWork
from kpurun.sim.tasks import Resource, Task
from kpurun.sim.units import Arrays, Bus
from kpurun.tiles import Compute
from tests.kpurun.test_timing import block

PLACE = (True, True)


def tile(parts, occupied=100, tail=20, is_first=True, drain=16, reads=0):
    """A systolic tile to be computed."""
    place = type("Place", (), {"is_first": is_first, "is_last": True})()
    command = Compute(0, (), (), place, block())
    work = ArrayWork(parts, occupied, tail, drain, reads)
    return Task(command, Resource.COMPUTE, 0, work)


def vector(length):
    return Task(tile(1).command, Resource.COMPUTE, length)


def load(length, ahead=0):
    return Task(None, Resource.DMA, length, ahead=ahead)


def ran(arrays, task, ready=0):
    arrays.run(task, ready)
    return task.start, task.end


def test_the_busiest_array_decides():
    # 9 parts on 4 arrays: 3 rounds; the last part starts at 200 and ends at 200 + 100 + 20
    assert ran(Arrays(4), tile(9)) == (0, 320)


def test_the_next_tile_takes_the_arrays_that_are_left_over():
    arrays = Arrays(4)
    ran(arrays, tile(5))  # one array until 200, three until 100
    assert ran(arrays, tile(3)) == (100, 220)


def test_many_parts_are_dealt_as_if_one_by_one():
    """2 arrays, one of them 30 behind: 7 parts of 10 fill up the gap first, then take turns."""
    arrays = Arrays(2)
    ran(arrays, tile(1, occupied=30, tail=0))
    # starts: 0 10 20 | 30 30 | 40 40, so the last ends at 50
    assert ran(arrays, tile(7, occupied=10, tail=0)) == (0, 50)


def test_vector_work_waits_for_all_arrays_and_takes_all():
    arrays = Arrays(4)
    ran(arrays, tile(1))
    assert ran(arrays, vector(50)) == (120, 170)
    assert ran(arrays, tile(1))[0] == 170


def test_sums_are_added_up_after_the_tile_before_has_left_them():
    arrays = Arrays(4)
    ran(arrays, tile(1))  # ends at 120
    assert ran(arrays, tile(1, is_first=False)) == (0, 136)  # its drain of 16 comes after


def test_reads_of_the_drain_edge_hold_every_array_up():
    arrays = Arrays(4)
    ran(arrays, tile(1, reads=7))
    assert ran(arrays, tile(1))[0] == 7


def test_a_load_ahead_fills_the_gaps_between_the_loads_of_the_running_op():
    bus, ahead, own = Bus(), load(50), load(10)
    bus.offer(1, ahead)
    bus.run(own, ready=30)
    assert (own.start, own.end) == (30, 40)  # it does not wait
    bus.idle_until(100)
    assert (ahead.start, ahead.end) == (0, 60)  # 30 before and 20 after


def test_the_nearest_op_is_loaded_ahead_first():
    bus, far, near = Bus(), load(50), load(50)
    bus.offer(2, far)
    bus.offer(1, near)
    bus.idle_until(80)
    assert (near.start, near.end) == (0, 50)
    assert (far.start, far.end) == (50, -1)


def test_what_has_not_come_when_its_op_begins_is_loaded_then():
    bus, ahead = Bus(), load(50)
    bus.offer(1, ahead)
    bus.idle_until(20)
    bus.claim(1)
    bus.run(ahead, ready=20)
    assert (ahead.start, ahead.end) == (0, 50)
