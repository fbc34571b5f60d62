"""When no array and no lane works, and what the op whose cycles these are waits for."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from formats.errors import FileError
from formats.profile import COMMAND_KINDS, Profile
from kpuprof.power import left_out

CAUSES = ("DRAM", "block mover", "dispatch")  # what works meanwhile; at last nothing does
COMPUTE = COMMAND_KINDS.index("compute")
LAST_OF_DRAM = COMMAND_KINDS.index("store to DRAM")


@dataclass(frozen=True)
class Stall:
    """Half-open range of cycles in which an op (its index in scheduled order) waits for a cause."""

    op: int
    cause: str
    start: int
    end: int


def stalls(profile: Profile) -> Iterator[Stall]:
    """Of every op in order; of each op the cycles of a cause add up to what the profile says.

    Needs all commands of a simulation (see `has_all_commands`); FileError where they do not.
    """
    events = profile.events
    kinds = events["command.kind"]
    spans = np.stack([events["command.start_cycle"], events["command.end_cycle"]], axis=1)
    moving = kinds != COMPUTE
    busy = [_joined(spans[~moving]), _joined(spans[kinds <= LAST_OF_DRAM]), _joined(spans[moving])]
    windows = zip(events["op.start_cycle"].tolist(), events["op.end_cycle"].tolist(), strict=True)
    ordered = profile.program.get_ops_in_order()
    for op, (begin, end) in enumerate(windows):
        found = [*_of_op(op, begin, end, [_within(each, begin, end) for each in busy])]
        _require_recorded(profile, ordered[op].id, found)
        yield from found


def has_all_commands(profile: Profile) -> bool:
    """Whether the profile is of a simulation that kept every command, none of them interrupted (as
    older ones interrupted loads)."""
    column = profile.events.get("command.busy_from_cycle")
    if column is None or column.dtype.kind != "i" or "command" in left_out(profile):
        return False
    return bool((column == profile.events["command.start_cycle"]).all())


def _require_recorded(profile: Profile, op_id: str, found: list[Stall]) -> None:
    """FileError where the stalls of an op are not the cycles that the profile says."""
    row = profile.metrics.op_metrics[op_id]
    cycles = {
        cause: sum(each.end - each.start for each in found if each.cause == cause)
        for cause in CAUSES
    }
    on_dram, on_mover, dispatch = cycles.values()
    figures = {"memory_stall_cycles": on_dram + on_mover, "other_cycles": dispatch}
    figures |= {"dma_stall_cycles": on_dram, "mover_stall_cycles": on_mover}
    for name, value in figures.items():
        if row.get(name, value) != value:
            raise FileError(
                f"{profile.program.name}: by its commands op {op_id!r} has {value:,} {name}, "
                f"by its figures {row[name]:,.0f}"
            )


def _of_op(op: int, begin: int, end: int, busy: list[list[tuple[int, int]]]) -> Iterator[Stall]:
    """What is left of the op's cycles, taken by one resource after the other."""
    left = [(begin, end)]
    computing, *others = busy
    left = _without(left, computing)
    for cause, working in zip(CAUSES, (*others, []), strict=True):
        remaining = _without(left, working) if working else left
        waiting = _without(left, remaining) if cause != CAUSES[-1] else left
        yield from (Stall(op, cause, *span) for span in waiting)
        left = remaining


def _joined(spans: np.ndarray) -> list[tuple[int, int]]:
    """In order, without overlaps or empty ones."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(map(tuple, spans.tolist())):
        if end <= start:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _within(spans: list[tuple[int, int]], begin: int, end: int) -> list[tuple[int, int]]:
    """Those of joined spans that touch some cycles."""
    first = bisect_right(spans, begin, key=lambda span: span[1])
    last = bisect_left(spans, end, key=lambda span: span[0])
    return spans[first:last]


def _without(spans: list[tuple[int, int]], taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of spans outside of others; both in order and without overlaps."""
    left, place = [], 0
    for start, end in spans:
        while place < len(taken) and taken[place][1] <= start:
            place += 1
        at = place
        while at < len(taken) and taken[at][0] < end:
            if start < taken[at][0]:
                left.append((start, taken[at][0]))
            start = max(start, taken[at][1])
            at += 1
        if start < end:
            left.append((start, end))
    return left
