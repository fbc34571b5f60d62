"""Metrics of a program: every field filled, the ops' figures adding up to them exactly."""

import math
from dataclasses import fields, replace
from math import fsum

import numpy as np
import pytest

from formats.precision import KPUPrecision
from formats.profile import OP_COLUMNS, OP_FIGURES, Bound, KPUPerformanceMetrics
from formats.program import Buffer, KPUProgram, MemoryLayout, MemoryType, TileConfig
from kpurun.machine import machine_of
from kpurun.metrics import bound_cycles, estimates, events, live_l2_bytes, summarize
from tests.kpurun.programs import ProgramBuilder

SUMMED = {
    "total_cycles": ["cycles"],
    "total_time_us": ["time_us"],
    "compute_cycles": ["compute_cycles"],
    "memory_stall_cycles": ["memory_stall_cycles"],
    "other_cycles": ["other_cycles"],
    "dram_reads_bytes": ["dram_read_bytes"],
    "dram_writes_bytes": ["dram_write_bytes"],
    "sram_reads_bytes": ["l1_read_bytes", "l2_read_bytes"],
    "sram_writes_bytes": ["l1_write_bytes", "l2_write_bytes"],
    "l1_hits": ["l1_hits"],
    "l1_misses": ["l1_misses"],
    "l2_hits": ["l2_hits"],
    "l2_misses": ["l2_misses"],
}


@pytest.fixture(scope="module")
def program() -> KPUProgram:
    """Convolution, pool, view, product; the pooled maps live in L2."""
    rng = np.random.default_rng(0)
    builder = ProgramBuilder()
    x = builder.input("x", (1, 3, 16, 16))
    filters = builder.constant("filters", rng.standard_normal((8, 3, 3, 3), np.float32))
    weights = builder.constant("weights", rng.standard_normal((10, 512), np.float32))
    maps = builder.op("Conv", x, filters, pads=(1, 1, 1, 1), name="conv")
    pooled = builder.op("MaxPool", maps, kernel_shape=(2, 2), strides=(2, 2), name="pool")
    row = builder.op("Reshape", pooled, shape=(1, 512), name="view")
    scores = builder.op("Gemm", row, weights, transB=1, name="scores")
    made = builder.program(scores)
    in_l2 = MemoryLayout(MemoryType.SRAM_L2, 0)
    tensors = dict(made.tensors)
    tensors[pooled] = replace(tensors[pooled], layout=in_l2)
    tensors[row] = replace(tensors[row], layout=in_l2, alias_of=pooled)
    tiling = TileConfig({"OH": 4}, ("OH",), double_buffer=True)
    ops = tuple(replace(op, tiling=tiling if op.id == "conv" else None) for op in made.ops)
    staging = Buffer("conv", "x", MemoryType.SRAM_L2, 4096, 1536)
    return replace(made, ops=ops, tensors=tensors, buffers=(staging,))


@pytest.fixture(scope="module")
def metrics(program) -> KPUPerformanceMetrics:
    return summarize(program, estimates(program))


def test_every_field_is_filled(metrics):
    empty = [each.name for each in fields(metrics) if not getattr(metrics, each.name)]
    assert empty == []


def test_cycles_and_time_agree(metrics, program):
    parts = metrics.compute_cycles + metrics.memory_stall_cycles + metrics.other_cycles
    assert metrics.total_cycles == parts
    assert metrics.total_time_us == metrics.total_cycles / program.target_config.compute.clock_mhz


@pytest.mark.parametrize("total", SUMMED)
def test_the_ops_add_up_to_the_totals(metrics, total):
    found = sum(row[key] for row in metrics.op_metrics.values() for key in SUMMED[total])
    assert found == pytest.approx(getattr(metrics, total), rel=1e-12)


def test_energy_adds_up(metrics, program):
    rows = metrics.op_metrics.values()
    parts = [value for row in rows for key, value in row.items() if key.endswith("_pj")]
    assert fsum(parts) == pytest.approx(2 * fsum(row["energy_pj"] for row in rows))
    assert metrics.total_energy_uj == fsum(row["energy_pj"] for row in rows) / 1e6
    assert metrics.energy_per_inference_mj == metrics.total_energy_uj / 1000
    assert metrics.average_power_watts == metrics.total_energy_uj / metrics.total_time_us
    compute = program.target_config.compute
    assert compute.idle_watts < metrics.average_power_watts < compute.tdp_watts


def test_utilisations_are_shares_of_the_peak(metrics):
    macs = 8 * 3 * 9 * 256 + 10 * 512
    assert metrics.compute_utilization == macs / 2048 / metrics.total_cycles  # FP16: half rate
    moved = metrics.dram_reads_bytes + metrics.dram_writes_bytes
    assert metrics.memory_bandwidth_utilization == pytest.approx(
        moved / 51.2 / metrics.total_cycles
    )
    assert all(0 <= row["utilization"] <= 1 for row in metrics.op_metrics.values())


def test_lanes_that_take_no_time_do_not_count():
    builder = ProgramBuilder()
    x = builder.input("x", (1, 1, 64, 64))
    filters = builder.constant("filters", np.ones((16, 1, 1, 1), np.float32))
    bias = builder.constant("bias", np.ones(16, np.float32))
    program = builder.program(builder.op("Conv", x, filters, bias))
    config = program.target_config
    few = replace(config.compute, vector_lanes=1, compute_tiles=1)
    folded = replace(config.timing, overlap_folds=False)
    program = replace(program, target_config=replace(config, compute=few, timing=folded))

    (row,) = summarize(program, estimates(program)).op_metrics.values()

    assert row["lane_ops"] > row["cycles"]
    assert 0 < row["utilization"] <= 1


def test_rows_have_every_figure_and_views_cost_nothing(metrics):
    for op_id, row in metrics.op_metrics.items():
        assert set(OP_FIGURES) <= row.keys()
        assert all(type(value) is float for value in row.values())
        assert Bound(int(row["bound_by"])) is not Bound.NONE or op_id == "view"
        assert row["cycles"] >= row["roofline_cycles"]
    assert set(metrics.op_metrics["view"].values()) == {0.0}


def test_an_op_is_estimated_in_its_tiles(program):
    conv = program.ops[0]
    assert estimates(program)[conv.id].steps == 4
    whole = replace(program, ops=(replace(conv, tiling=None), *program.ops[1:]))
    assert estimates(whole)[conv.id].steps == 1


def test_every_op_pays_for_its_own_precision(program):
    """Multiply-accumulates in INT8 take 0.25 pJ instead of 0.4 pJ and fewer cycles of an array."""
    conv, *rest = program.ops
    mixed = replace(program, ops=(replace(conv, precision=KPUPrecision.INT8), *rest))
    before, after = (
        summarize(program, estimates(program)).op_metrics,
        summarize(mixed, estimates(mixed)).op_metrics,
    )
    macs = before["conv"]["macs"]
    constants = program.target_config.energy
    assert before["conv"]["mac_pj"] == pytest.approx(macs * constants.mac_fp16_pj)
    assert after["conv"]["mac_pj"] == pytest.approx(macs * constants.mac_int8_pj)
    assert after["conv"]["compute_cycles"] < before["conv"]["compute_cycles"]
    assert after["scores"] == before["scores"]


def test_utilisation_is_of_the_peak_of_each_op(program, metrics):
    config = program.target_config
    machine = machine_of(config)
    conv, *rest = program.ops
    other = replace(program, ops=(replace(conv, precision=KPUPrecision.INT8), *rest))
    mixed = summarize(other, estimates(other))
    cycles = machine.macs(KPUPrecision.INT8).time(int(metrics.op_metrics["conv"]["macs"]))
    cycles += machine.macs(KPUPrecision.FP16).time(int(metrics.op_metrics["scores"]["macs"]))
    assert mixed.compute_utilization == pytest.approx(cycles / mixed.total_cycles)


def test_events_are_one_row_per_op(program, metrics):
    columns = events(program, metrics)
    assert set(OP_COLUMNS) <= columns.keys()
    assert {len(column) for column in columns.values()} == {4}
    assert {str(column.dtype) for column in columns.values()} == {"int64", "float64"}
    starts, ends = columns["op.start_cycle"], columns["op.end_cycle"]
    assert starts[0] == 0
    assert (starts[1:] == ends[:-1]).all()
    assert ends[-1] == metrics.total_cycles
    assert columns["op.energy_pj"].sum() == pytest.approx(metrics.total_energy_uj * 1e6)


def test_l2_is_used_while_its_tensors_live(program):
    # staging while the convolution runs; 8 maps of 8×8 in fp16 from the pool to the product
    assert live_l2_bytes(program) == [1536, 1024, 1024, 1024]


def test_an_empty_program_idles():
    builder = ProgramBuilder()
    program = builder.program(builder.input("x", (2, 3)))
    metrics = summarize(program, estimates(program))
    assert metrics.total_cycles == 0
    assert metrics.average_power_watts == program.target_config.compute.idle_watts
    assert {len(column) for column in events(program, metrics).values()} == {0}


def test_the_bound_is_the_longest_of_arrays_lanes_and_compulsory_traffic():
    """A 1×1 convolution of 16 to 32 channels on 8×8: arrays take 64·16·32 / 2048 = 16 cycles, so
    that the traffic decides."""
    builder = ProgramBuilder()
    weight = builder.constant("w", np.ones((32, 16, 1, 1)))
    program = builder.program(builder.op("Conv", builder.input("x", (1, 16, 8, 8)), weight))
    sizes = sum(tensor.size_bytes for tensor in program.tensors.values())
    assert bound_cycles(program) == math.ceil(sizes / 51.2)
