"""The hardware configuration: the host's fields, plus the machine constants the timing model needs.

A config is a TOML or JSON file with these fields, or the name of a preset in `formats/presets/`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass

from formats.precision import KPUPrecision

MOST_COMPUTE_TILES = 1 << 16  # each of them is simulated


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Memory sizes in bytes, bandwidths in GB/s (10^9 bytes per second)."""

    sram_l1_bytes: int = 256 * 1024
    sram_l2_bytes: int = 2 * 1024 * 1024
    dram_bytes: int = 4 * 1024 * 1024 * 1024
    dram_bandwidth_gbps: float = 25.6
    sram_bandwidth_gbps: float = 256.0
    cache_line_bytes: int = 64
    l1_associativity: int = 4
    l2_associativity: int = 8


@dataclass(frozen=True, slots=True)
class ComputeConfig:
    """Compute units. `compute_tiles` 0 means: derive it from `tops_int8`."""

    systolic_rows: int = 16
    systolic_cols: int = 16
    vector_lanes: int = 16
    clock_mhz: float = 500.0
    tops_int8: float = 4.0
    tops_fp16: float = 2.0
    tops_posit8: float = 3.0
    tdp_watts: float = 5.0
    idle_watts: float = 0.5
    compute_tiles: int = 0

    @property
    def tiles(self) -> int:
        """Number of compute tiles: round(tops_int8 · 1e12 / (2 · rows · cols · clock))."""
        if self.compute_tiles:
            return self.compute_tiles
        tops_of_one = 2 * self.systolic_rows * self.systolic_cols * self.clock_mhz * 1e6 / 1e12
        return max(1, round(self.tops_int8 / tops_of_one))


@dataclass(frozen=True, slots=True)
class DramTiming:
    """LPDDR4-3200 on a 64-bit bus (JEDEC JESD209-4)."""

    row_activate_ns: float = 18.0  # tRCD
    precharge_ns: float = 18.0  # tRP
    column_latency_ns: float = 17.5  # CL
    burst_bytes: int = 64
    row_bytes: int = 2048
    banks: int = 8
    refresh_interval_ns: float = 3904.0  # tREFI
    refresh_cycle_ns: float = 280.0  # tRFCab, 8 Gb


@dataclass(frozen=True, slots=True)
class MachineTiming:
    """Cycle constants the document leaves open; chosen, each with its reason."""

    dram: DramTiming = field(default_factory=DramTiming)
    sram_bytes_per_cycle: int = 0  # 0: sram_bandwidth_gbps / clock
    block_mover_startup_cycles: int = 8  # descriptor decode and first L2 read
    dma_startup_cycles: int = 16  # descriptor fetch by the DMA engine
    dispatch_cycles: int = 64  # command fetch and decode for one op
    ops_in_flight: int = 16  # that have been dispatched and have not ended
    overlap_folds: bool = True  # double-buffered accumulators; off reproduces SCALE-Sim's folds


@dataclass(frozen=True, slots=True)
class EnergyConstants:
    """Energy in pJ: the set that Stillwater published for the KPU-T64."""

    mac_int8_pj: float = 0.25
    mac_fp16_pj: float = 0.40
    mac_fp32_pj: float = 0.80
    accumulate_pj: float = 0.08
    activation_pj: float = 0.12
    streamer_pj_per_byte: float = 0.15
    l1_read_pj_per_byte: float = 0.2
    l1_write_pj_per_byte: float = 0.3
    l2_pj_per_byte: float = 0.7
    dram_pj_per_byte: float = 12.0
    program_load_pj: float = 500.0
    sync_pj: float = 10.0


NATIVE_OPS = tuple(
    "Conv MatMul Gemm Relu Add Mul Sub Div MaxPool AveragePool GlobalAveragePool "
    "BatchNormalization Softmax Sigmoid Tanh Concat Reshape Transpose Flatten Squeeze Unsqueeze "
    "Gather Slice Split Constant Identity Shape Cast Pad Clip ReduceMean ReduceSum".split()
)

# Functions of the vector unit on the drain edge: they run as the epilogue of another op, which for
# one that stands alone is an Identity. All but the last three are native ops too.
NATIVE_ACTIVATIONS = tuple("Relu Clip Sigmoid Tanh Swish HardSwish HardSigmoid LeakyRelu".split())


@dataclass(frozen=True, slots=True)
class KPUConfig:
    """Complete hardware configuration; the defaults are the preset `swkpu-v1`."""

    name: str = "swkpu-v1"
    version: str = "1.0.0"
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    supported_precisions: tuple[KPUPrecision, ...] = (KPUPrecision.INT8, KPUPrecision.FP16)
    max_tensor_dims: int = 6
    max_batch_size: int = 16
    native_ops: tuple[str, ...] = NATIVE_OPS
    native_activations: tuple[str, ...] = NATIVE_ACTIVATIONS
    timing: MachineTiming = field(default_factory=MachineTiming)
    energy: EnergyConstants = field(default_factory=EnergyConstants)

    def validate(self) -> list[str]:
        """What is inconsistent, one sentence each; empty when the config is sound."""
        problems = []
        if self.memory.sram_l1_bytes <= 0:
            problems.append("L1 SRAM must be positive")
        if self.memory.sram_l2_bytes < self.memory.sram_l1_bytes:
            problems.append("L2 SRAM must be at least as large as L1 SRAM")
        if self.memory.dram_bytes <= 0:
            problems.append("DRAM must be positive")
        positive = {
            "Clock frequency": self.compute.clock_mhz,
            "DRAM bandwidth": self.memory.dram_bandwidth_gbps,
            "SRAM bandwidth": self.memory.sram_bandwidth_gbps,
            "INT8 TOPS": self.compute.tops_int8,
            "FP16 TOPS": self.compute.tops_fp16,
            "Systolic rows": self.compute.systolic_rows,
            "Systolic columns": self.compute.systolic_cols,
            "Vector lanes": self.compute.vector_lanes,
            "Cache line": self.memory.cache_line_bytes,
            "Max tensor dims": self.max_tensor_dims,
            "Max batch size": self.max_batch_size,
            "L1 associativity": self.memory.l1_associativity,
            "L2 associativity": self.memory.l2_associativity,
            "DRAM burst": self.timing.dram.burst_bytes,
            "DRAM row": self.timing.dram.row_bytes,
            "DRAM banks": self.timing.dram.banks,
            "DRAM refresh interval": self.timing.dram.refresh_interval_ns,
            "Ops in flight": self.timing.ops_in_flight,
        }
        for what, value in positive.items():
            if not 0 < value < math.inf:
                problems.append(f"{what} must be positive")
        if not self.supported_precisions:
            problems.append("At least one precision must be supported")
        if not 0 <= self.compute.idle_watts <= self.compute.tdp_watts:
            problems.append("Idle power must lie between 0 and the TDP")
        problems = problems or [f"{x} must lie between 0 and 2^63" for x in _out_of_range(self)]
        if not problems and self.compute.tiles > MOST_COMPUTE_TILES:
            problems.append(f"Compute tiles must be at most {MOST_COMPUTE_TILES:,}")
        return problems


def _out_of_range(record: object, prefix: str = "") -> Iterator[str]:
    """Dotted names of the numbers, at any depth, that no machine has: negative, NaN, huge."""
    for entry in fields(record):  # type: ignore[arg-type]  # a dataclass
        value = getattr(record, entry.name)
        if is_dataclass(value):
            yield from _out_of_range(value, f"{prefix}{entry.name}.")
        elif isinstance(value, int | float) and not 0 <= value < 2**63:
            yield f"{prefix}{entry.name}"
