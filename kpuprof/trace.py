"""A run as tracks of slices and counters over cycles, for a viewer of traces, in no format yet.

Slices of a track may overlap: parts of two tiles on the arrays, a load that waits for another.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from formats.errors import FileError
from formats.profile import COMMAND_KINDS, KPUPerformanceMetrics, Profile, SimulationMode
from kpuprof.activity import require_sound_commands
from kpuprof.power import left_out, power_steps
from kpuprof.roofline import on_lanes, peaks_of
from kpuprof.rows import OpRow, op_rows
from kpuprof.stalls import has_all_commands, stalls

Value = str | int | float
ARRAYS, LANES = "Systolic arrays", "Vector units"
DMA_IN, DMA_OUT, MOVER = "DMA in", "DMA out", "Block mover"
OPS, STALLS = "Ops", "Stalls"
TRACKS = (OPS, ARRAYS, LANES, MOVER, DMA_IN, DMA_OUT, STALLS)  # from top to bottom
TRACK_OF_KIND = dict(zip(COMMAND_KINDS, (DMA_IN, DMA_OUT, MOVER, MOVER), strict=False))
ALL_POWER_STEPS = 1 << 62

# Of an op's figures, those that its slice shows: bytes by level, and what the cycles were spent on.
OP_ARGS = (
    "roofline_cycles compute_cycles memory_stall_cycles dma_stall_cycles mover_stall_cycles "
    "other_cycles macs lane_ops utilization energy_pj dram_read_bytes dram_write_bytes "
    "l2_read_bytes l2_write_bytes l1_read_bytes l1_write_bytes"
).split()
TOTALS = (
    "total_cycles total_time_us compute_cycles memory_stall_cycles other_cycles dram_reads_bytes "
    "dram_writes_bytes average_power_watts total_energy_uj"
).split()


@dataclass(frozen=True)
class Slice:
    """Half-open range of cycles. flow: number of the tile whose data it handles, or None."""

    name: str
    start: int
    end: int
    args: Mapping[str, Value] = field(default_factory=dict)
    flow: int | None = None


@dataclass(frozen=True)
class CounterTrack:
    """A value holds from its cycle until the next point's; the last point is the end of the run."""

    name: str
    unit: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Trace:
    """tracks: of TRACKS, those that the profile knows of. about: of the whole run. missing: what a
    reader may look for that the profile does not hold, one sentence each."""

    process: str
    clock_mhz: float
    about: Mapping[str, Value]
    tracks: Mapping[str, list[Slice]]
    counters: tuple[CounterTrack, ...]
    missing: tuple[str, ...]

    @property
    def ns_per_cycle(self) -> float:
        return 1000 / self.clock_mhz

    def ns(self, cycle: int) -> int:
        """A cycle's time in whole nanoseconds."""
        return round(cycle * 1000 / self.clock_mhz)


def trace_of(profile: Profile) -> Trace:
    """All that is known of a run; FileError for a profile whose commands are not of this run."""
    rows, config = op_rows(profile), profile.program.target_config
    tracks: dict[str, list[Slice]] = {OPS: list(_op_slices(profile, rows))}
    if "command.kind" in profile.events:
        require_sound_commands(profile)
        for track, found in _command_slices(profile, rows):
            tracks.setdefault(track, []).append(found)
    if has_all_commands(profile):
        tracks[STALLS] = [
            Slice(f"waits for {each.cause}", each.start, each.end, {"op": rows[each.op].id})
            for each in stalls(profile)
        ]
    return Trace(
        process=f"KPU {config.name}",
        clock_mhz=config.compute.clock_mhz,
        about=_about(profile),
        tracks={track: tracks[track] for track in TRACKS if track in tracks},
        counters=tuple(_counters(profile)),
        missing=tuple(_missing(profile)),
    )


def _about(profile: Profile) -> dict[str, Value]:
    program, clock = profile.program, profile.program.target_config.compute.clock_mhz
    metrics: KPUPerformanceMetrics = profile.metrics
    return {
        "program": program.name,
        "mode": profile.mode.value,
        "precision": program.precision.value,
        "clock_mhz": clock,
        "ns_per_cycle": 1000 / clock,
        **{name: getattr(metrics, name) for name in TOTALS},
    }


def _op_slices(profile: Profile, rows: list[OpRow]) -> Iterator[Slice]:
    """Views take no time and are not shown."""
    starts, ends = (profile.events[f"op.{end}_cycle"].tolist() for end in ("start", "end"))
    for row, start, end in zip(rows, starts, ends, strict=True):
        if end <= start:
            continue
        figures = profile.metrics.op_metrics[row.id]
        args: dict[str, Value] = {
            "op": row.id,
            "source": row.name,
            "type": row.op_type,
            "precision": row.precision,
            "limited_by": row.bound_by,
            "cycles": row.cycles,
            **{name: _plain(figures[name]) for name in OP_ARGS if name in figures},
        }
        yield Slice(f"{row.name} {row.op_type}", start, end, args)


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _command_slices(profile: Profile, rows: list[OpRow]) -> Iterator[tuple[str, Slice]]:
    """Slices of the units with their tracks; those of one tile share a flow."""
    names = ("op", "kind", "operand", "step", "start_cycle", "end_cycle", "bytes")
    columns = [profile.events[f"command.{name}"].tolist() for name in names]
    ops, peaks = profile.program.get_ops_in_order(), peaks_of(profile.program.target_config)
    units = [LANES if on_lanes(row, peaks) else ARRAYS for row in rows]
    tiles = Counter(zip(columns[0], columns[3], strict=True))
    flows = {tile: number for number, tile in enumerate(tiles, 1) if tiles[tile] > 1}
    for op, kind, operand, step, start, end, size in zip(*columns, strict=True):
        what, row = COMMAND_KINDS[kind], rows[op]
        args: dict[str, Value] = {
            "op": row.id,
            "source": row.name,
            "tile": step,
            "cycles": end - start,
        }
        if what != "compute":
            sides = ops[op].output_ids if what.startswith("store") else ops[op].input_ids
            if not 0 <= operand < len(sides):
                raise FileError(f"{profile.program.name}: a command moves no operand of its op")
            args |= {"tensor": sides[operand], "bytes": size}
        track = TRACK_OF_KIND.get(what, units[op])
        yield track, Slice(f"{row.name}: {what}", start, end, args, flows.get((op, step)))


def _counters(profile: Profile) -> Iterator[CounterTrack]:
    """Bytes per cycle are the mean of each op, so that they add up to its bytes."""
    end = profile.metrics.total_cycles
    starts, ends = (profile.events[f"op.{name}_cycle"].tolist() for name in ("start", "end"))
    figures = [profile.metrics.op_metrics[op.id] for op in profile.program.get_ops_in_order()]
    for level in ("DRAM", "L2", "L1"):
        keys = [f"{level.lower()}_{way}_bytes" for way in ("read", "write")]
        points = [
            (start, sum(row[key] for key in keys) / (stop - start))
            for start, stop, row in zip(starts, ends, figures, strict=True)
            if stop > start
        ]
        yield CounterTrack(f"{level} traffic", "B/cycle", (*points, (end, 0.0)))
    live = profile.events["op.l2_live_bytes"].tolist()
    used = [
        (at, float(size)) for at, stop, size in zip(starts, ends, live, strict=True) if stop > at
    ]
    yield CounterTrack("L2 in use", "B", (*used, (end, 0.0)))
    power = power_steps(profile, ALL_POWER_STEPS)
    if power is not None:
        watts = tuple(zip(power.starts.tolist(), power.watts.tolist(), strict=True))
        yield CounterTrack("Power", "W", (*watts, (power.end, 0.0)))


def _missing(profile: Profile) -> Iterator[str]:
    cut = left_out(profile)
    if profile.mode is SimulationMode.FUNCTIONAL:
        yield "a functional profile has no commands: only ops are shown (kpurun --mode power_trace)"
        return
    if "command" in cut:
        yield (
            f"the profile lacks {cut['command']:,} commands: the last ops have none, no stall is "
            "named (kpurun --max-events)"
        )
    if profile.mode is not SimulationMode.POWER_TRACE:
        yield "there is no power over time (kpurun --mode power_trace)"
    elif "power" in cut:
        yield f"the profile lacks the last {cut['power']:,} changes of power (kpurun --max-events)"


def lanes(slices: list[Slice]) -> list[list[Slice]]:
    """The slices in rows without overlaps, each in order of start; as few rows as can be."""
    rows: list[list[Slice]] = []
    for each in sorted(slices, key=lambda one: (one.start, one.end)):
        free = next((row for row in rows if row[-1].end <= each.start), None)
        if free is None:
            rows.append([each])
        else:
            free.append(each)
    return rows
