"""The headline figures of a profile, computed once for the terminal and for JSON."""

from dataclasses import dataclass

from formats.profile import Profile
from formats.program import KPUProgram
from kpuprof.bound import bound_cycles
from kpuprof.rows import OpRow


@dataclass(frozen=True)
class Summary:
    """What a person asks first. Ratios are 0–1, but for `roofline_ratio`, the rooflines of the ops
    one by one / actual cycles: more where ops overlap. `bound_ratio` is bound / actual cycles."""

    program: str
    source_model: str
    config: str
    precision: str
    mode: str
    total_cycles: int
    total_time_us: float
    inferences_per_second: float
    compute_cycles: int
    memory_stall_cycles: int
    other_cycles: int
    roofline_cycles: int
    roofline_ratio: float
    bound_cycles: int
    bound_ratio: float
    compute_utilization: float
    memory_bandwidth_utilization: float
    total_energy_uj: float
    average_power_watts: float
    tdp_watts: float
    dram_read_bytes: int
    dram_write_bytes: int
    sram_read_bytes: int
    sram_write_bytes: int
    peak_l2_bytes: int
    l2_bytes: int
    live_set_bound_bytes: int
    weight_bytes: int
    macs: int
    ops: int


def summarise(profile: Profile, rows: list[OpRow]) -> Summary:
    """Headline figures of one profile; the roofline is the sum of the ops' rooflines."""
    program, metrics = profile.program, profile.metrics
    roofline_cycles, bound = sum(row.roofline_cycles for row in rows), bound_cycles(profile, rows)
    total_cycles = max(1, metrics.total_cycles)
    return Summary(
        program=program.name,
        source_model=program.source_model,
        config=program.target_config.name,
        precision=program.precision.value,
        mode=profile.mode.value,
        total_cycles=metrics.total_cycles,
        total_time_us=metrics.total_time_us,
        inferences_per_second=1e6 / metrics.total_time_us if metrics.total_time_us else 0.0,
        compute_cycles=metrics.compute_cycles,
        memory_stall_cycles=metrics.memory_stall_cycles,
        other_cycles=metrics.other_cycles,
        roofline_cycles=roofline_cycles,
        roofline_ratio=roofline_cycles / total_cycles,
        bound_cycles=bound,
        bound_ratio=bound / total_cycles,
        compute_utilization=metrics.compute_utilization,
        memory_bandwidth_utilization=metrics.memory_bandwidth_utilization,
        total_energy_uj=metrics.total_energy_uj,
        average_power_watts=metrics.average_power_watts,
        tdp_watts=program.target_config.compute.tdp_watts,
        dram_read_bytes=metrics.dram_reads_bytes,
        dram_write_bytes=metrics.dram_writes_bytes,
        sram_read_bytes=metrics.sram_reads_bytes,
        sram_write_bytes=metrics.sram_writes_bytes,
        peak_l2_bytes=program.peak_sram_bytes,
        l2_bytes=program.target_config.memory.sram_l2_bytes,
        live_set_bound_bytes=program.live_set_bound_bytes,
        weight_bytes=program.weight_bytes,
        macs=sum(row.macs for row in rows),
        ops=len(rows),
    )


@dataclass(frozen=True)
class OutputAccuracy:
    """One output on the held-out samples, against the network as it was trained."""

    name: str
    sqnr_db: float
    max_difference: float | None


@dataclass(frozen=True)
class QuantizationSummary:
    """How the codes were made and how near they come. `integer_mac_share` is 0-1; `kept` are the
    ops in a precision of their own, by name; `gains_db` what each refinement added."""

    method: str
    samples: int
    held_out: int
    precision: str
    integer_mac_share: float
    outputs: tuple[OutputAccuracy, ...]
    kept: dict[str, str]
    gains_db: dict[str, float]


def summarise_quantization(program: KPUProgram) -> QuantizationSummary | None:
    """None for a program that was not quantised."""
    found = program.quantization
    if found is None:
        return None
    return QuantizationSummary(
        method=found.method,
        samples=found.samples,
        held_out=found.held_out,
        precision=program.precision.value,
        integer_mac_share=found.mac_share,
        outputs=tuple(
            OutputAccuracy(name, sqnr_db, found.max_difference.get(name))
            for name, sqnr_db in found.sqnr_db.items()
        ),
        kept={
            op.name or op.id: op.precision.value
            for op in program.get_ops_in_order()
            if op.precision not in (None, program.precision)
        },
        gains_db=dict(found.gains_db),
    )
