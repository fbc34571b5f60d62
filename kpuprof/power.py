"""Power over time, and energy by what it was spent on."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import fsum

import numpy as np

from formats.errors import FileError
from formats.profile import Profile

ENERGY_PARTS = {  # figure of an op -> what a person calls it
    "mac_pj": "multiply-accumulate",
    "accumulate_pj": "partial sums",
    "stream_pj": "operand streams",
    "vector_pj": "vector lanes",
    "l1_pj": "L1",
    "l2_pj": "L2",
    "dram_pj": "DRAM",
    "control_pj": "control",
    "static_pj": "idle",
}
MOST_STEPS = 20_000  # of a report: a longer trace is averaged over equal stretches


@dataclass(frozen=True)
class PowerSteps:
    """`watts` holds from each start (cycles) to the next, at last to `end`; `highest` is the
    largest power within each step."""

    starts: np.ndarray
    watts: np.ndarray
    highest: np.ndarray
    end: int

    @property
    def cycles(self) -> np.ndarray:
        """For how long each value lasts."""
        return np.diff(self.starts, append=self.end)

    def resampled(self, steps: int) -> "PowerSteps":
        """Averages over at most `steps` equal stretches; the energy stays the same."""
        edges = np.unique(np.linspace(0, self.end, steps + 1).astype(np.int64))
        ends = self.starts + self.cycles
        times = np.concatenate([self.starts[:1], ends])
        energy = np.concatenate([[0.0], np.cumsum(self.watts * self.cycles)])
        means = np.diff(np.interp(edges, times, energy)) / np.diff(edges)
        firsts = np.searchsorted(self.starts, edges[:-1], side="right") - 1
        lasts = np.searchsorted(self.starts, edges[1:], side="left")
        highest = [self.highest[a:b].max() for a, b in zip(firsts, lasts, strict=True)]
        return PowerSteps(edges[:-1], means, np.array(highest), self.end)


def power_steps(profile: Profile, most_steps: int = MOST_STEPS) -> PowerSteps | None:
    """None for a profile without watts (any mode but power_trace). Of a trace that was cut short,
    the last value is left out: nobody knows how long it lasts."""
    starts, watts = profile.events.get("power.start_cycle"), profile.events.get("power.watts")
    if starts is None or watts is None or not len(starts) or not profile.metrics.total_cycles:
        return None
    end = profile.metrics.total_cycles
    if "power" in left_out(profile):
        starts, watts, end = starts[:-1], watts[:-1], int(starts[-1])
    is_sound = (np.diff(starts, prepend=-1, append=end) > 0).all() and (watts >= 0).all()
    if not is_sound or starts.dtype.kind != "i" or not np.isfinite(watts).all():
        raise FileError(f"{profile.program.name}: the power trace is not one of this run")
    found = PowerSteps(starts, watts, watts, end)
    return found if len(starts) <= most_steps else found.resampled(most_steps)


def left_out(profile: Profile) -> dict[str, int]:
    """Rows that the recorder of the profile left out, by table (`kpurun --max-events`)."""
    found = profile.options.get("left_out")
    if not isinstance(found, Mapping):
        return {}
    return {table: rows for table, rows in found.items() if isinstance(rows, int) and rows > 0}


def cycles_above(steps: PowerSteps, watts: float) -> int:
    """For how many cycles the power is higher."""
    return int(steps.cycles[steps.watts > watts].sum())


def energy_parts_uj(profile: Profile) -> dict[str, float]:
    """µJ by part, the largest first; empty for a profile whose ops do not say."""
    figures = profile.metrics.op_metrics.values()
    if not all(part in row for row in figures for part in ENERGY_PARTS):
        return {}
    sums = {name: fsum(row[part] for row in figures) / 1e6 for part, name in ENERGY_PARTS.items()}
    spent = {name: energy for name, energy in sums.items() if energy}
    return dict(sorted(spent.items(), key=lambda item: item[1], reverse=True))
