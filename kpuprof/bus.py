"""What goes over the DRAM bus in every cycle of a simulation.

The bus works on one transfer at a time. Where several are under way, loads ahead of their op wait
for those of the ops before it, so the first one in program order is the one that works.
"""

import heapq
from collections.abc import Iterator
from itertools import pairwise

from formats.errors import FileError
from formats.profile import Profile
from kpuprof.activity import work_windows
from kpuprof.stalls import LAST_OF_DRAM

Window = tuple[int, int, int]  # half-open range of cycles, number of the transfer


def bus_traffic(profile: Profile) -> list[tuple[int, float]]:
    """(cycle, bytes per cycle from there on), at last nothing at the end of the run.

    Needs all commands. Bytes go evenly over the cycles in which their transfer works, so that they
    add up to those of the commands.
    """
    events = profile.events
    is_on_bus = events["command.kind"] <= LAST_OF_DRAM
    sizes = events["command.bytes"][is_on_bus].tolist()
    columns = (column.tolist() for column in work_windows(profile, is_on_bus))
    steps = [*_workers([*zip(*columns, strict=True)], profile.metrics.total_cycles)]
    worked = [0] * len(sizes)
    for (cycle, worker), (until, _) in pairwise(steps):
        if worker is not None:
            worked[worker] += until - cycle
    if any(size and not cycles for size, cycles in zip(sizes, worked, strict=True)):
        raise FileError(f"{profile.program.name}: a transfer takes no time")
    return [
        (cycle, 0.0 if worker is None else sizes[worker] / worked[worker])
        for cycle, worker in steps
    ]


def _workers(windows: list[Window], total_cycles: int) -> Iterator[tuple[int, int | None]]:
    """(cycle, the transfer that works from there on) at every change, the end of the run last."""
    coming = sorted(windows, reverse=True)
    waiting: list[tuple[int, int]] = []  # (number, until when), the first one works
    edges = {edge for start, end, _ in windows for edge in (start, end)}
    for cycle in sorted(edges | {0, total_cycles}):
        while coming and coming[-1][0] == cycle:
            _, end, number = coming.pop()
            heapq.heappush(waiting, (number, end))
        while waiting and waiting[0][1] <= cycle:
            heapq.heappop(waiting)
        yield cycle, waiting[0][0] if waiting else None
