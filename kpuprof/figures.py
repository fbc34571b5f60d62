"""The figures that a limit can be set on and that two runs are compared by: names, units, meaning.

Names are those of the profile's metrics; what a profile does not hold under one name is derived in
`kpuprof.measured`. ALIASES are what a person types.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from formats.errors import UsageError


@dataclass(frozen=True)
class Figure:
    """One figure of a whole run.

    unit: a key of `kpuprof.amounts.UNITS`. spent_as: the figure of an op that it is made of, a
    field of `kpuprof.measured.OpFigures`, empty where ops have none. at_least: more is better, so
    that a budget is a floor and a regression a fall.
    """

    name: str
    unit: str
    meaning: str
    spent_as: str = ""
    at_least: bool = False


FIGURES = (
    Figure("total_cycles", "cycles", "cycles of one inference", "cycles"),
    Figure("total_time_us", "us", "time of one inference", "cycles"),
    Figure("inferences_per_second", "rate", "its inverse", "cycles", at_least=True),
    Figure("compute_cycles", "cycles", "cycles in which the op's own unit works", "compute_cycles"),
    Figure("memory_stall_cycles", "cycles", "cycles spent waiting", "memory_stall_cycles"),
    Figure("other_cycles", "cycles", "dispatch and the like", "other_cycles"),
    Figure("total_energy_uj", "uj", "energy of one inference", "energy_uj"),
    Figure("energy_per_inference_mj", "mj", "the same in mJ", "energy_uj"),
    Figure("average_power_watts", "watts", "energy over time", "energy_uj"),
    Figure("peak_power_watts", "watts", "highest power; of a power_trace run", "peak_watts"),
    Figure("dram_bytes", "bytes", "read from and written to DRAM", "dram_bytes"),
    Figure("dram_reads_bytes", "bytes", "read from DRAM", "dram_read_bytes"),
    Figure("dram_writes_bytes", "bytes", "written to DRAM", "dram_write_bytes"),
    Figure("sram_reads_bytes", "bytes", "read from L2 and L1", "sram_read_bytes"),
    Figure("sram_writes_bytes", "bytes", "written to L2 and L1", "sram_write_bytes"),
    Figure("peak_l2_bytes", "bytes", "most L2 in use at a time", "l2_live_bytes"),
    Figure("peak_dram_bytes", "bytes", "most DRAM in use, weights included", "weight_bytes"),
    Figure("weight_bytes", "bytes", "weights as they are stored", "weight_bytes"),
    Figure("activation_bytes", "bytes", "all activations together"),
    Figure("l1_hits", "count", "64 B lines found in L1", at_least=True),
    Figure("l1_misses", "count", "64 B lines fetched into L1", "l1_misses"),
    Figure("l2_hits", "count", "64 B lines found in L2", at_least=True),
    Figure("l2_misses", "count", "64 B lines fetched into L2", "l2_misses"),
    Figure("macs", "count", "multiply-accumulates", "macs"),
    Figure("ops", "count", "ops of the program"),
    Figure("compute_utilization", "share", "of the arrays' peak", "idle_cycles", at_least=True),
    Figure("memory_bandwidth_utilization", "share", "of the DRAM bus's peak", "dram_bytes"),
    Figure(
        "roofline_ratio", "share", "ops one by one at best / actual", "lost_cycles", at_least=True
    ),
    Figure("sqnr_db", "db", "of the worst output, when quantised", at_least=True),
    Figure("max_difference", "share", "of the worst output, when quantised"),
)

ALIASES = {
    "cycles": "total_cycles",
    "time": "total_time_us",
    "time_us": "total_time_us",
    "latency": "total_time_us",
    "fps": "inferences_per_second",
    "energy": "total_energy_uj",
    "energy_uj": "total_energy_uj",
    "power": "average_power_watts",
    "peak_power": "peak_power_watts",
    "dram_read_bytes": "dram_reads_bytes",
    "dram_write_bytes": "dram_writes_bytes",
    "sram_read_bytes": "sram_reads_bytes",
    "sram_write_bytes": "sram_writes_bytes",
    "peak_l2": "peak_l2_bytes",
    "peak_sram_bytes": "peak_l2_bytes",
    "peak_dram": "peak_dram_bytes",
    "stall": "memory_stall_cycles",
    "utilization": "compute_utilization",
    "sqnr": "sqnr_db",
    "max_diff": "max_difference",
}

# What an op spends: what it is called, and its unit.
SPENT = {
    "cycles": ("cycles", "cycles"),
    "compute_cycles": ("compute cycles", "cycles"),
    "memory_stall_cycles": ("stalls", "cycles"),
    "other_cycles": ("other cycles", "cycles"),
    "idle_cycles": ("cycles below their unit's peak", "cycles"),
    "lost_cycles": ("cycles above their roofline", "cycles"),
    "energy_uj": ("energy", "uj"),
    "peak_watts": ("power", "watts"),
    "dram_bytes": ("DRAM traffic", "bytes"),
    "dram_read_bytes": ("reads from DRAM", "bytes"),
    "dram_write_bytes": ("writes to DRAM", "bytes"),
    "sram_read_bytes": ("reads from SRAM", "bytes"),
    "sram_write_bytes": ("writes to SRAM", "bytes"),
    "l2_live_bytes": ("L2 in use", "bytes"),
    "weight_bytes": ("weights", "bytes"),
    "l1_misses": ("misses", "count"),
    "l2_misses": ("misses", "count"),
    "macs": ("MACs", "count"),
}

_BY_NAME = {figure.name: figure for figure in FIGURES}


def figure_named(name: str, where: str) -> Figure:
    """The figure of a name or alias; UsageError with the near names, or all, for any other.

    where: what the message starts with, an option or a file.
    """
    found = _BY_NAME.get(ALIASES.get(name, name))
    if found is not None:
        return found
    near = get_close_matches(name, [*ALIASES, *_BY_NAME], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(_BY_NAME)}"
    raise UsageError(f"{where}: unknown figure {name!r}; {hint}")
