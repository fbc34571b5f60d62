"""What goes over the DRAM bus in every cycle of a simulation: one transfer at a time."""

from itertools import pairwise

from formats.errors import FileError
from formats.profile import Profile
from kpuprof.stalls import LAST_OF_DRAM


def bus_traffic(profile: Profile) -> list[tuple[int, float]]:
    """(cycle, bytes per cycle from there on), at last nothing at the end of the run.

    Needs all commands. Bytes go evenly over the cycles of their transfer, so that they add up to
    those of the commands. FileError where two transfers overlap or one takes no time.
    """
    events = profile.events
    is_on_bus = events["command.kind"] <= LAST_OF_DRAM
    columns = (
        events[f"command.{name}"][is_on_bus] for name in ("start_cycle", "end_cycle", "bytes")
    )
    transfers = sorted(zip(*(column.tolist() for column in columns), strict=True))
    if any(end <= start for start, end, _ in transfers):
        raise FileError(f"{profile.program.name}: a transfer takes no time")
    if any(one[1] > other[0] for one, other in pairwise(transfers)):
        raise FileError(f"{profile.program.name}: two transfers are on the DRAM bus at a time")
    rates = {0: 0.0}
    for start, end, size in transfers:
        rates[start] = size / (end - start)
        rates[end] = 0.0
    rates.setdefault(profile.metrics.total_cycles, 0.0)
    return sorted(rates.items())
