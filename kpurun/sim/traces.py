"""A timeline as columns for a profile, and as the list of what went over the DRAM bus."""

from dataclasses import dataclass
from itertools import islice

import numpy as np

from formats.precision import BITS
from formats.profile import COMMAND_KINDS
from formats.program import KPUTensor
from kpurun.sim.power import power_trace
from kpurun.sim.tasks import Resource, Task
from kpurun.sim.timeline import Timeline
from kpurun.tiles import Compute, Load
from kpurun.transfer import physical_order

MemoryAccess = tuple[int, str, int, int]  # cycle, "read" or "write", DRAM address, bytes


@dataclass(frozen=True)
class Traces:
    """columns: of the tables "command" and "power"; left_out: rows beyond the limit, by table."""

    columns: dict[str, np.ndarray]
    left_out: dict[str, int]


def traces(timeline: Timeline, limit: int, with_power: bool) -> Traces:
    """At most the first `limit` rows of each table.

    command: op (its index in scheduled order), kind (of COMMAND_KINDS), step (which L1 tile),
    start_cycle, end_cycle (half-open), bytes, and operand: which of the op's reads, or of its
    results, moves (-1 of a compute). busy_from_cycle: from when on it works without interruption,
    which is from its start.
    power: start_cycle, watts (until the next row's start).
    """
    rows = [_row(timeline, index, task) for index, task in islice(timeline.tasks(), limit)]
    count = sum(len(played.tasks) for played in timeline.played)
    names = (
        "op",
        "kind",
        "operand",
        "step",
        "start_cycle",
        "end_cycle",
        "bytes",
        "busy_from_cycle",
    )
    table = np.array(rows, np.int64).reshape(-1, len(names))
    columns = {f"command.{name}": table[:, place].copy() for place, name in enumerate(names)}
    left_out = {"command": count - len(rows)}
    if with_power:
        power = power_trace(timeline)
        columns["power.start_cycle"] = power.starts[:limit]
        columns["power.watts"] = power.watts[:limit]
        left_out["power"] = max(0, len(power.starts) - limit)
    return Traces(columns, {table: rows for table, rows in left_out.items() if rows})


def memory_trace(timeline: Timeline) -> list[MemoryAccess]:
    """Every transfer over the DRAM bus, in the order in which they start.

    The address is that of the first byte; the bytes are those moved, in one run or several.
    """
    found = []
    for index, task in timeline.tasks():
        if task.resource is not Resource.DMA or isinstance(task.command, Compute):
            continue
        tensor = timeline.program.tensors[task.command.tensor_id]
        what = "read" if isinstance(task.command, Load) else "write"
        address = tensor.layout.base_address + _offset_bytes(tensor, task.command.spans)
        cycle = timeline.starts[index] + task.start
        found.append((cycle, what, address, task.command.transfer.bytes))
    return sorted(found)


def _row(timeline: Timeline, index: int, task: Task) -> tuple[int, ...]:
    command, start = task.command, timeline.starts[index]
    operand, moved_bytes, kind = -1, 0, COMMAND_KINDS.index("compute")
    if not isinstance(command, Compute):
        operand, moved_bytes = command.operand, command.transfer.bytes
        kind = 2 * task.resource + (not isinstance(command, Load))
    return (
        index,
        kind,
        operand,
        command.step,
        start + task.start,
        start + task.end,
        moved_bytes,
        start + task.start,
    )


def _offset_bytes(tensor: KPUTensor, spans: tuple[tuple[int, int], ...]) -> int:
    """From the tensor's first byte to that of a piece of it, in the order of its layout."""
    if len(spans) != len(tensor.shape):
        return 0
    elements, stride = 0, 1
    for axis in reversed(physical_order(len(tensor.shape), tensor.layout.format)):
        elements += spans[axis][0] * stride
        stride *= tensor.shape[axis]
    return elements * BITS[tensor.dtype] // 8
