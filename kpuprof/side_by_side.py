"""Several runs side by side: headline figures and ops, each against the first run."""

from collections import defaultdict
from dataclasses import dataclass

from kpuprof.rows import OpRow
from kpuprof.summary import Summary

HEADLINES = {  # field of the summary -> (label, unit, whether less is better: None, it depends)
    "total_time_us": ("Latency", "us", True),
    "total_cycles": ("Cycles", "count", True),
    "compute_cycles": ("… computing", "count", True),
    "memory_stall_cycles": ("… waiting for memory", "count", True),
    "inferences_per_second": ("Inferences per second", "rate", False),
    "roofline_ratio": ("Of the roofline", "share", False),
    "compute_utilization": ("Compute utilisation", "share", False),
    "memory_bandwidth_utilization": ("DRAM bandwidth used", "share", None),
    "total_energy_uj": ("Energy", "uj", True),
    "average_power_watts": ("Average power", "watts", True),
    "dram_read_bytes": ("DRAM read", "bytes", True),
    "dram_write_bytes": ("DRAM written", "bytes", True),
    "peak_l2_bytes": ("L2 peak", "bytes", True),
    "weight_bytes": ("Weights", "bytes", True),
}


@dataclass(frozen=True)
class Headline:
    """One figure of every run; `changes` (None: the first is zero) are relative to the first."""

    label: str
    unit: str
    less_is_better: bool | None
    values: tuple[float, ...]
    changes: tuple[float | None, ...]


@dataclass(frozen=True)
class OpComparison:
    """One op by its name in every run; None where a run has no such op."""

    name: str
    op_type: str
    rows: tuple[OpRow | None, ...]

    @property
    def change_cycles(self) -> int:
        """Of the last run against the first; an op that is missing takes none."""
        first, last = (row.cycles if row else 0 for row in (self.rows[0], self.rows[-1]))
        return last - first


def compare_headlines(summaries: list[Summary]) -> list[Headline]:
    """Every figure of HEADLINES."""
    found = []
    for name, (label, unit, less_is_better) in HEADLINES.items():
        values = tuple(float(getattr(summary, name)) for summary in summaries)
        base = values[0]
        changes = tuple(value / base - 1 if base else None for value in values)
        found.append(Headline(label, unit, less_is_better, values, changes))
    return found


def compare_ops(runs: list[list[OpRow]]) -> list[OpComparison]:
    """Ops in the order of the first run, then those that only others have. Ops that share a name
    (a module called twice) are matched by how often it came before."""
    by_key: dict[tuple[str, int], list[OpRow | None]] = {}
    for index, rows in enumerate(runs):
        seen: dict[str, int] = defaultdict(int)
        for row in rows:
            entry = by_key.setdefault((row.name, seen[row.name]), [None] * len(runs))
            seen[row.name] += 1
            entry[index] = row
    return [_comparison(name, rows) for (name, _), rows in by_key.items()]


def _comparison(name: str, rows: list[OpRow | None]) -> OpComparison:
    types = dict.fromkeys(row.op_type for row in rows if row)
    return OpComparison(name, " / ".join(types), tuple(rows))
