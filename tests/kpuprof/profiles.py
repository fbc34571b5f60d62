"""A small profile made by hand: two ops, 300 cycles, figures that are easy to add up."""

from dataclasses import replace

import numpy as np

from formats.precision import DType, KPUPrecision
from formats.profile import Bound, KPUPerformanceMetrics, Profile, SimulationMode
from formats.program import (
    EpilogueStage,
    KPUOp,
    KPUProgram,
    KPUTensor,
    MemoryLayout,
    MemoryType,
    Quantization,
)


def figures(cycles: int, compute: int, bound: Bound, **other: float) -> dict[str, float]:
    row = {
        "cycles": cycles,
        "compute_cycles": compute,
        "memory_stall_cycles": cycles - compute - 10,
        "other_cycles": 10,
        "roofline_cycles": compute,
        "time_us": cycles / 500,
        "energy_pj": 2e6,
        "macs": 1000,
        "lane_ops": 0,
        "utilization": compute / cycles,
        "bound_by": bound,
        "dram_read_bytes": 64,
        "dram_write_bytes": 0,
        "l2_read_bytes": 128,
        "l2_write_bytes": 128,
        "l1_read_bytes": 256,
        "l1_write_bytes": 256,
    }
    return {key: float(value) for key, value in {**row, **other}.items()}


def small_profile() -> Profile:
    """conv1 (200 cycles, compute-bound) then fc (100 cycles, DRAM-bound)."""
    in_l2 = MemoryLayout(MemoryType.SRAM_L2)
    tensors = {
        "x": KPUTensor("x", "image", (1, 8), DType.FP16, is_input=True),
        "h": KPUTensor("h", "h", (1, 8), DType.FP16, in_l2),
        "y": KPUTensor(
            "y", "scores", (1, 8), DType.FP32, MemoryLayout(base_address=64), is_output=True
        ),
    }
    ops = (
        KPUOp(
            "n0",
            "Relu",
            ("x",),
            ("h",),
            schedule_order=0,
            operand_count=1,
            name="conv1",
            epilogue=(EpilogueStage("Relu"),),
            fused_with=("bn1",),
        ),
        KPUOp("n1", "Relu", ("h",), ("y",), schedule_order=1, operand_count=1, name="fc"),
    )
    program = KPUProgram(
        name="small",
        precision=KPUPrecision.FP16,
        ops=ops,
        tensors=tensors,
        input_ids=("x",),
        output_ids=("y",),
        peak_sram_bytes=1024,
        live_set_bound_bytes=1000,
    )
    metrics = KPUPerformanceMetrics(
        total_cycles=300,
        total_time_us=0.6,
        compute_cycles=230,
        memory_stall_cycles=50,
        other_cycles=20,
        dram_reads_bytes=128,
        average_power_watts=6.5,
        total_energy_uj=4.0,
        op_metrics={
            "n0": figures(200, 180, Bound.COMPUTE),
            "n1": figures(100, 50, Bound.DRAM, dram_read_bytes=4096),
        },
    )
    events = {
        "op.start_cycle": np.array([0, 200], np.int64),
        "op.end_cycle": np.array([200, 300], np.int64),
        "op.l2_live_bytes": np.array([1024, 512], np.int64),
    }
    return Profile(program, SimulationMode.FUNCTIONAL, metrics, {}, events)


def quantised_profile() -> Profile:
    """The same in INT8, its second op kept in FP16."""
    profile = small_profile()
    program = profile.program
    first, second = program.ops
    tensors = program.tensors
    report = Quantization(
        method="mse",
        samples=90,
        held_out=10,
        sqnr_db={"scores": 38.25},
        max_difference={"scores": 0.0125},
        op_sqnr_db={"n0": 41.5},
        mac_share=0.75,
        gains_db={"bias correction": 1.5, "weight rounding": 2.25},
    )
    quantised = replace(
        program,
        precision=KPUPrecision.INT8,
        ops=(first, replace(second, precision=KPUPrecision.FP16)),
        tensors={**tensors, "x": replace(tensors["x"], dtype=DType.UINT8, scale=0.5)},
        quantization=report,
    )
    return replace(profile, program=quantised)
