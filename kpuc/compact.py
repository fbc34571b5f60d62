"""Programs that need little L2: planned for less of it than there is, as long as that costs little.

Activations that do not fit then live in DRAM and pass through L2 in tiles. Where the arrays have
more to do than the DRAM bus, that takes hardly any time.
"""

from dataclasses import replace

from formats.config import KPUConfig
from formats.errors import MemoryError
from kpuc.memory_plan import MemoryPlan
from kpuc.plan import plan_memory, plan_tightly, played_cycles
from kpuc.scheduled import Scheduled

MOST_MORE_CYCLES = 0.03  # of the fastest plan's, as they are simulated
FINEST_STEP = 1 / 64  # of the fastest plan's peak: nearer to the limit is not looked for


def plan_compactly(scheduled: Scheduled, config: KPUConfig) -> MemoryPlan:
    """The plan with the lowest peak of L2 that was found within MOST_MORE_CYCLES of the fastest.

    Capacities are halved between one that is too small and one that will do. MemoryError when no
    choice of places fits the memories.
    """
    best = plan_memory(scheduled, config)
    most_cycles = played_cycles(scheduled, config, best) * (1 + MOST_MORE_CYCLES)
    step = max(config.memory.cache_line_bytes, int(best.l2_peak_bytes * FINEST_STEP))
    too_small, enough = 0, best.l2_peak_bytes
    while enough - too_small > step:
        capacity = (too_small + enough) // 2
        plan = _planned_within(scheduled, config, capacity)
        if plan is None or played_cycles(scheduled, config, plan) > most_cycles:
            too_small = capacity
            continue
        best, enough = plan, min(capacity, plan.l2_peak_bytes)
    return best


def _planned_within(
    scheduled: Scheduled, config: KPUConfig, capacity_bytes: int
) -> MemoryPlan | None:
    """A plan that uses so much of L2 at most; None if there is none."""
    memory = replace(config.memory, sram_l2_bytes=capacity_bytes)
    try:
        return plan_tightly(scheduled, replace(config, memory=memory))
    except MemoryError:
        return None
