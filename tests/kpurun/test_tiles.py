"""Tile commands cover the op once, move what is needed, and agree with their closed form."""

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.config import KPUConfig
from formats.precision import DType
from formats.program import MemoryType, TileConfig
from kpurun.buffers import l1_buffers, l1_bytes, l2_buffers, l2_bytes
from kpurun.loops import resolve
from kpurun.machine import machine_of
from kpurun.ops.loopnest import Unit
from kpurun.ops.types import TensorType
from kpurun.pipeline import computing, flow_of
from kpurun.plan import plan_of
from kpurun.tiles import Compute, Load, Store, tile_commands, tiling_problems
from kpurun.timing import cycles, estimate
from kpurun.transfer import Transfer
from kpurun.work import Work
from tests.kpurun.works import DRAM, L2, WORKS, conv, tilings, work_on

CONFIG = KPUConfig()
L1 = MemoryType.SRAM_L1
THOROUGH = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Work, TileConfig]:
    name = draw(st.sampled_from(sorted(WORKS)))
    return name, WORKS[name], draw(tilings(WORKS[name]))


@THOROUGH
@given(cases())
def test_the_closed_form_equals_the_commands(case):
    _, work, tiling = case
    listed = Counter()
    for command in tile_commands(work, tiling):
        if isinstance(command, Compute):
            listed["compute"] += cycles(command, CONFIG)
            continue
        side = "read" if isinstance(command, Load) else "write"
        level = 0 if DRAM in (command.source, command.target) else 1
        key = (side, command.operand, level)
        listed[key] += cycles(command, CONFIG)
        listed[*key, "bytes"] += command.transfer.bytes
        listed[*key, "transfers"] += 1

    plan, loops, machine = plan_of(work), resolve(work.nest, tiling), machine_of(CONFIG)
    flow = flow_of(plan, loops, machine)
    closed = Counter(compute=computing(plan, loops, machine).one_by_one)
    for side, traffics in (("read", flow.reads), ("write", flow.writes)):
        for operand, levels in enumerate(traffics):
            for level, traffic in enumerate(levels):
                closed[side, operand, level] = traffic.moved.cycles
                closed[side, operand, level, "bytes"] = traffic.moved.bytes
                closed[side, operand, level, "transfers"] = traffic.moved.transfers
    assert +closed == +listed


@THOROUGH
@given(cases())
def test_tiles_cover_every_point_once(case):
    _, work, tiling = case
    if work.nest.unit is Unit.MOVE:
        return
    points = np.zeros([dim.size for dim in work.nest.dims], int)
    for command in tile_commands(work, tiling):
        if isinstance(command, Compute):
            ranges = zip(command.starts, command.sizes, strict=True)
            points[tuple(slice(start, start + size) for start, size in ranges)] += 1
    assert (points == 1).all()


@THOROUGH
@given(cases())
def test_every_result_is_stored_once_on_each_level(case):
    _, work, tiling = case
    for target in (L2, DRAM):
        stored = [np.zeros(operand.shape, int) for operand in work.writes]
        for command in tile_commands(work, tiling):
            if isinstance(command, Store) and command.target is target:
                stored[command.operand][tuple(slice(*span) for span in command.spans)] += 1
        for operand, counts in zip(work.writes, stored, strict=True):
            expected = 1 if target is L2 or operand.memory_type is DRAM else 0
            assert (counts == expected).all()


@THOROUGH
@given(cases())
def test_what_a_tile_needs_is_in_l1_when_it_computes(case):
    """And came through L2, inside what L2 holds of it."""
    name, work, tiling = case
    if any(operand.access.scattered for operand in work.reads):
        return
    held: dict[tuple[MemoryType, int], tuple] = {}
    names = [dim.name for dim in work.nest.dims]
    for command in tile_commands(work, tiling):
        if isinstance(command, Load):
            if command.source is L2 and work.reads[command.operand].memory_type is DRAM:
                for (low, high), (first, end) in zip(
                    command.spans, held[L2, command.operand], strict=True
                ):
                    assert first <= low <= high <= end
            held[command.target, command.operand] = command.spans
        if isinstance(command, Compute):
            start = dict(zip(names, command.starts, strict=True))
            size = dict(zip(names, command.sizes, strict=True))
            for number, operand in enumerate(work.reads):
                needed = tuple(axis.span(start, size) for axis in operand.access.axes)
                if all(low < high for low, high in needed):
                    assert held[L1, number] == needed, name


@THOROUGH
@given(cases())
def test_pieces_fit_their_buffers(case):
    _, work, tiling = case
    plan, loops = plan_of(work), resolve(work.nest, tiling)
    for memory, buffers, total in (
        (L1, l1_buffers(work, tiling), l1_bytes(plan, loops)),
        (L2, l2_buffers(work, tiling), l2_bytes(plan, loops)),
    ):
        sizes = {each.tensor_id: each.tile_bytes for each in buffers if not each.is_accumulator}
        for command in tile_commands(work, tiling):
            if isinstance(command, Load) and command.target is memory:
                assert command.transfer.bytes <= sizes[command.tensor_id]
            if isinstance(command, Store) and command.source is memory:
                assert command.transfer.bytes <= sizes[command.tensor_id]
        assert sum(buffer.size_bytes for buffer in buffers) == total


def spans_of(work: Work, tiling: TileConfig, operand: int) -> list[tuple]:
    return [
        command.spans
        for command in tile_commands(work, tiling)
        if isinstance(command, Load) and command.operand == operand and command.target is L1
    ]


def test_halos_overlap_and_padding_is_not_fetched():
    work = conv(2, 8, 3, 3, 1, 1)  # rows 0..7, windows reach from one row above to one below
    tiling = TileConfig({"OH": 3}, ("OH",), True)
    rows = [spans[2] for spans in spans_of(work, tiling, 0)]
    assert rows == [(0, 4), (2, 7), (5, 8)]


def test_an_operand_that_stays_is_not_loaded_again():
    work = conv(4, 8, 32)
    by_filters = TileConfig({"OC": 16, "OH": 4}, ("OC", "OH"), True)
    by_rows = TileConfig({"OC": 16, "OH": 4}, ("OH", "OC"), True)
    loads = {
        tiling.loop_order: [len(spans_of(work, tiling, operand)) for operand in (0, 1)]
        for tiling in (by_filters, by_rows)
    }
    assert loads == {("OC", "OH"): [4, 2], ("OH", "OC"): [2, 4]}


def test_an_operand_stays_over_the_border_of_an_l2_tile_too():
    work = conv(4, 8, 32)
    tiling = TileConfig(l2_tile_sizes={"OC": 8}, l2_loop_order=("OC",), double_buffer=True)
    assert len(spans_of(work, tiling, 0)) == 1


def test_double_buffers_hold_two_tiles_of_what_changes():
    work = conv(4, 8, 32, bias=True)
    tiling = TileConfig({"OH": 4}, ("OH",), double_buffer=True)
    found = {
        buffer.tensor_id: (buffer.tile_bytes, buffer.copies) for buffer in l1_buffers(work, tiling)
    }
    assert found == {
        "in0": (4 * 4 * 8 * 2, 2),  # 4 channels, 4 rows of 8, fp16
        "in1": (32 * 4 * 2, 1),
        "in2": (32 * 4, 1),  # fp32
        "out0": (32 * 4 * 8 * 2, 2),
    }
    single = TileConfig({"OH": 4}, ("OH",), double_buffer=False)
    assert {buffer.copies for buffer in l1_buffers(work, single)} == {1}
    ahead = TileConfig({"OH": 2}, ("OH",), double_buffer=True, prefetch_distance=2)
    assert max(buffer.copies for buffer in l1_buffers(work, ahead)) == 3


def test_partial_sums_take_four_bytes_each():
    work = conv(64, 8, 32)
    tiling = TileConfig({"IC": 16}, ("IC",), double_buffer=True)
    (sums,) = [buffer for buffer in l1_buffers(work, tiling) if buffer.is_accumulator]
    assert (sums.tensor_id, sums.tile_bytes, sums.copies) == ("out0", 32 * 64 * 4, 1)


def test_partial_sums_of_64_bit_integers_take_eight_bytes_each():
    work = work_on("ReduceSum", [TensorType((6, 10), DType.INT64)], {"axes": (0,)})
    tiling = TileConfig({"D0": 2}, ("D0",))
    (sums,) = [buffer for buffer in l1_buffers(work, tiling) if buffer.is_accumulator]
    assert sums.tile_bytes == 8 * 10


def test_what_is_loaded_has_a_buffer_even_where_strides_leave_all_of_it_out():
    work = conv(1, 1, 1, kernel=1, stride=2, pad=1)  # windows stand before and behind the pixel
    loaded = {c.tensor_id for c in tile_commands(work, TileConfig()) if isinstance(c, Load)}
    assert loaded <= {buffer.tensor_id for buffer in l1_buffers(work, TileConfig())}


def test_a_single_weight_of_four_bits_has_a_buffer():
    work = conv(1, 4, 1)
    weight = replace(work.reads[1], dtype=DType.INT4)
    work = replace(work, reads=(work.reads[0], weight))
    assert "in1" in {buffer.tensor_id for buffer in l1_buffers(work, TileConfig())}


def test_only_what_lives_in_dram_is_staged_in_l2():
    work = conv(4, 8, 32, memories=(L2, DRAM, DRAM))
    tiling = TileConfig({"OC": 8}, ("OC",), True, l2_tile_sizes={"OC": 16}, l2_loop_order=("OC",))
    found = {
        buffer.tensor_id: (buffer.tile_bytes, buffer.copies) for buffer in l2_buffers(work, tiling)
    }
    assert found == {"in1": (16 * 4 * 2, 2), "out0": (16 * 64 * 2, 2)}


@pytest.mark.parametrize(
    ("tiling", "problem"),
    [
        (TileConfig({"X": 1}, ("X",)), "names X, which is no dimension"),
        (TileConfig({"OC": 0}, ("OC",)), "a tile of 0 does not fit the 32 of OC"),
        (TileConfig({"OC": 64}, ("OC",)), "a tile of 64 does not fit the 32 of OC"),
        (TileConfig({"OC": 8}), "OC is split but not in the loop order"),
        (TileConfig({"OC": 8}, ("OC", "OC")), "does not name dimensions once each"),
        (TileConfig({"OC": 8}, ("OC", "Y")), "does not name dimensions once each"),
        (TileConfig({"OC": 8, "IC": 2}, ("IC", "OC")), "before its reduction is complete"),
        (
            TileConfig({"OC": 8}, ("OC",), l2_tile_sizes={"IC": 2}, l2_loop_order=("IC",)),
            "before its reduction is complete",
        ),
        (
            TileConfig({"OC": 16}, ("OC",), l2_tile_sizes={"OC": 8}, l2_loop_order=("OC",)),
            "a tile of 16 does not fit the 8 of OC",
        ),
        (TileConfig(prefetch_distance=0), "must be at least 1"),
        (TileConfig(reduction_split=0), "must be at least 1"),
    ],
)
def test_a_tiling_that_cannot_be_executed_says_why(tiling, problem):
    work = conv(4, 8, 32)
    assert problem in "; ".join(tiling_problems(work, tiling))
    with pytest.raises(ValueError, match="no legal tiling"):
        list(tile_commands(work, tiling))


def test_a_dimension_that_is_whole_for_a_reason_is_not_split():
    work = WORKS["softmax"]
    assert list(tiling_problems(work, TileConfig({"D2": 10}, ("D2",)))) == ["D2 cannot be split"]


def test_tiles_of_several_groups_hold_all_their_filters():
    work = conv(8, 7, 12, 3, 1, 1, group=4)
    torn = TileConfig({"G": 2, "OC": 2}, ("G", "OC"))
    assert list(tiling_problems(work, torn)) == ["tiles of these sizes would write elements twice"]
    assert not list(tiling_problems(work, TileConfig({"G": 1, "OC": 2}, ("G", "OC"))))


def test_tiles_of_several_groups_hold_all_their_filters_in_l2_too():
    work = conv(8, 7, 12, 3, 1, 1, group=4, memories=(DRAM, DRAM))
    torn = TileConfig({"G": 1, "OC": 2}, ("G",), False, l2_tile_sizes={"G": 2, "OC": 2})
    torn = replace(torn, l2_loop_order=("G", "OC"))
    assert list(tiling_problems(work, torn)) == ["tiles of these sizes would write elements twice"]


def test_gathered_rows_are_fetched_one_by_one_unless_all_are():
    def first_load(count: int) -> Transfer:
        indices = TensorType((count,), DType.INT64)
        work = work_on("Gather", [(9, 40), indices], {"axis": 0})
        return next(tile_commands(work, None)).transfer

    assert first_load(3)[:2] == (3, 80)
    assert first_load(30)[:2] == (1, 9 * 80)


@pytest.mark.parametrize(
    ("order", "tile", "runs", "run_bytes"),
    [
        ("NCHW", {"D1": 4}, 1, 4 * 36 * 2),  # whole maps follow one another
        ("NHWC", {"D1": 4}, 36, 4 * 2),  # four channels of every pixel
        ("NCHW", {"D2": 2}, 8, 2 * 6 * 2),  # two rows of every map
        ("NHWC", {"D2": 2}, 1, 2 * 6 * 8 * 2),
        ("NHWC", {"D2": 2, "D3": 3}, 2, 3 * 8 * 2),
    ],
)
def test_the_layout_decides_how_long_the_runs_are(order, tile, runs, run_bytes):
    work = work_on("Relu", [(1, 8, 6, 6)], order=order)
    tiling = TileConfig(tile, tuple(tile))
    first = next(tile_commands(work, tiling))
    assert (first.transfer.runs, first.transfer.run_bytes) == (runs, run_bytes)


def test_a_staged_tile_is_packed_in_l2():
    """Its L1 tiles are cut from the L2 tile, not from the tensor: longer runs."""
    work = work_on("Relu", [(1, 8, 6, 6)], memories=(DRAM, L2))
    tiling = TileConfig({"D1": 4}, ("D1",), l2_tile_sizes={"D2": 2}, l2_loop_order=("D2",))
    loads = [c for c in tile_commands(work, tiling) if isinstance(c, Load)]
    assert [(load.transfer.runs, load.transfer.run_bytes) for load in loads[:2]] == [
        (8, 24),
        (1, 96),
    ]


def test_the_order_of_tiles_is_the_loop_order():
    work = conv(4, 4, 32)
    tiling = TileConfig({"OC": 16, "OH": 2}, ("OH", "OC"))
    starts = [c.starts for c in tile_commands(work, tiling) if isinstance(c, Compute)]
    assert [(start[2], start[1]) for start in starts] == list(product((0, 2), (0, 16)))


def test_steps_count_the_tiles():
    for name, work in WORKS.items():
        if work.nest.unit is Unit.MOVE:
            continue
        dim = next(dim for dim in work.nest.dims if dim.size > 1 and dim.splittable)
        tiling = TileConfig({dim.name: 1}, (dim.name,))
        if any(tiling_problems(work, tiling)):
            continue
        computes = sum(isinstance(c, Compute) for c in tile_commands(work, tiling))
        assert estimate(work, tiling, CONFIG).steps == computes == dim.size, name
