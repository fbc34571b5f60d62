"""Cycles: hand-worked cases, the peers' figures, and what must hold for every op and tiling."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.config import KPUConfig
from formats.errors import ConfigurationError
from formats.precision import KPUPrecision
from formats.profile import Bound
from formats.program import MemoryType, TileConfig
from kpurun.compute import TileShape, compute_cycles
from kpurun.machine import machine_of
from kpurun.ops.loopnest import Unit
from kpurun.sim.play import play
from kpurun.tiles import tile_commands
from kpurun.timing import OpEstimate, cycles, estimate
from kpurun.transfer import Transfer, dram_cycles, mover_cycles
from tests.kpurun.works import DRAM, L2, WORKS, conv, tilings, work_on

CONFIG = KPUConfig()
MACHINE = machine_of(CONFIG)
INT8 = KPUPrecision.INT8
WHOLE = TileConfig()


def configured(**changes) -> KPUConfig:
    """swkpu-v1 with fields of its memory, compute or timing part changed, e.g. timing__x=1."""
    config = CONFIG
    for name, value in changes.items():
        part, _, field = name.partition("__")
        config = replace(config, **{part: replace(getattr(config, part), **{field: value})})
    return config


def block(rows=16, columns=16, depth=64, batch=1, precision=INT8, lane_ops=0, split=1, read=0):
    return TileShape(
        unit=Unit.SYSTOLIC,
        precision=precision,
        batch=batch,
        rows=rows,
        columns=columns,
        depth=depth,
        points=batch * rows * columns * depth,
        lane_ops=0,
        outputs=batch * rows * columns,
        drain_lane_ops=lane_ops,
        drain_read_bytes=read,
        reduction_split=split,
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (block(), 94 + 16),  # 64 + (16 + 16 - 2) to the last MAC, 16 rows drain
        (block(rows=1), 64 + 15 + 1),  # one row: 16 columns of skew, one row drains
        (block(depth=1), 1 + 30 + 16),
        (block(columns=16 * 16), 94 + 16),  # 16 blocks, one for each array
        (block(columns=17 * 16), 94 + 64 + 16),  # one array gets two: the second in its wake
        (block(rows=17, columns=15 * 16), 64 + 30 + 15 + 64 + 16 - 15),  # 30 blocks: two each
        (block(batch=32), 94 + 64 + 16),
        (block(precision=KPUPrecision.FP16), 128 + 30 + 16),  # half rate: K' = 128
        (block(precision=KPUPrecision.POSIT8), 86 + 30 + 16),  # ceil(64 / 0.75)
        (block(precision=KPUPrecision.POSIT16), 171 + 30 + 16),  # ceil(64 / 0.375)
        (block(lane_ops=7), 64 + 30 + 112),  # 16·16·7 / 16 lanes
        (block(columns=32 * 16, lane_ops=7), 64 + 30 + 112 + 112),  # the drain is the bottleneck
        (block(read=1024), 110 + 2),  # a residual: 1024 B at 512 B per cycle beside the streamers
        # Over 4 arrays: 16 + 30, 16 rows out, 256·3 / (4·16) = 12 -> 16 to merge, 3 parts of 1 KiB
        (block(split=4), 16 + 30 + 16 + 16 + 6),
    ],
)
def test_systolic_blocks_worked_by_hand(shape, expected):
    assert compute_cycles(shape, MACHINE) == expected


def test_vector_work_is_dealt_over_all_lanes():
    shape = block()._replace(unit=Unit.VECTOR, points=1000, lane_ops=3, outputs=100)
    assert compute_cycles(shape._replace(drain_lane_ops=2), MACHINE) == 13  # 3200 / 256


@pytest.mark.parametrize(
    ("transfer", "bursts", "expected"),
    [
        # 16 start-up + 27 (53.5 ns to the first word) + 64 bursts · 1.25 cycles · 3904 / 3624
        (Transfer(1, 4096, 64, 4096), 64, 43 + 87),
        # 64 runs of 32 B, 1 KiB apart: a burst each, but 32.x rows · 2.25 cycles · 1.077
        (Transfer(64, 32, 64, 64512 + 32), 64, 43 + 87),
        # 64 runs of 2 B, 64 KiB apart: 64 rows · 36 ns / 8 banks · 1.077
        (Transfer(64, 2, 64, 63 * 65536 + 2), 64, 43 + 156),
    ],
)
def test_dram_transfers_worked_by_hand(transfer, bursts, expected):
    assert transfer.blocks(64) == bursts
    assert dram_cycles(transfer, MACHINE) == expected


def test_a_long_stream_runs_near_peak():
    nbytes = 1 << 20
    busy = dram_cycles(Transfer(1, nbytes, 64, nbytes), MACHINE)
    assert 0.92 < nbytes / 51.2 / busy < 0.93  # refresh takes 7.2 %


@pytest.mark.parametrize(
    ("transfer", "lines"),
    [
        (Transfer(1, 4096, 64, 4096), 64),
        (Transfer(10, 64, 32, 10000), 15),  # half of them straddle two lines
        (Transfer(10, 2, 2, 10000), 10),
        (Transfer(32, 2, 4, 126), 3),  # all within two lines and a straddle
    ],
)
def test_the_block_mover_moves_whole_lines(transfer, lines):
    assert transfer.blocks(64) == lines
    assert mover_cycles(transfer, MACHINE) == 8 + -(-lines * 64 // 512)


def test_channels_last_makes_channel_tiles_cheap_and_rows_dear():
    def dram_of(order, tiles):
        work = work_on("Add", [(1, 64, 32, 32)] * 2, memories=(DRAM,) * 3, order=order)
        return estimate(work, TileConfig(l2_tile_sizes=tiles, l2_loop_order=tuple(tiles)), CONFIG)

    by_channel = {order: dram_of(order, {"D1": 1}).dma_cycles for order in ("NCHW", "NHWC")}
    by_row = {order: dram_of(order, {"D2": 1}).dma_cycles for order in ("NCHW", "NHWC")}
    assert by_channel["NHWC"] > 5 * by_channel["NCHW"]
    assert by_row["NCHW"] > by_row["NHWC"]


# SCALE-Sim v3, one 16×16 array, output stationary: ceil(M/16)·ceil(N/16)·(K + 30) - 1
SCALE_SIM = replace(
    configured(compute__compute_tiles=1), timing=replace(CONFIG.timing, overlap_folds=False)
)
ONE_TILE = configured(compute__compute_tiles=1)


def resnet18_layers():
    """(channels, size, filters, kernel, stride, pad) of every convolution."""
    yield 3, 224, 64, 7, 2, 3
    for inputs, size, outputs in ((64, 56, 64), (64, 56, 128), (128, 28, 256), (256, 14, 512)):
        stride = 1 if inputs == outputs else 2
        yield inputs, size, outputs, 3, stride, 1
        if stride == 2:
            yield inputs, size, outputs, 1, 2, 0
        for _ in range(3):
            yield outputs, size // stride, outputs, 3, 1, 1


def fully_connected():
    return work_on("Gemm", [(1, 512), (1000, 512)], {"transB": 1}, precision=INT8)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (conv(3, 224, 64, 7, 2, 3, precision=INT8), 555_071),
        (conv(64, 56, 64, 3, 1, 1, precision=INT8), 475_103),
        (fully_connected(), 34_145),
    ],
)
def test_without_overlap_one_array_takes_scale_sims_cycles(work, expected):
    assert estimate(work, WHOLE, SCALE_SIM).compute_cycles == expected


def test_resnet18_takes_scale_sims_cycles():
    works = [conv(*layer, precision=INT8) for layer in resnet18_layers()]
    total = sum(estimate(each, WHOLE, SCALE_SIM).compute_cycles for each in works)
    assert total + estimate(fully_connected(), WHOLE, SCALE_SIM).compute_cycles == 8_005_533


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 64),
    size=st.integers(5, 40),
    filters=st.integers(17, 80),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
)
def test_overlapped_folds_lie_between_the_peak_and_scale_sim(
    channels, size, filters, kernel, stride
):
    work = conv(channels, size, filters, kernel, stride, kernel // 2, precision=INT8)
    work = replace(work, epilogue_lane_ops=0)  # SCALE-Sim knows no drain edge
    overlapped = estimate(work, WHOLE, ONE_TILE)
    in_turn = estimate(work, WHOLE, SCALE_SIM)
    assert -(-overlapped.macs // 256) <= overlapped.compute_cycles <= in_turn.compute_cycles


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(st.data())
def test_roofline_estimate_pipeline_and_serial_sum_come_in_this_order(data):
    work = WORKS[data.draw(st.sampled_from(sorted(WORKS)), "op")]
    tiling = data.draw(tilings(work), "tiling")
    found = estimate(work, tiling, CONFIG)
    lengths = [cycles(command, CONFIG) for command in tile_commands(work, tiling)]
    serial = sum(lengths) + CONFIG.timing.dispatch_cycles
    assert found.roofline_cycles <= found.total_cycles
    assert found.compute_cycles >= 0
    assert found.memory_stall_cycles >= 0
    parts = (found.compute_cycles, found.memory_stall_cycles, found.other_cycles)
    assert found.total_cycles == sum(parts)
    played = play(work, tiling, CONFIG)
    if not tiling.double_buffer and found.steps > 1:
        assert found.total_cycles == played.total_cycles == serial
        return
    assert found.total_cycles <= played.total_cycles <= serial
    assert found.compute_cycles == played.compute_cycles


@pytest.mark.parametrize("name", sorted(WORKS))
def test_counters_are_consistent(name):
    found = estimate(WORKS[name], WHOLE, CONFIG)
    assert found.l1_hits == 0  # one tile: everything is moved in once
    assert found.l2_misses + found.l2_hits == found.l1_misses
    assert found.dram_burst_bytes >= found.dram_read_bytes + found.dram_write_bytes
    assert found.steps == 1


def test_a_view_costs_nothing():
    work = work_on("Reshape", [(2, 3, 4)], {"shape": (6, 4)})
    assert work.nest.unit is Unit.VIEW
    assert estimate(work, WHOLE, CONFIG) == OpEstimate()
    assert list(tile_commands(work, WHOLE)) == []


def test_lines_that_stay_in_l1_are_hits():
    work = conv(16, 8, 64)  # x is 2 KiB: 32 lines; w 2 KiB; out 8 KiB
    tiling = TileConfig({"OC": 16}, ("OC",), True)
    found = estimate(work, tiling, CONFIG)
    assert found.l1_hits == 3 * 32  # x stays for the other three tiles of filters
    assert found.l1_misses == 32 + 32
    assert (found.l2_hits, found.l2_misses) == (32, 32)


def test_partial_sums_are_added_in_l1():
    work = conv(64, 8, 16)
    tiling = TileConfig({"IC": 16}, ("IC",), True)
    found = estimate(work, tiling, CONFIG)
    assert found.accumulations == 3 * 16 * 64  # 4 parts, 3 additions of 16 maps of 8×8
    split = estimate(work, replace(tiling, reduction_split=2), CONFIG)
    assert split.accumulations == 7 * 16 * 64


@pytest.mark.parametrize(
    ("work", "bound"),
    [
        (conv(64, 28, 64, 3, 1, 1), Bound.COMPUTE),
        (work_on("Transpose", [(64, 640)], {"perm": (1, 0)}), Bound.SRAM),
        (work_on("Gemm", [(1, 512), (1000, 512)], {"transB": 1}, memories=(L2, DRAM)), Bound.DRAM),
        (work_on("Softmax", [(64, 1000)], {"axis": 1}), Bound.VECTOR),
        (work_on("Relu", [(1, 3)]), Bound.DISPATCH),
    ],
)
def test_the_bound_is_the_resource_that_works_longest(work, bound):
    assert estimate(work, WHOLE, CONFIG).bound_by is bound


CONV = conv(64, 28, 64, 3, 1, 1)
FETCHED = conv(64, 8, 64, 3)
ADDED = work_on("Add", [(64, 3, 300)] * 2)


@pytest.mark.parametrize(
    ("changes", "work"),
    [
        ({"compute__compute_tiles": 8}, CONV),
        ({"compute__systolic_rows": 8, "compute__compute_tiles": 16}, CONV),
        ({"compute__systolic_cols": 8, "compute__compute_tiles": 16}, CONV),
        ({"compute__tops_fp16": 1.0}, CONV),
        ({"compute__vector_lanes": 8}, work_on("Softmax", [(64, 1000)], {"axis": 1})),
        ({"compute__clock_mhz": 1000.0}, FETCHED),  # DRAM is slower by as many of its cycles
        ({"memory__dram_bandwidth_gbps": 12.8}, FETCHED),
        ({"memory__sram_bandwidth_gbps": 128.0}, ADDED),
        ({"memory__cache_line_bytes": 128}, ADDED),
        ({"timing__sram_bytes_per_cycle": 64}, ADDED),
        ({"timing__block_mover_startup_cycles": 80}, ADDED),
        ({"timing__dma_startup_cycles": 160}, FETCHED),
        ({"timing__dispatch_cycles": 640}, FETCHED),
    ],
)
def test_a_slower_machine_takes_longer(changes, work):
    tiling = TileConfig({"D1": 1}, ("D1",), True) if work is ADDED else WHOLE
    slower = estimate(work, tiling, configured(**changes)).total_cycles
    assert slower > estimate(work, tiling, CONFIG).total_cycles


@pytest.mark.parametrize(
    "change",
    [
        {"row_activate_ns": 40.0},
        {"precharge_ns": 40.0},
        {"column_latency_ns": 40.0},
        {"burst_bytes": 256},
        {"row_bytes": 64},
        {"banks": 4},
        {"refresh_interval_ns": 1952.0},
        {"refresh_cycle_ns": 560.0},
    ],
)
def test_every_dram_constant_counts(change):
    dram = replace(CONFIG.timing.dram, **change)
    strided = Transfer(64, 128, 64, 63 * 3008 + 128)
    slower = machine_of(configured(timing__dram=dram))
    assert dram_cycles(strided, slower) > dram_cycles(strided, MACHINE)


def test_dram_that_only_refreshes_is_refused():
    dram = replace(CONFIG.timing.dram, refresh_cycle_ns=4000.0)
    with pytest.raises(ConfigurationError, match="refresh"):
        machine_of(configured(timing__dram=dram))


def test_a_decimal_bandwidth_stays_exact():
    # 25.6 GB/s at 500 MHz: 256 bytes in five cycles, to the byte
    assert [MACHINE.dram.cycles(n) for n in (0, 51, 52, 256, 257)] == [0, 1, 2, 5, 6]


def test_commands_name_their_memories():
    work = conv(4, 6, 8, memories=(DRAM, DRAM, DRAM))
    paths = [
        (command.source, command.target)
        for command in tile_commands(work, WHOLE)
        if hasattr(command, "source")
    ]
    l1 = MemoryType.SRAM_L1
    assert paths == [(DRAM, L2), (DRAM, L2), (L2, l1), (L2, l1), (l1, L2), (L2, DRAM)]
