"""L2 use over the time of a run: what is live when, from the profile's events."""

from dataclasses import dataclass

from formats.profile import Profile


@dataclass(frozen=True)
class MemoryStep:
    """L2 bytes in use while one op runs; the cycles are a half-open range."""

    start_cycle: int
    end_cycle: int
    l2_bytes: int


@dataclass(frozen=True)
class MemoryUse:
    """One step per op, in time order."""

    steps: tuple[MemoryStep, ...]
    capacity_bytes: int
    total_cycles: int

    def peaks(self, columns: int) -> list[int]:
        """The largest use within each of `columns` equal shares of the run."""
        width = max(1.0, self.total_cycles / columns)
        peaks = [0] * columns
        for step in self.steps:
            first = min(columns - 1, int(step.start_cycle / width))
            last = min(columns - 1, int(max(step.start_cycle, step.end_cycle - 1) / width))
            for column in range(first, last + 1):
                peaks[column] = max(peaks[column], step.l2_bytes)
        return peaks


def memory_use(profile: Profile) -> MemoryUse:
    """L2 bytes in use while each op runs, from the profile's event columns."""
    events = profile.events
    columns = ("op.start_cycle", "op.end_cycle", "op.l2_live_bytes")
    steps = zip(*(events[column].tolist() for column in columns), strict=True)
    return MemoryUse(
        steps=tuple(MemoryStep(*step) for step in steps),
        capacity_bytes=profile.program.target_config.memory.sram_l2_bytes,
        total_cycles=profile.metrics.total_cycles,
    )
