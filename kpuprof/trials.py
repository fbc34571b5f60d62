"""A run once more, on another machine or in another precision: a program of its own, tiled and
played. Compiler and simulator are imported when that is asked for."""

from typing import TYPE_CHECKING

from formats.config import KPUConfig
from formats.errors import ConfigurationError
from formats.precision import KPUPrecision
from formats.profile import Profile, SimulationMode
from kpuprof.measured import Measured, measured_profile

if TYPE_CHECKING:
    from formats.program import KPUProgram


def tried(
    profile: Profile, label: str, config: KPUConfig, precision: KPUPrecision | None = None
) -> Measured:
    """What the profile's program comes to, in the profile's mode.

    Raises what planning raises: MemoryError and others where the machine cannot hold the program.
    """
    problems = config.validate()
    if problems:
        raise ConfigurationError("; ".join(problems))
    from kpuc.nominal import in_precision

    program = in_precision(profile.program, precision or profile.program.precision, config)
    return measured_profile(_played(program, profile.mode), label)


def _played(program: "KPUProgram", mode: SimulationMode) -> Profile:
    from formats.profile import KPUExecutionResult
    from kpurun.profiling import make_profile
    from kpurun.sim.timeline import simulate, simulated_metrics

    timeline = simulate(program)
    result = KPUExecutionResult(success=True, metrics=simulated_metrics(timeline), mode=mode)
    kept = None if mode is SimulationMode.FUNCTIONAL else timeline
    return make_profile(program, result, {}, kept)


def base_of(profile: Profile) -> tuple[Measured, str]:
    """The profile's own run once more, so that both sides of a comparison are played alike, and a
    sentence where that differs from what the profile says."""
    again = tried(profile, "as it is", profile.program.target_config)
    now, then = again.totals["total_cycles"], profile.metrics.total_cycles
    if now == then:
        return again, ""
    return again, (
        f"the profile says {then:,} cycles, tiled and played again it is {now:,.0f} (another "
        "version's?); changes are told from the latter"
    )
