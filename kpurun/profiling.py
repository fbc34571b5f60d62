"""A run as a profile: what `.kprof` files hold, so that every report works from the file alone."""

from collections.abc import Mapping
from dataclasses import replace

from formats.profile import KPUExecutionResult, Profile
from formats.program import KPUProgram
from kpurun.metrics import events


def make_profile(
    program: KPUProgram, result: KPUExecutionResult, options: Mapping[str, object]
) -> Profile:
    """program: as the runtime has it, for the machine that was timed; its weights are left out.

    options: what the run was asked for, JSON values.
    """
    return Profile(
        program=replace(program, weights_blob=None),
        mode=result.mode,
        metrics=result.metrics,
        options=dict(options),
        events=events(program, result.metrics),
    )
