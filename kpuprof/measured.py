"""What is known of a run or of a program, in one form: figures of the whole, and of every op.

A profile says what was measured, a program what its compiler estimates. The figures are the file's
own, or sums and quotients of them; nothing is modelled here.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from formats.container import load
from formats.errors import FileError, UsageError
from formats.files import STDIO, Source
from formats.profile import Profile, SimulationMode
from formats.program import KPUOp, KPUProgram
from kpuprof.figures import FIGURES, Figure
from kpuprof.rows import op_rows, readable
from kpuprof.summary import summarise

ESTIMATE = "compiler's estimate"


@dataclass(frozen=True)
class OpFigures:
    """Figures of one op; None where the file does not say. Bytes, cycles and counts are whole."""

    cycles: int
    energy_uj: float
    weight_bytes: int
    time_us: float | None = None
    compute_cycles: int | None = None
    memory_stall_cycles: int | None = None
    other_cycles: int | None = None
    lost_cycles: int | None = None  # above its roofline
    idle_cycles: int | None = None  # in which its unit does not work at its peak
    dram_bytes: int | None = None
    dram_read_bytes: int | None = None
    dram_write_bytes: int | None = None
    sram_read_bytes: int | None = None
    sram_write_bytes: int | None = None
    l2_live_bytes: int | None = None
    l1_misses: int | None = None
    l2_misses: int | None = None
    macs: int | None = None
    peak_watts: float | None = None


@dataclass(frozen=True)
class Measured:
    """name: the file. mode: of the simulation, or ESTIMATE. totals: by name of a Figure, those that
    the file says. ops: by op id, in scheduled order."""

    name: str
    program: KPUProgram
    mode: str
    totals: dict[str, float]
    ops: dict[str, OpFigures]
    profile: Profile | None = None

    def total(self, figure: Figure) -> float:
        """Its value; UsageError that says how to get it where the file does not say."""
        if figure.name not in self.totals:
            raise UsageError(f"{self.name} does not say {figure.name}: {self._reason(figure)}")
        return self.totals[figure.name]

    def _reason(self, figure: Figure) -> str:
        if figure.name in ("sqnr_db", "max_difference"):
            return "its outputs were not measured, or it is not quantised"
        if figure.name != "peak_power_watts":
            return "it is a program; kpurun --profile makes a profile of it"
        if self.mode != SimulationMode.POWER_TRACE.value:
            return "it takes a profile of kpurun --mode power_trace"
        return "not all changes of power were kept; run with a larger --max-events"


def measure(source: Source | Profile | KPUProgram) -> Measured:
    """The figures of a profile or program, or of one from a path, `-` (stdin) or a file's bytes.

    FileError when it is unreadable, damaged, of another version or not well formed.
    """
    if isinstance(source, Profile | KPUProgram):
        content, name = source, (source if isinstance(source, KPUProgram) else source.program).name
    else:
        is_stdin = isinstance(source, bytes) or str(source) == STDIO
        content, name = load(source), "stdin" if is_stdin else readable(Path(str(source)).name)
    if isinstance(content, Profile):
        return measured_profile(content, name)
    return measured_program(content, name)


def measured_profile(profile: Profile, name: str) -> Measured:
    """The figures of a profile."""
    program, metrics = profile.program, profile.metrics
    known = {entry.name for entry in fields(metrics)} - {"op_metrics"}
    summary = asdict(summarise(profile, op_rows(profile)))
    watts = _peak_watts(profile)
    totals = {key: getattr(metrics, key) for key in known} | _sizes(program)
    totals |= {key: summary[key] for key in ("inferences_per_second", "roofline_ratio", "macs")}
    totals["dram_bytes"] = metrics.dram_reads_bytes + metrics.dram_writes_bytes
    if watts:
        totals["peak_power_watts"] = max(watts)
    ordered = program.get_ops_in_order()
    live = profile.events["op.l2_live_bytes"].tolist()
    ops = {
        op.id: _op_figures(profile, op, live[place], watts[place] if watts else None)
        for place, op in enumerate(ordered)
    }
    return Measured(name, program, profile.mode.value, _in_order(totals), ops, profile)


def measured_program(program: KPUProgram, name: str) -> Measured:
    """What the compiler estimates, and the sizes that it decided."""
    cycles, energy_uj = program.estimated_total_cycles, program.estimated_total_energy_uj
    time_us = cycles / program.target_config.compute.clock_mhz
    totals = _sizes(program) | {
        "total_cycles": cycles,
        "total_time_us": time_us,
        "total_energy_uj": energy_uj,
        "energy_per_inference_mj": energy_uj / 1000,
    }
    if time_us:
        totals["average_power_watts"] = energy_uj / time_us
        totals["inferences_per_second"] = 1e6 / time_us
    ops = {
        op.id: OpFigures(op.estimated_cycles, op.estimated_energy_pj / 1e6, _weights(program, op))
        for op in program.get_ops_in_order()
    }
    return Measured(name, program, ESTIMATE, _in_order(totals), ops)


def _in_order(totals: dict[str, float]) -> dict[str, float]:
    return {figure.name: totals[figure.name] for figure in FIGURES if figure.name in totals}


def _sizes(program: KPUProgram) -> dict[str, float]:
    sizes: dict[str, float] = {
        "peak_l2_bytes": program.peak_sram_bytes,
        "peak_dram_bytes": program.peak_dram_bytes,
        "weight_bytes": program.weight_bytes,
        "activation_bytes": program.activation_bytes,
        "ops": len(program.ops),
    }
    found = program.quantization
    if found is not None and found.sqnr_db:
        sizes["sqnr_db"] = min(found.sqnr_db.values())
    if found is not None and found.max_difference:
        sizes["max_difference"] = max(found.max_difference.values())
    return sizes


def _op_figures(profile: Profile, op: KPUOp, live_bytes: int, watts: float | None) -> OpFigures:
    row = profile.metrics.op_metrics[op.id]

    def count(*keys: str) -> int:
        return int(sum(row[key] for key in keys))

    return OpFigures(
        cycles=count("cycles"),
        energy_uj=row["energy_pj"] / 1e6,
        weight_bytes=_weights(profile.program, op),
        time_us=row["time_us"],
        compute_cycles=count("compute_cycles"),
        memory_stall_cycles=count("memory_stall_cycles"),
        other_cycles=count("other_cycles"),
        lost_cycles=count("cycles") - count("roofline_cycles"),
        idle_cycles=round(row["cycles"] * (1 - row["utilization"])),
        dram_bytes=count("dram_read_bytes", "dram_write_bytes"),
        dram_read_bytes=count("dram_read_bytes"),
        dram_write_bytes=count("dram_write_bytes"),
        sram_read_bytes=count("l2_read_bytes", "l1_read_bytes"),
        sram_write_bytes=count("l2_write_bytes", "l1_write_bytes"),
        l2_live_bytes=live_bytes,
        l1_misses=count("l1_misses") if "l1_misses" in row else None,
        l2_misses=count("l2_misses") if "l2_misses" in row else None,
        macs=count("macs"),
        peak_watts=watts,
    )


def _weights(program: KPUProgram, op: KPUOp) -> int:
    read = {tensor_id: program.tensors[tensor_id] for tensor_id in op.input_ids}
    return sum(tensor.size_bytes for tensor in read.values() if tensor.is_weight)


def _peak_watts(profile: Profile) -> list[float]:
    """The highest power during each op, from the table "power"; empty if that is not all there."""
    starts, watts = (profile.events.get(f"power.{key}") for key in ("start_cycle", "watts"))
    left_out = profile.options.get("left_out") or {}
    if starts is None or watts is None or not len(starts) or "power" in left_out:
        return []
    if not np.isfinite(watts).all():
        raise FileError(
            f"{profile.program.name}: event column 'power.watts' holds what is no power"
        )
    begins, ends = profile.events["op.start_cycle"], profile.events["op.end_cycle"]
    first = np.maximum(np.searchsorted(starts, begins, "right") - 1, 0)
    last = np.maximum(np.searchsorted(starts, ends, "left"), first + 1)
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    return [float(watts[begin:end].max()) for begin, end in pairs]
