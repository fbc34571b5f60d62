"""A profile as rows: one per op, with derived figures, ready for a table, JSON or a report."""

from collections.abc import Callable
from dataclasses import dataclass

from formats.profile import Bound, Profile
from formats.program import KPUOp

SORT_KEYS = ("order", "cycles", "energy", "dram", "stall")


@dataclass(frozen=True)
class OpRow:
    """What one op cost. `share` is its part of all cycles; `bound_by` names what limits it;
    `moved_bytes` went between L2 and L1; of a quantised program `sqnr_db` says how near its result
    is to the exact network's."""

    id: str
    name: str
    op_type: str
    fused: tuple[str, ...]
    cycles: int
    share: float
    compute_cycles: int
    memory_stall_cycles: int
    other_cycles: int
    time_us: float
    energy_uj: float
    dram_bytes: int
    l2_bytes: int
    l1_bytes: int
    moved_bytes: int
    macs: int
    lane_ops: int
    utilization: float
    roofline_cycles: int
    bound_by: str
    precision: str
    sqnr_db: float | None = None


def op_rows(profile: Profile) -> list[OpRow]:
    """Rows in scheduled order; ops that cost nothing (views) are rows too."""
    total = max(1, profile.metrics.total_cycles)
    return [_row(profile, op, total) for op in profile.program.get_ops_in_order()]


def _row(profile: Profile, op: KPUOp, total_cycles: int) -> OpRow:
    figures = profile.metrics.op_metrics[op.id]
    dram_bytes = int(figures["dram_read_bytes"] + figures["dram_write_bytes"])
    l2_bytes = int(figures["l2_read_bytes"] + figures["l2_write_bytes"])
    quantization = profile.program.quantization
    return OpRow(
        id=op.id,
        name=op.name or op.id,
        op_type=op_label(op),
        fused=op.fused_with,
        cycles=int(figures["cycles"]),
        share=figures["cycles"] / total_cycles,
        compute_cycles=int(figures["compute_cycles"]),
        memory_stall_cycles=int(figures["memory_stall_cycles"]),
        other_cycles=int(figures["other_cycles"]),
        time_us=figures["time_us"],
        energy_uj=figures["energy_pj"] / 1e6,
        dram_bytes=dram_bytes,
        l2_bytes=l2_bytes,
        l1_bytes=int(figures["l1_read_bytes"] + figures["l1_write_bytes"]),
        moved_bytes=max(0, l2_bytes - dram_bytes),  # all that DRAM gives or takes passes L2 too
        macs=int(figures["macs"]),
        lane_ops=int(figures["lane_ops"]),
        utilization=figures["utilization"],
        roofline_cycles=int(figures["roofline_cycles"]),
        bound_by=Bound(int(figures["bound_by"])).name.lower(),
        precision=(op.precision or profile.program.precision).value,
        sqnr_db=None if quantization is None else quantization.op_sqnr_db.get(op.id),
    )


def op_label(op: KPUOp) -> str:
    """The op with its epilogue, as a person says it: "Conv+Relu", "Conv+Add+Relu"."""
    return readable("+".join([op.op_type, *(stage.op_type for stage in op.epilogue)]))


def readable(text: str) -> str:
    """Text that a terminal, XML and a table take as it is: a file's strings may hold anything."""
    return text if text.isprintable() else ascii(text)


def sort_rows(rows: list[OpRow], key: str) -> list[OpRow]:
    """Rows with the largest first; "order" keeps the schedule. key: one of SORT_KEYS."""
    if key == "order":
        return rows
    measures: dict[str, Callable[[OpRow], float]] = {
        "cycles": lambda row: row.cycles,
        "energy": lambda row: row.energy_uj,
        "dram": lambda row: row.dram_bytes,
        "stall": lambda row: row.memory_stall_cycles,
    }
    return sorted(rows, key=measures[key], reverse=True)
