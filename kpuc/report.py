"""What `kpuc` tells about a compilation: a summary and the time of each stage."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from formats.console import STDIO
from formats.program import KPUProgram
from kpurun.metrics import bound_cycles

MOST_KEPT_SHOWN = 4


@dataclass
class Clock:
    """Seconds of each stage, in order; `lap` ends one and starts the next."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """The stage of this name is done."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.started
        self.started = now

    def report(self) -> str:
        """One line per stage and the sum."""
        lines = [f"{stage:16} {seconds:8.3f} s" for stage, seconds in self.seconds.items()]
        return "\n".join([*lines, f"{'total':16} {sum(self.seconds.values()):8.3f} s"])


def document(program: KPUProgram, size_bytes: int, clock: Clock) -> dict[str, Any]:
    """The compilation as JSON values."""
    return {
        "program": program.name,
        "precision": program.precision.value,
        "config": program.target_config.name,
        "ops": len(program.ops),
        "fused_ops": sum(len(op.fused_with) for op in program.ops),
        "estimated_total_cycles": program.estimated_total_cycles,
        "bound_cycles": bound_cycles(program),
        "estimated_total_energy_uj": program.estimated_total_energy_uj,
        "peak_sram_bytes": program.peak_sram_bytes,
        "live_set_bound_bytes": program.live_set_bound_bytes,
        "peak_dram_bytes": program.peak_dram_bytes,
        "weight_bytes": program.weight_bytes,
        "activation_bytes": program.activation_bytes,
        "file_bytes": size_bytes,
        "quantization": _quantization_document(program),
        "seconds": {stage: round(seconds, 4) for stage, seconds in clock.seconds.items()},
    }


def _quantization_document(program: KPUProgram) -> dict[str, Any] | None:
    """Names as of `kpuprof show --json`: `kept` is op -> the precision that it stays in."""
    if program.quantization is None:
        return None
    found = asdict(program.quantization)
    share = found.pop("mac_share")
    return {**found, "integer_mac_share": share, "kept": _kept(program)}


def _kept(program: KPUProgram) -> dict[str, str]:
    return {
        op.name or op.id: op.precision.value
        for op in program.get_ops_in_order()
        if op.precision not in (None, program.precision)
    }


def summary(program: KPUProgram, size_bytes: int, target: str) -> str:
    """The compilation for a person, a line per subject. size_bytes: of the file `target`."""
    config = program.target_config
    cycles = program.estimated_total_cycles
    milliseconds = cycles / config.compute.clock_mhz / 1000
    fused = sum(len(op.fused_with) for op in program.ops)
    peak, bound = program.peak_sram_bytes, program.live_set_bound_bytes
    over = f"{peak / bound:.2f}x" if bound else "1x"
    rows = [
        ("ops", f"{len(program.ops)} ({fused} more fused into them)"),
        ("weights", _kibibytes(program.weight_bytes)),
        (
            "peak L2",
            f"{_kibibytes(peak)} of {_kibibytes(config.memory.sram_l2_bytes)}, "
            f"{over} the largest live set",
        ),
        ("peak DRAM", _kibibytes(program.peak_dram_bytes)),
        ("latency", f"{milliseconds:.3f} ms estimated ({cycles:,} cycles{_over_bound(program)})"),
        ("energy", f"{program.estimated_total_energy_uj / 1000:.3f} mJ estimated"),
        ("file", f"{'stdout' if target == STDIO else target}, {_kibibytes(size_bytes)}"),
    ]
    rows[-1:-1] = _quantization_rows(program)
    title = f"{program.name}: {program.precision.value} on {config.name}"
    return "\n".join([title, *(f"  {subject:10} {text}" for subject, text in rows)])


def _over_bound(program: KPUProgram) -> str:
    bound = bound_cycles(program)
    return f", {program.estimated_total_cycles / bound:.2f}x the bound" if bound else ""


def _quantization_rows(program: KPUProgram) -> list[tuple[str, str]]:
    """How near the codes come, on samples that calibration has not seen."""
    found = program.quantization
    if found is None:
        return []
    share = f"{found.mac_share:.1%} of MACs in {program.precision.value}"
    rows = [("precision", share + _kept_text(_kept(program)))]
    rows += [
        ("accuracy", f"{name}: {db:.1f} dB, {_worst_text(found.max_difference[name])}")
        for name, db in found.sqnr_db.items()
    ]
    gains = ", ".join(f"{name} {gain:+.1f} dB" for name, gain in found.gains_db.items())
    return [*rows, ("gains", gains)] if gains else rows


def _kept_text(kept: dict[str, str]) -> str:
    """The first few of the ops kept in another precision, by name."""
    if not kept:
        return ""
    more = f" and {len(kept) - MOST_KEPT_SHOWN} more" if len(kept) > MOST_KEPT_SHOWN else ""
    count = f"{len(kept)} op{'s' * (len(kept) != 1)} in {'/'.join(dict.fromkeys(kept.values()))}"
    return f", {count}: {', '.join([*kept][:MOST_KEPT_SHOWN])}{more}"


def _worst_text(share: float) -> str:
    return f"max difference {share:.4f} of the largest value"


def _kibibytes(size_bytes: int) -> str:
    return f"{size_bytes / 1024:,.0f} KiB"
