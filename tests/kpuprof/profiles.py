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


def simulated_profile() -> Profile:
    """The same as a simulation in the mode power_trace leaves it: commands, watts that integrate to
    the 4 µJ of the run (at 500 cycles per µs), and energy by part."""
    profile = small_profile()
    events = {
        **profile.events,
        "command.op": [0, 0, 0, 1, 1, 1],
        "command.kind": [0, 2, 4, 0, 4, 1],
        "command.operand": [0, 0, -1, 0, -1, 0],
        "command.step": [0, 0, 0, 0, 0, 0],
        "command.start_cycle": [5, 10, 15, 210, 245, 295],
        "command.end_cycle": [10, 15, 195, 245, 295, 300],
        "command.bytes": [64, 128, 0, 4096, 0, 32],
        "power.start_cycle": [0, 10, 200],
    }
    columns = {name: np.asarray(column, np.int64) for name, column in events.items()}
    columns["power.watts"] = np.array([0.5, 7.5, 5.7])  # 5 + 1425 + 570 = 2000 watt cycles
    parts = dict.fromkeys(
        "accumulate_pj stream_pj vector_pj l1_pj l2_pj control_pj static_pj".split(), 0.0
    )
    spent = {**parts, "mac_pj": 1.5e6, "dram_pj": 0.5e6}
    table = {op_id: {**row, **spent} for op_id, row in profile.metrics.op_metrics.items()}
    return replace(
        profile,
        mode=SimulationMode.POWER_TRACE,
        metrics=replace(profile.metrics, op_metrics=table),
        events=columns,
    )


def renamed(profile: Profile, program: str, op: str) -> Profile:
    """With another name of the program, of its first op and of a tensor."""
    first, *others = profile.program.ops
    tensors = profile.program.tensors
    named = replace(
        profile.program,
        name=program,
        ops=(replace(first, name=op, fused_with=(op,)), *others),
        tensors={**tensors, "h": replace(tensors["h"], name=op)},
    )
    return replace(profile, program=named)
