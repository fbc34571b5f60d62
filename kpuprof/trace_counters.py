"""The counters of a trace: bytes over the DRAM bus and between the levels, memory in use, power."""

from collections.abc import Iterator
from itertools import accumulate

from formats.places import placements
from formats.profile import Profile
from formats.program import KPUProgram, MemoryType
from kpuprof.bus import bus_traffic
from kpuprof.power import left_out, power_steps
from kpuprof.tracks import CounterTrack

ALL_POWER_STEPS = 1 << 62
MEAN = "the mean of each op, so that it adds up to the op's bytes"


def counters(profile: Profile, has_every_command: bool) -> Iterator[CounterTrack]:
    """In the order in which they are shown; all but power of any profile."""
    if has_every_command:
        about = "every transfer evenly over the cycles in which the bus works on it"
        yield CounterTrack("DRAM traffic", "B/cycle", (*bus_traffic(profile),), about)
    else:
        yield _traffic(profile, "DRAM")
    yield _traffic(profile, "L2")
    yield _traffic(profile, "L1")
    yield _in_use(profile, "L2", profile.events["op.l2_live_bytes"].tolist(), "")
    if any(buffer.memory_type is MemoryType.SRAM_L1 for buffer in profile.program.buffers):
        yield _in_use(profile, "L1", live_l1_bytes(profile.program), "the buffers of the op")
    yield from _power(profile)


def live_l1_bytes(program: KPUProgram) -> list[int]:
    """Bytes of L1 that buffers take up during each op, in scheduled order."""
    changes = [0] * (len(program.ops) + 1)
    for place in placements(program):
        if place.memory_type is MemoryType.SRAM_L1:
            changes[max(0, place.first)] += place.size
            changes[min(place.last + 1, len(program.ops))] -= place.size
    return [*accumulate(changes)][:-1]


def _spans(profile: Profile) -> list[tuple[int, int]]:
    """Half-open range of cycles of every op."""
    starts, ends = (profile.events[f"op.{name}_cycle"].tolist() for name in ("start", "end"))
    return [*zip(starts, ends, strict=True)]


def _traffic(profile: Profile, level: str) -> CounterTrack:
    keys = [f"{level.lower()}_{way}_bytes" for way in ("read", "write")]
    figures = [profile.metrics.op_metrics[op.id] for op in profile.program.get_ops_in_order()]
    points = [
        (start, sum(row[key] for key in keys) / (end - start))
        for (start, end), row in zip(_spans(profile), figures, strict=True)
        if end > start
    ]
    closed = (*points, (profile.metrics.total_cycles, 0.0))
    return CounterTrack(f"{level} traffic", "B/cycle", closed, MEAN)


def _in_use(profile: Profile, level: str, sizes: list[int], about: str) -> CounterTrack:
    points = [
        (start, float(size))
        for (start, end), size in zip(_spans(profile), sizes, strict=True)
        if end > start
    ]
    closed = (*points, (profile.metrics.total_cycles, 0.0))
    return CounterTrack(f"{level} in use", "B", closed, about)


def _power(profile: Profile) -> Iterator[CounterTrack]:
    """Of a profile that was cut up to its last change of power, of which nobody knows the end."""
    power = power_steps(profile, ALL_POWER_STEPS)
    if power is None:
        return
    last = float(profile.events["power.watts"][-1]) if "power" in left_out(profile) else 0.0
    points = (*zip(power.starts.tolist(), power.watts.tolist(), strict=True), (power.end, last))
    yield CounterTrack("Power", "W", points)
