"""What a run leaves behind: metrics, the per-op table and the events, with the program's graph.

A profile carries the program without its weights, so that a report needs no other file.
"""

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any

from formats.program import KPUProgram

if TYPE_CHECKING:
    import numpy as np


class SimulationMode(str, Enum):
    """Simulator fidelity."""

    FUNCTIONAL = "functional"
    CYCLE_ACCURATE = "cycle_accurate"
    POWER_TRACE = "power_trace"


class Bound(IntEnum):
    """What limits an op: the resource whose own time is longest."""

    NONE = 0  # a view: nothing happens
    COMPUTE = 1  # systolic arrays
    VECTOR = 2  # vector lanes
    DRAM = 3
    SRAM = 4  # block mover between L2 and L1
    DISPATCH = 5


# What `op_metrics` says of every op; more keys may follow. `utilization` is 0–1 of the peak of the
# unit that the op runs on, `bound_by` a Bound.
OP_FIGURES = (
    "cycles compute_cycles memory_stall_cycles other_cycles roofline_cycles time_us energy_pj "
    "macs lane_ops utilization bound_by dram_read_bytes dram_write_bytes l2_read_bytes "
    "l2_write_bytes l1_read_bytes l1_write_bytes"
).split()

# Columns that every profile has, one row per op in scheduled order: the op's half-open range of
# cycles, and the bytes of L2 in use during it.
OP_COLUMNS = ("op.start_cycle", "op.end_cycle", "op.l2_live_bytes")

# What `command.kind` of a simulation says. The first two keep the DRAM bus busy, the next two the
# block mover between L2 and L1, the last the arrays and lanes.
COMMAND_KINDS = ("load from DRAM", "store to DRAM", "load into L1", "store from L1", "compute")


@dataclass(frozen=True, slots=True)
class KPUPerformanceMetrics:
    """What one inference costs. total_cycles = compute + memory_stall + other, always.

    `op_metrics` maps op id to the figures of that op (OP_FIGURES).
    """

    total_cycles: int = 0
    total_time_us: float = 0.0
    compute_cycles: int = 0
    memory_stall_cycles: int = 0
    other_cycles: int = 0
    dram_reads_bytes: int = 0
    dram_writes_bytes: int = 0
    sram_reads_bytes: int = 0
    sram_writes_bytes: int = 0
    l1_hits: int = 0
    l1_misses: int = 0
    l2_hits: int = 0
    l2_misses: int = 0
    average_power_watts: float = 0.0
    total_energy_uj: float = 0.0
    energy_per_inference_mj: float = 0.0
    compute_utilization: float = 0.0
    memory_bandwidth_utilization: float = 0.0
    op_metrics: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KPUExecutionResult:
    """Outputs and metrics of one execution; a failure carries its message instead of raising."""

    success: bool
    error_message: str | None = None
    outputs: "dict[str, np.ndarray]" = field(default_factory=dict)
    metrics: KPUPerformanceMetrics = field(default_factory=KPUPerformanceMetrics)
    mode: SimulationMode = SimulationMode.FUNCTIONAL
    trace: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """The content of a `.kprof`: `events` are int64 or float64 columns of equal length per table,
    named "table.column" (for example "op.start_cycle")."""

    program: KPUProgram
    mode: SimulationMode
    metrics: KPUPerformanceMetrics
    options: dict[str, Any] = field(default_factory=dict)
    events: "dict[str, np.ndarray]" = field(default_factory=dict)
