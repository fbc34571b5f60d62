"""The tile search keeps to the document's rule and to the memories, and ranks by cycles."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.precision import KPUPrecision
from formats.program import TileConfig
from kpuc.tile import tile
from kpurun.buffers import l1_buffers, l2_buffers
from kpurun.tiles import tiling_problems
from kpurun.timing import estimate
from tests.kpurun.works import DRAM, L2, WORKS, conv, work_on

CONFIG = KPUConfig()
KIBIBYTE = 1024
MEBIBYTE = 1024 * 1024


def with_l1(size_bytes: int) -> KPUConfig:
    return replace(CONFIG, memory=replace(CONFIG.memory, sram_l1_bytes=size_bytes))


def total(buffers) -> int:
    return sum(buffer.size_bytes for buffer in buffers)


def assert_executable(work, tiling, l1_bytes, l2_budget_bytes):
    assert not list(tiling_problems(work, tiling))
    assert total(l1_buffers(work, tiling)) <= l1_bytes
    assert total(l2_buffers(work, tiling)) <= l2_budget_bytes


def test_what_fits_l1_is_not_cut():
    tiling = tile(conv(64, 14, 64, 3, 1, 1), CONFIG, MEBIBYTE)
    assert (tiling.tile_sizes, tiling.l2_tile_sizes, tiling.double_buffer) == ({}, {}, False)


def test_what_is_in_l2_is_cut_for_l1_only():
    work = conv(64, 56, 64, 3, 1, 1, memories=(L2, L2))
    tiling = tile(work, CONFIG, 0)
    assert tiling.tile_sizes
    assert tiling.double_buffer
    assert tiling.l2_tile_sizes == {}
    assert_executable(work, tiling, 256 * KIBIBYTE, 0)


def test_what_is_larger_than_l2_is_cut_twice():
    work = conv(64, 112, 64, 3, 1, 1, memories=(DRAM, DRAM, DRAM))  # maps of 1.6 MB each
    tiling = tile(work, CONFIG, 512 * KIBIBYTE)
    assert tiling.l2_tile_sizes
    assert_executable(work, tiling, 256 * KIBIBYTE, 512 * KIBIBYTE)


def test_a_view_has_no_tiles():
    assert tile(work_on("Reshape", [(2, 3)], {"shape": (6,)}), CONFIG, 0) == TileConfig()


def test_filters_are_cut_in_blocks_for_the_arrays():
    work = conv(512, 7, 512, 3, 1, 1)
    tiling = tile(work, CONFIG, MEBIBYTE)
    sizes = {**tiling.l2_tile_sizes, **tiling.tile_sizes}
    assert sizes["OC"] % 16 == 0


def test_a_deep_reduction_is_split_with_room_for_partial_sums():
    work = work_on("MatMul", [(512, 8192), (8192, 256)])
    tiling = tile(work, CONFIG, 0)
    assert tiling.tile_sizes["K"] < 8192
    assert tiling.loop_order[-1] == "K"
    assert any(buffer.is_accumulator for buffer in l1_buffers(work, tiling))
    assert_executable(work, tiling, 256 * KIBIBYTE, 0)


def test_few_blocks_share_their_reduction():
    """One block of outputs would leave fifteen arrays idle."""
    work = work_on("MatMul", [(16, 2048), (2048, 16)])
    tiling = tile(work, CONFIG, 0)
    assert tiling.reduction_split > 1
    alone = estimate(work, replace(tiling, reduction_split=1), CONFIG)
    assert estimate(work, tiling, CONFIG).total_cycles < alone.total_cycles


def test_the_first_tiling_that_fits_is_not_the_choice():
    work = conv(128, 28, 256, 3, 1, 1)
    first_fit = TileConfig({"OC": 1}, ("OC",), double_buffer=True)
    assert total(l1_buffers(work, first_fit)) > 0
    chosen = estimate(work, tile(work, CONFIG, MEBIBYTE), CONFIG)
    assert chosen.total_cycles < estimate(work, first_fit, CONFIG).total_cycles / 2


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from(sorted(WORKS)),
    l1_bytes=st.integers(7, 16).map(lambda bits: 3 << bits),
    l2_budget_bytes=st.integers(5, 14).map(lambda bits: 3 << bits),
)
def test_tiles_are_legal_and_fit_or_the_error_says_what_they_need(name, l1_bytes, l2_budget_bytes):
    work = WORKS[name]
    found = tiled_or_refused(work, with_l1(l1_bytes), l2_budget_bytes)
    if isinstance(found, TileConfig):
        assert_executable(work, found, l1_bytes, l2_budget_bytes)
        return
    assert found.memory_type == "SRAM"
    assert found.available in (l1_bytes, l2_budget_bytes)
    assert found.required > found.available


def tiled_or_refused(work, config, l2_budget_bytes) -> TileConfig | MemoryError:
    try:
        return tile(work, config, l2_budget_bytes)
    except MemoryError as error:
        return error


def test_more_room_is_never_worse():
    work = conv(64, 56, 64, 3, 1, 1, memories=(DRAM, DRAM, DRAM))
    budgets = [64 * KIBIBYTE, 256 * KIBIBYTE, MEBIBYTE]
    taken = [estimate(work, tile(work, CONFIG, each), CONFIG).total_cycles for each in budgets]
    assert taken == sorted(taken, reverse=True)


def test_the_search_knows_which_reductions_will_be_split():
    shapes = [(2, 62, 38, 10), (66, 62, 5, 5), (66,)]
    work = work_on("Conv", shapes, {"strides": (3, 3)}, memories=(DRAM, DRAM, DRAM, DRAM))
    arrays = replace(CONFIG.compute, systolic_rows=8, systolic_cols=8, compute_tiles=16)

    def cycles(gigabytes_per_second: float) -> int:
        memory = replace(
            CONFIG.memory, sram_l1_bytes=32 * KIBIBYTE, dram_bandwidth_gbps=gigabytes_per_second
        )
        config = replace(CONFIG, memory=memory, compute=arrays)
        return estimate(work, tile(work, config, 2 * MEBIBYTE), config).total_cycles

    assert cycles(100.0) <= cycles(51.2) <= cycles(25.6)


def test_the_error_names_what_the_smallest_tile_takes():
    work = work_on("Softmax", [(2, 100_000)], {"axis": 1})  # a row of 200 kB in, one out
    with pytest.raises(MemoryError) as caught:
        tile(work, CONFIG, 0)
    assert str(caught.value) == "SRAM memory exceeded: 391KB required, 256KB available"


def test_names_of_tensors_do_not_matter():
    work = conv(64, 56, 64, 3, 1, 1)
    renamed = replace(work, reads=tuple(replace(r, tensor_id="other") for r in work.reads))
    assert tile(work, CONFIG, MEBIBYTE) is tile(renamed, CONFIG, MEBIBYTE)


def test_every_kind_of_op_can_be_cut_small():
    for name, work in WORKS.items():
        tiling = tile(work, with_l1(2 * KIBIBYTE), 2 * KIBIBYTE)
        assert_executable(work, tiling, 2 * KIBIBYTE, 2 * KIBIBYTE), name


def resnet18():
    """ResNet-18 in FP16, weights in DRAM, maps in L2 but for the image and the scores."""
    yield conv(3, 224, 64, 7, 2, 3, bias=True, memories=(DRAM, DRAM, DRAM, L2))
    yield work_on(
        "MaxPool",
        [(1, 64, 112, 112)],
        {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1,) * 4},
    )
    for inputs, size, outputs in ((64, 56, 64), (64, 56, 128), (128, 28, 256), (256, 14, 512)):
        stride = 1 if inputs == outputs else 2
        yield conv(inputs, size, outputs, 3, stride, 1, bias=True)
        if stride == 2:
            yield conv(inputs, size, outputs, 1, 2, 0, bias=True)
        for _ in range(3):
            yield conv(outputs, size // stride, outputs, 3, 1, 1, bias=True)
    yield work_on("GlobalAveragePool", [(1, 512, 7, 7)])
    yield work_on(
        "Gemm", [(1, 512), (1000, 512), (1000,)], {"transB": 1}, memories=(L2, DRAM, DRAM, DRAM)
    )


def test_resnet18_comes_near_its_roofline():
    found = [estimate(work, tile(work, CONFIG, MEBIBYTE), CONFIG) for work in resnet18()]
    roofline = sum(each.roofline_cycles for each in found)
    assert sum(each.macs for each in found) == 1_814_073_344
    assert all(each.total_cycles >= each.roofline_cycles for each in found)
    assert sum(each.total_cycles for each in found) <= 1.25 * roofline


def test_int8_is_faster_than_fp16():
    works = [conv(64, 56, 64, 3, 1, 1, precision=p) for p in (KPUPrecision.INT8, KPUPrecision.FP16)]
    int8, fp16 = (estimate(w, tile(w, CONFIG, MEBIBYTE), CONFIG).total_cycles for w in works)
    assert int8 < 0.6 * fp16
