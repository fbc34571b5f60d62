"""What one inference costs: the ops' estimates added up, the per-op table and the events.

Keys of `op_metrics[op id]`, all float:
cycles = compute_cycles + memory_stall_cycles + other_cycles; roofline_cycles, below which no tiling
gets; dma_cycles and mover_cycles, how long the DRAM bus and the block mover work; time_us;
macs, lane_ops; utilization (0–1, the op's MACs or lane operations at peak over its cycles, or those
in which its unit works for it where that are more, beside other ops);
bound_by (a `formats.profile.Bound`);
dram_, l2_, l1_ read_bytes and write_bytes; l1_ and l2_ hits and misses (64 B lines);
energy_pj and its parts, the fields of kpurun.energy.EnergyBreakdown.
"""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import accumulate
from math import ceil, fsum

import numpy as np

from formats.config import KPUConfig
from formats.places import placements
from formats.precision import KPUPrecision
from formats.profile import KPUPerformanceMetrics
from formats.program import KPUProgram, MemoryType
from kpurun.energy import energy_pj
from kpurun.machine import machine_of
from kpurun.timing import OpEstimate, estimate
from kpurun.work import work_of

COPIED = (
    "compute_cycles memory_stall_cycles other_cycles roofline_cycles dma_cycles mover_cycles "
    "macs lane_ops dram_read_bytes dram_write_bytes l2_read_bytes l2_write_bytes l1_read_bytes "
    "l1_write_bytes l1_hits l1_misses l2_hits l2_misses bound_by"
).split()
EVENTS = {  # column of the table "op" -> key of op_metrics
    "op.compute_cycles": "compute_cycles",
    "op.memory_stall_cycles": "memory_stall_cycles",
    "op.dram_read_bytes": "dram_read_bytes",
    "op.dram_write_bytes": "dram_write_bytes",
}


def summarize(program: KPUProgram, costs: Mapping[str, OpEstimate]) -> KPUPerformanceMetrics:
    """Every metric of one inference on the program's machine.

    costs: of every op by its id, what it adds to the inference. Utilisations are shares of the
    peak: of all arrays at the ops' precisions, of the DRAM bus.
    """
    config, machine = program.target_config, machine_of(program.target_config)
    precisions = {op.id: op.precision or program.precision for op in program.ops}
    table = {i: _figures(config, found, precisions[i]) for i, found in costs.items()}
    array_cycles = sum(
        machine.macs(precisions[op_id]).time(found.macs) for op_id, found in costs.items()
    )

    def total(field: str) -> int:
        return sum(getattr(found, field) for found in costs.values())

    cycles = total("total_cycles")
    time_us = cycles / config.compute.clock_mhz
    energy_uj = fsum(row["energy_pj"] for row in table.values()) / 1e6
    dram_bytes = total("dram_read_bytes") + total("dram_write_bytes")
    return KPUPerformanceMetrics(
        total_cycles=cycles,
        total_time_us=time_us,
        compute_cycles=total("compute_cycles"),
        memory_stall_cycles=total("memory_stall_cycles"),
        other_cycles=total("other_cycles"),
        dram_reads_bytes=total("dram_read_bytes"),
        dram_writes_bytes=total("dram_write_bytes"),
        sram_reads_bytes=total("l2_read_bytes") + total("l1_read_bytes"),
        sram_writes_bytes=total("l2_write_bytes") + total("l1_write_bytes"),
        l1_hits=total("l1_hits"),
        l1_misses=total("l1_misses"),
        l2_hits=total("l2_hits"),
        l2_misses=total("l2_misses"),
        average_power_watts=energy_uj / time_us if time_us else config.compute.idle_watts,
        total_energy_uj=energy_uj,
        energy_per_inference_mj=energy_uj / 1000,
        compute_utilization=_share(array_cycles, cycles),
        memory_bandwidth_utilization=_share(machine.dram.time(dram_bytes), cycles),
        op_metrics=table,
    )


def bound_cycles(program: KPUProgram) -> int:
    """What no schedule of the program beats: the longest of array work (MACs / peak), vector work
    (lane operations / lanes) and compulsory DRAM traffic (weights, inputs and outputs once)."""
    machine = machine_of(program.target_config)
    precisions = {op.id: op.precision or program.precision for op in program.ops}
    arrays = lanes = 0.0
    for op_id, found in estimates(program).items():
        arrays += machine.macs(precisions[op_id]).time(found.macs - found.lane_macs)
        lanes += found.lane_ops / machine.all_lanes
    if not machine.overlap_folds:
        lanes = 0.0  # then nothing drains
    compulsory = sum(
        tensor.size_bytes
        for tensor in program.tensors.values()
        if tensor.is_weight or tensor.is_input or tensor.is_output
    )
    return ceil(max(arrays, lanes, machine.dram.time(compulsory)))


def estimates(program: KPUProgram) -> dict[str, OpEstimate]:
    """By id, what each op would take alone, tiled as the program says."""
    return {
        op.id: estimate(work_of(program, op), op.tiling, program.target_config)
        for op in program.get_ops_in_order()
    }


def _figures(config: KPUConfig, found: OpEstimate, precision: KPUPrecision) -> dict[str, float]:
    """One row of the per-op table."""
    machine = machine_of(config)
    energy = energy_pj(found, config, precision)
    arrays = machine.macs(precision).time(found.macs)
    drains = machine.overlap_folds or found.macs == found.lane_macs  # else lanes take no time
    lanes = found.lane_ops / machine.all_lanes if drains else 0.0
    return {
        "cycles": float(found.total_cycles),
        **{name: float(getattr(found, name)) for name in COPIED},
        "time_us": found.total_cycles / config.compute.clock_mhz,
        "utilization": _share(max(arrays, lanes), max(found.total_cycles, found.working_cycles)),
        "energy_pj": energy.total_pj,
        **asdict(energy),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def events(program: KPUProgram, metrics: KPUPerformanceMetrics) -> dict[str, np.ndarray]:
    """Columns of a profile's table "op", one row per op in order.

    op.start_cycle and op.end_cycle (half-open), op.l2_live_bytes (L2 in use while the op runs), the
    columns of EVENTS, op.energy_pj (float64).
    """
    rows = [metrics.op_metrics[op.id] for op in program.get_ops_in_order()]
    ends = list(accumulate(int(row["cycles"]) for row in rows))
    integers = {
        "op.start_cycle": [0, *ends[:-1]][: len(ends)],
        "op.end_cycle": ends,
        "op.l2_live_bytes": live_l2_bytes(program),
        **{column: [int(row[key]) for row in rows] for column, key in EVENTS.items()},
    }
    columns = {name: np.array(values, np.int64) for name, values in integers.items()}
    energies = np.array([row["energy_pj"] for row in rows], np.float64)
    return {**columns, "op.energy_pj": energies}


def live_l2_bytes(program: KPUProgram) -> list[int]:
    """Bytes of L2 in use during each op: live tensors and the op's staging buffers."""
    count = len(program.ops)
    changes = [0] * (count + 1)
    for placement in placements(program):
        if placement.memory_type is MemoryType.SRAM_L2:
            changes[max(0, placement.first)] += placement.size
            changes[min(placement.last + 1, count)] -= placement.size
    return list(accumulate(changes))[:count]
