"""Tiled execution: every op in tiles, on bytes, is what the reference engine computes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.errors import FileError, UnsupportedOpError
from formats.precision import DType, KPUPrecision
from formats.program import KPUProgram, MemoryType, TileConfig
from kpurun.engine.tiled import check_tiles
from kpurun.engine.tiled.kernels import KERNELS
from kpurun.metrics import estimates, summarize
from kpurun.ops import OPS
from tests.kpurun.coded_programs import coded, in_posits
from tests.kpurun.programs import ProgramBuilder
from tests.kpurun.tiled_programs import between_copies, in_random_tiles, placed, tiled
from tests.op_cases import CASES

DRAM, L2 = MemoryType.DRAM, MemoryType.SRAM_L2
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
FEW = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
MORE = settings(FEW, max_examples=25)
RNG = np.random.default_rng(3)


def some(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def constants(case, data) -> set[int]:
    """Which operands are weights; the first never is."""
    count = len(case.operands)
    return data.draw(st.sets(st.integers(1, count - 1))) if count > 1 else set()


def test_every_op_of_the_machine_can_be_executed_in_tiles():
    assert KERNELS.keys() == OPS.keys()


@EVERY_CASE
@FEW
@given(data=st.data())
def test_an_op_in_fp16_does_in_any_tiles_what_the_reference_does(case, data):
    program, inputs = between_copies(case, case.arrays(), constants(case, data))
    check_tiles(data.draw(in_random_tiles(program)), inputs)


@EVERY_CASE
@FEW
@given(data=st.data())
def test_an_op_on_codes_does_in_any_tiles_what_the_reference_does(case, data):
    program, inputs = between_copies(case, case.arrays(), constants(case, data), coded_too=True)
    check_tiles(data.draw(in_random_tiles(program)), inputs)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[KPUProgram, dict[str, np.ndarray]]:
    """A convolution of any geometry on codes, with a residual and an activation behind it."""
    groups = draw(st.sampled_from((1, 1, 2, 3)))
    channels, filters = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel, strides, dilations = (draw(st.tuples(*[st.integers(1, 3)] * 2)) for _ in range(3))
    pads = draw(st.tuples(*[st.integers(0, 2)] * 4))
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    size = [r + draw(st.integers(0, 7)) for r in reach]
    builder = ProgramBuilder()
    x = builder.op("Identity", builder.input("x", (draw(st.integers(1, 2)), channels, *size)))
    w = builder.constant("w", some(filters, channels // groups, *kernel))
    b = builder.constant("b", some(filters), unrounded=True)
    shape = {"group": groups, "strides": strides, "dilations": dilations, "pads": pads}
    first = builder.op("Conv", x, w, b, **shape)
    stages = [("Add", first, 0), ("Swish", {})]
    second = builder.op("Conv", x, w, b, epilogue=stages, **shape)
    program = builder.program(builder.op("Identity", second))
    return program, {"x": some(*program.tensors["x"].shape)}


@MORE
@given(data=st.data())
def test_a_convolution_of_any_geometry_is_the_reference_in_any_tiles(data):
    program, inputs = data.draw(convolutions())
    coding = data.draw(st.sampled_from(("fp16", "int8", "int4", "int4 in groups")))
    if coding != "fp16":
        dtype = DType.INT8 if coding == "int8" else DType.INT4
        group_size = 4 if coding == "int4 in groups" else 0
        program = coded(program, inputs, weights=dtype, group_size=group_size)
    check_tiles(data.draw(in_random_tiles(program)), inputs)


@MORE
@given(data=st.data())
def test_a_product_of_codes_in_groups_is_the_reference_in_any_tiles(data):
    rows, depth, columns = (data.draw(st.integers(1, 20)) for _ in range(3))
    builder = ProgramBuilder()
    x = builder.op("Identity", builder.input("x", (rows, depth)))
    w = builder.constant("w", some(columns, depth))
    bias = builder.constant("b", some(columns), unrounded=True)
    made = builder.op("Gemm", x, w, bias, transB=1, alpha=0.5, beta=-2.0)
    inputs = {"x": some(rows, depth)}
    program = builder.program(builder.op("Identity", made))
    group_size = data.draw(st.integers(0, depth))
    program = coded(program, inputs, weights=DType.INT4, group_size=group_size)
    check_tiles(data.draw(in_random_tiles(program)), inputs)


@pytest.mark.parametrize("dtype", [DType.POSIT8, DType.POSIT16])
@pytest.mark.parametrize("scale", [None, 0.25])
@FEW
@given(data=st.data())
def test_posits_in_any_tiles_are_the_reference(dtype, scale, data):
    program, inputs = data.draw(convolutions())
    check_tiles(data.draw(in_random_tiles(in_posits(program, dtype, scale))), inputs)


@FEW
@given(data=st.data())
def test_bfloat16_in_any_tiles_is_the_reference(data):
    builder = ProgramBuilder(KPUPrecision.BF16)
    x = builder.op("Identity", builder.input("x", (3, 40)))
    made = builder.op("MatMul", x, builder.constant("w", some(40, 7)))
    program = builder.program(builder.op("Softmax", made, axis=0))
    check_tiles(data.draw(in_random_tiles(program)), {"x": some(3, 40)})


def in_tiles(double_buffer: bool) -> tuple[KPUProgram, dict[str, np.ndarray]]:
    """A convolution from DRAM to DRAM, cut on both levels."""
    builder = ProgramBuilder()
    x = builder.input("x", (1, 8, 12, 12))
    w = builder.constant("w", some(16, 8, 3, 3))
    made = builder.op("Conv", x, w, pads=(1, 1, 1, 1), name="conv")
    program = placed(builder.program(made), {})
    tiling = TileConfig(
        tile_sizes={"OC": 8, "OH": 3, "IC": 4},
        loop_order=("OC", "OH", "IC"),
        double_buffer=double_buffer,
        l2_tile_sizes={"OC": 8, "OH": 6},
        l2_loop_order=("OC", "OH"),
    )
    return tiled(program, {"conv": tiling}), {"x": some(1, 8, 12, 12)}


@pytest.mark.parametrize("double_buffer", [False, True])
def test_the_bytes_that_are_moved_are_those_of_the_estimate(double_buffer):
    program, inputs = in_tiles(double_buffer)
    moved = check_tiles(program, inputs).moved_bytes
    metrics = summarize(program, estimates(program))
    assert moved[DRAM, L2] == metrics.dram_reads_bytes
    assert moved[L2, DRAM] == metrics.dram_writes_bytes


def test_the_report_counts_ops_views_and_tiles():
    builder = ProgramBuilder()
    x = builder.input("x", (4, 6))
    flat = builder.op("Flatten", builder.op("Relu", x, name="relu"), axis=0)
    program = placed(builder.program(builder.op("Identity", flat)), {})
    tensors = program.tensors | {
        flat: replace(
            program.tensors[flat], alias_of="relu_out", layout=program.tensors["relu_out"].layout
        )
    }
    rows = TileConfig(tile_sizes={"D0": 3}, loop_order=("D0",))
    program = tiled(replace(program, tensors=tensors), {"relu": rows})
    report = check_tiles(program, {"x": some(4, 6)})
    assert (report.ops, report.views, report.tiles) == (3, 1, 2 + 1)


def test_a_view_that_has_a_place_of_its_own_is_copied_there():
    builder = ProgramBuilder()
    x = builder.input("x", (4, 6), DType.INT32)
    program = tiled(placed(builder.program(builder.op("Reshape", x, shape=(24,))), {}), {})
    report = check_tiles(program, {"x": np.arange(24, dtype=np.int32).reshape(4, 6)})
    assert (report.views, report.moved_bytes[DRAM, L2]) == (0, 4 * 24)


def test_sums_of_64_bits_are_exact_over_several_tiles():
    builder = ProgramBuilder()
    made = builder.op("ReduceSum", builder.input("x", (64, 32), DType.INT64), axes=(0,), name="sum")
    parts = TileConfig(tile_sizes={"D0": 5}, loop_order=("D0",))
    program = tiled(placed(builder.program(made), {}), {"sum": parts})
    check_tiles(program, {"x": RNG.integers(-(2**62), 2**62, (64, 32))})


def test_a_program_without_buffers_is_refused_by_name():
    program, inputs = in_tiles(double_buffer=False)
    with pytest.raises(FileError, match="op 'conv' has no sram_l1 buffer for 'x'"):
        check_tiles(replace(program, buffers=()), inputs)


def test_tiles_that_outgrow_their_buffers_are_refused_by_name():
    program, inputs = in_tiles(double_buffer=False)
    larger = tiled(program, {"conv": TileConfig()})
    with pytest.raises(FileError, match=r"the sram_l1 buffer of 'x' for op 'conv' has .* tiles"):
        check_tiles(replace(larger, buffers=program.buffers), inputs)


def test_an_op_without_a_kernel_is_refused_by_name(monkeypatch):
    program, inputs = in_tiles(double_buffer=False)
    monkeypatch.delitem(KERNELS, "Conv")
    with pytest.raises(UnsupportedOpError, match="Conv"):
        check_tiles(program, inputs)
