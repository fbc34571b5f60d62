"""What one point costs: the program tiled and placed for its machine, then simulated.

The one place of kpuprof that computes: compiler and simulator are imported when it does.
"""

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING

from formats.errors import ConfigurationError, KPUError
from kpuprof.sweep.area import area_proxy
from kpuprof.sweep.result import Figures, ProgramKey, Result, Task

if TYPE_CHECKING:
    from formats.config import KPUConfig
    from formats.program import KPUProgram

Programs = Mapping[ProgramKey, "KPUProgram"]

POINTS_IN_MEMORY = 8  # what the compiler remembers of more machines helps no other
_evaluated = count(1)


def evaluate(programs: Programs, task: Task) -> Result:
    """The result of a point; a machine that cannot hold the model is one, with its message."""
    figures, message = None, ""
    try:
        figures = _figures(programs[task.program], task.config)
    except KPUError as error:
        message = " ".join(str(error).split())
    model, precision = task.program
    return Result(task.key, model, precision.value, dict(task.fields), figures, message)


def _figures(program: "KPUProgram", config: "KPUConfig") -> Figures:
    problems = config.validate()
    if problems:
        raise ConfigurationError("; ".join(problems))
    from kpuc.retile import retile
    from kpuc.tile import forget
    from kpurun.sim.timeline import simulate, simulated_metrics

    if next(_evaluated) % POINTS_IN_MEMORY == 0:
        forget()
    tiled = retile(program, config)
    metrics = simulated_metrics(simulate(tiled))
    return Figures(
        cycles=metrics.total_cycles,
        time_us=metrics.total_time_us,
        energy_uj=metrics.total_energy_uj,
        average_power_watts=metrics.average_power_watts,
        dram_bytes=metrics.dram_reads_bytes + metrics.dram_writes_bytes,
        peak_l2_bytes=tiled.peak_sram_bytes,
        utilization=metrics.compute_utilization,
        area_proxy=area_proxy(config),
    )
