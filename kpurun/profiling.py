"""A run as a profile: what `.kprof` files hold, so that every report works from the file alone."""

from collections.abc import Mapping
from dataclasses import replace

from formats.profile import KPUExecutionResult, Profile, SimulationMode
from formats.program import KPUProgram
from kpurun.metrics import events
from kpurun.sim.timeline import Timeline
from kpurun.sim.traces import traces

DEFAULT_MAX_EVENTS = 1_000_000  # rows of a table: 56 MB of commands


def make_profile(
    program: KPUProgram,
    result: KPUExecutionResult,
    options: Mapping[str, object],
    timeline: Timeline | None = None,
    max_events: int = DEFAULT_MAX_EVENTS,
) -> Profile:
    """program: as the runtime has it, for the machine that was timed; its weights are left out.

    options: what the run was asked for, JSON values. timeline: of a simulation, whose commands and,
    in the mode power_trace, watts are kept: at most `max_events` of each. The option "left_out"
    says how many more there were, by table.
    """
    recorded, columns = dict(options), events(program, result.metrics)
    if timeline is not None:
        with_power = result.mode is SimulationMode.POWER_TRACE
        found = traces(timeline, max_events, with_power)
        columns |= found.columns
        if found.left_out:
            recorded["left_out"] = found.left_out
    return Profile(
        program=replace(program, weights_blob=None),
        mode=result.mode,
        metrics=result.metrics,
        options=recorded,
        events=columns,
    )
