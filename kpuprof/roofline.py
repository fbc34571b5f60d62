"""How far a run is from the speed of light: the machine's peaks and what each op makes of them.

The peaks follow from the configuration alone, so a profile needs no simulator to be judged.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from formats.config import ComputeConfig, KPUConfig
from formats.precision import KPUPrecision
from formats.profile import Profile
from kpuprof.rows import OpRow

OPS_PER_MAC = 2  # a multiplication and an addition, as TOPS are counted


@dataclass(frozen=True)
class Peaks:
    """What one cycle can do at most: MACs of all arrays by precision, operations of all vector
    lanes, bytes over the DRAM bus, bytes between L2 and L1."""

    clock_mhz: float
    macs: dict[str, float]
    lane_ops: float
    dram_bytes: float
    l2_bytes: float

    def gops(self, per_cycle: float) -> float:
        """10^9 operations (or bytes) per second of so many per cycle."""
        return per_cycle * self.clock_mhz / 1000


@dataclass(frozen=True)
class SpeedOfLight:
    """One resource: the share (0–1) of its peak over the whole run, what was achieved and could be
    in `unit`, and the cycles that its work takes at the peak."""

    resource: str
    share: float
    achieved: float
    peak: float
    unit: str
    ideal_cycles: float


@dataclass(frozen=True)
class RooflinePoint:
    """One op: operations per byte moved over the DRAM bus and between L2 and L1 (None: no byte is),
    and 10^9 operations per second on the unit that limits its arithmetic."""

    row: OpRow
    index: int
    unit: str
    gops: float
    dram_intensity: float | None
    l2_intensity: float | None


def peaks_of(config: KPUConfig) -> Peaks:
    """The peaks of a machine. A lane does one operation a cycle."""
    compute, timing = config.compute, config.timing
    elements = compute.tiles * compute.systolic_rows * compute.systolic_cols
    per_cycle = 1000 / compute.clock_mhz  # GB/s to bytes
    return Peaks(
        clock_mhz=compute.clock_mhz,
        macs={each.value: elements * _rate(compute, each) for each in KPUPrecision},
        lane_ops=compute.tiles * compute.vector_lanes,
        dram_bytes=config.memory.dram_bandwidth_gbps * per_cycle,
        l2_bytes=timing.sram_bytes_per_cycle or config.memory.sram_bandwidth_gbps * per_cycle,
    )


def _rate(compute: ComputeConfig, precision: KPUPrecision) -> float:
    """MACs of a processing element per cycle: the quoted TOPS over those of INT8."""
    fp16, posit8 = compute.tops_fp16 / compute.tops_int8, compute.tops_posit8 / compute.tops_int8
    return {
        KPUPrecision.INT8: 1.0,
        KPUPrecision.INT4: 1.0,
        KPUPrecision.FP16: fp16,
        KPUPrecision.BF16: fp16,
        KPUPrecision.POSIT8: posit8,
        KPUPrecision.POSIT16: posit8 / 2,
    }[precision]


def speed_of_light(profile: Profile, rows: list[OpRow]) -> tuple[SpeedOfLight, ...]:
    """Compute, DRAM and L2 over the whole run; the shares of the first two are the profile's."""
    metrics, peaks = profile.metrics, peaks_of(profile.program.target_config)
    cycles, seconds = max(1, metrics.total_cycles), max(metrics.total_time_us, 1e-12) * 1e-6
    tops = OPS_PER_MAC * sum(row.macs for row in rows) / seconds * 1e-12
    precision = profile.program.precision.value
    dram_bytes = metrics.dram_reads_bytes + metrics.dram_writes_bytes
    moved_bytes = sum(row.moved_bytes for row in rows)
    compute, dram = metrics.compute_utilization, metrics.memory_bandwidth_utilization
    l2 = moved_bytes / peaks.l2_bytes / cycles
    peak_tops = peaks.gops(OPS_PER_MAC * peaks.macs[precision]) / 1000
    return (
        SpeedOfLight("Compute", compute, tops, peak_tops, "TOPS", compute * cycles),
        _bandwidth("DRAM", dram, dram_bytes / seconds, peaks.gops(peaks.dram_bytes), cycles),
        _bandwidth("L2", l2, moved_bytes / seconds, peaks.gops(peaks.l2_bytes), cycles),
    )


def _bandwidth(
    name: str, share: float, bytes_per_second: float, peak_gbps: float, cycles: int
) -> SpeedOfLight:
    return SpeedOfLight(name, share, bytes_per_second * 1e-9, peak_gbps, "GB/s", share * cycles)


def on_lanes(row: OpRow, peaks: Peaks) -> bool:
    """Whether the vector lanes have more to do for an op than the arrays."""
    return row.lane_ops / peaks.lane_ops > row.macs / peaks.macs[row.precision]


def roofline_points(rows: list[OpRow], peaks: Peaks) -> Iterator[RooflinePoint]:
    """A point per op that computes; moves and views have no arithmetic to place."""
    for index, row in enumerate(rows):
        is_vector = on_lanes(row, peaks)
        operations = row.lane_ops if is_vector else OPS_PER_MAC * row.macs
        if not operations or not row.cycles:
            continue
        yield RooflinePoint(
            row=row,
            index=index,
            unit="vector lanes" if is_vector else "arrays",
            gops=peaks.gops(operations / row.cycles),
            dram_intensity=operations / row.dram_bytes if row.dram_bytes else None,
            l2_intensity=operations / row.moved_bytes if row.moved_bytes else None,
        )
