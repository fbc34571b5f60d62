"""One op played: a hand-worked case, and what holds for every op in every tiling."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.config import KPUConfig
from formats.program import MemoryType, TileConfig
from kpurun.buffers import l1_buffers, l2_buffers
from kpurun.machine import machine_of
from kpurun.sim.play import PlayedOp, play
from kpurun.sim.tasks import Resource
from kpurun.tiles import Compute, Load, Store, tile_commands
from tests.kpurun.works import DRAM, L2, WORKS, conv, tilings, work_on

CONFIG = KPUConfig()
L1 = MemoryType.SRAM_L1
ALL_TILINGS = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def started(played: PlayedOp, kind: type, tensor_id: str = "") -> list[int]:
    """When the commands of a kind that move a tensor start."""
    return [
        task.start
        for task in played.tasks
        if isinstance(task.command, kind) and getattr(task.command, "tensor_id", "") == tensor_id
    ]


def test_four_tiles_of_a_convolution_one_after_another_behind_its_weights():
    """1×1 convolution of 16 channels to 64, 8×8 positions, 16 filters a tile, weights in DRAM.

    64 dispatch; 2 KiB of weights by DMA: 43 + ⌈32 bursts · 1.25 · 1.077⌉ = 87; a tile of 512 B
    through the mover: 8 + 1 = 9, so the first tile starts at 160. A tile is 4 blocks on 16 arrays
    and takes 78 (K' 32 + skew 30 + drain 16): the second, 9 later, takes arrays that are free. Two
    copies: the third is loaded when the first tile ends, at 238 + 12 for the store of its results,
    and so on. The last ends at 280 + 78, and its 2 KiB leave in 12: 370.
    """
    played = play(conv(16, 8, 64), TileConfig({"OC": 16}, ("OC",), True), CONFIG)
    assert started(played, Compute) == [160, 169, 259, 280]
    assert played.total_cycles == 280 + 78 + 12
    assert played.other_cycles == 64
    assert played.dma_stall_cycles == 87  # the maps come in beside the weights


def test_a_tile_is_not_loaded_before_its_copy_is_free():
    """With two copies, the third tile of weights comes when the first has been multiplied."""
    played = play(conv(16, 8, 64), TileConfig({"OC": 16}, ("OC",), True), CONFIG)
    _, *loads = started(played, Load, "in1")
    computes = [task for task in played.tasks if isinstance(task.command, Compute)]
    assert loads[2] >= computes[0].end
    assert loads[3] >= computes[1].end


def test_a_longer_prefetch_lets_tiles_come_earlier():
    near, far = (
        play(conv(16, 8, 64), TileConfig({"OC": 16}, ("OC",), True, distance), CONFIG)
        for distance in (1, 2)
    )
    assert started(far, Load, "in1")[3] < started(near, Load, "in1")[3]
    assert far.total_cycles <= near.total_cycles


def test_without_double_buffers_one_command_follows_another():
    played = play(conv(16, 8, 64), TileConfig({"OC": 16}, ("OC",), False), CONFIG)
    assert all(one.end == other.start for one, other in pairwise(played.tasks))


@pytest.mark.parametrize("tile", [{}, {"M": 16}, {"N": 16}])
def test_a_tensor_that_is_read_twice_has_buffers_for_both(tile):
    """x·x takes what x·y takes: each operand has tiles of its own."""
    apart = work_on("MatMul", [(64, 64), (64, 64)], memories=(DRAM, DRAM, DRAM))
    first, second = apart.reads
    same = replace(apart, reads=(first, replace(second, tensor_id=first.tensor_id)))
    tiling = TileConfig(tile, tuple(tile), True)
    assert play(same, tiling, CONFIG).total_cycles == play(apart, tiling, CONFIG).total_cycles


def test_a_view_takes_no_time():
    assert play(work_on("Reshape", [(2, 3, 4)], {"shape": (6, 4)}), None, CONFIG) == PlayedOp()


@pytest.mark.parametrize("name", sorted(WORKS))
@given(data=st.data())
@ALL_TILINGS
def test_the_bus_and_the_mover_work_on_one_command_at_a_time(name, data):
    work = WORKS[name]
    played = play(work, data.draw(tilings(work)), CONFIG)
    for resource in (Resource.DMA, Resource.MOVER):
        own = sorted((t.start, t.end) for t in played.tasks if t.resource is resource)
        assert all(one[1] <= other[0] for one, other in pairwise(own))


@pytest.mark.parametrize("name", sorted(WORKS))
@given(data=st.data())
@ALL_TILINGS
def test_arrays_do_no_more_than_all_of_them_can(name, data):
    work = WORKS[name]
    played = play(work, data.draw(tilings(work)), CONFIG)
    tiles = [task for task in played.tasks if task.parts is not None]
    occupied = sum(task.parts.parts * task.parts.occupied_cycles for task in tiles)
    assert occupied <= played.compute_cycles * machine_of(CONFIG).tiles


@pytest.mark.parametrize("name", sorted(WORKS))
@given(data=st.data())
@ALL_TILINGS
def test_every_cycle_is_computing_stalled_or_dispatch(name, data):
    work = WORKS[name]
    played = play(work, data.draw(tilings(work)), CONFIG)
    stalls = played.dma_stall_cycles + played.mover_stall_cycles
    assert played.total_cycles == played.compute_cycles + stalls + played.other_cycles
    assert played.other_cycles == CONFIG.timing.dispatch_cycles  # never is nothing going on
    assert min(played.compute_cycles, played.dma_stall_cycles, played.mover_stall_cycles) >= 0


@pytest.mark.parametrize("name", sorted(WORKS))
@given(data=st.data())
@ALL_TILINGS
def test_commands_are_played_once_and_take_what_they_cost(name, data):
    work = WORKS[name]
    tiling = data.draw(tilings(work))
    played = play(work, tiling, CONFIG)
    assert [task.command for task in played.tasks] == list(tile_commands(work, tiling))
    for task in played.tasks:
        took = task.end - task.start
        # a tile may have to share the arrays, and parts of a tile need not wait for the last
        assert took == task.length or task.parts is not None
        assert task.parts is None or took >= task.parts.occupied_cycles + task.parts.tail_cycles


@pytest.mark.parametrize("name", sorted(WORKS))
@given(data=st.data())
@ALL_TILINGS
def test_no_more_tiles_of_an_operand_are_on_chip_than_it_has_buffers(name, data):
    """From the start of a load to the last start of what needs it: the steps before the next."""
    work = WORKS[name]
    tiling = data.draw(tilings(work))
    played = play(work, tiling, CONFIG)
    copies = {
        (buffer.memory_type, buffer.tensor_id): buffer.copies
        for buffer in (*l1_buffers(work, tiling), *l2_buffers(work, tiling))
        if not buffer.is_accumulator
    }
    for place, count in copies.items():
        loads = [
            task
            for task in played.tasks
            if isinstance(task.command, Load)
            and (task.command.target, task.command.tensor_id) == place
        ]
        for load, later in zip(loads, loads[count:], strict=False):
            following = loads[loads.index(load) + 1].command.step
            users = [
                task.end
                for task in played.tasks
                if load.command.step <= task.command.step < following
                and (
                    isinstance(task.command, Compute)
                    if place[0] is L1
                    else _reads_from(task.command, place)
                )
            ]
            assert later.start >= max(users, default=0)


def _reads_from(command, place):
    return isinstance(command, Load) and (command.source, command.tensor_id) == place


def test_results_leave_l2_when_the_whole_tile_is_there():
    work = conv(16, 8, 64, memories=(L2, L2, DRAM))
    tiling = TileConfig({"OC": 16}, ("OC",), True, 1, {"OC": 32}, ("OC",))
    played = play(work, tiling, CONFIG)
    stores = [task for task in played.tasks if isinstance(task.command, Store)]
    to_dram = [task for task in stores if task.command.target is DRAM]
    from_l1 = [task for task in stores if task.command.target is L2]
    assert to_dram[0].start >= from_l1[1].end
    assert len(to_dram) == 2
