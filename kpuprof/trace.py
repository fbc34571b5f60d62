"""A run as a trace: its ops, units, stalls and counters over cycles, and what it does not know."""

from collections.abc import Iterator
from dataclasses import asdict

from formats.errors import FileError, LimitError
from formats.profile import Profile, SimulationMode
from kpuprof.power import left_out
from kpuprof.rows import OpRow, op_rows
from kpuprof.stalls import has_all_commands, stalls
from kpuprof.trace_counters import counters
from kpuprof.trace_units import has_commands, unit_slices
from kpuprof.tracks import MOST_NS, OPS, STALLS, TRACKS, UNKNOWN, Slice, Trace, Value

MOST_WHOLE = 1 << 63  # beyond, a whole number is no longer one of a trace


def trace_of(profile: Profile) -> Trace:
    """All that is known of a run.

    FileError for a profile whose ops or commands are not of this run, LimitError for one that
    takes more than 104 days.
    """
    _require_sound_ops(profile)
    config = profile.program.target_config
    simulated = has_commands(profile)
    is_whole = simulated and has_all_commands(profile)
    found = Trace(
        process=f"KPU {config.name}",
        clock_mhz=config.compute.clock_mhz,
        about=_about(profile),
        tracks=_tracks(profile, simulated, is_whole),
        counters=tuple(counters(profile, is_whole)),
        missing=tuple(_missing(profile, simulated, is_whole)),
    )
    if found.ns(profile.metrics.total_cycles) > MOST_NS:
        raise LimitError(f"{profile.program.name}: a trace ends at 104 days, this run does not")
    return found


def _require_sound_ops(profile: Profile) -> None:
    starts, ends = profile.events["op.start_cycle"], profile.events["op.end_cycle"]
    if (starts > ends).any() or (ends > profile.metrics.total_cycles).any():
        raise FileError(f"{profile.program.name}: an op is outside the run")


def _tracks(profile: Profile, simulated: bool, is_whole: bool) -> dict[str, list[Slice]]:
    """By name, from top to bottom."""
    rows = op_rows(profile)
    tracks: dict[str, list[Slice]] = {OPS: [*_op_slices(profile, rows)]}
    if simulated:
        for track, found in unit_slices(profile, rows):
            tracks.setdefault(track, []).append(found)
        tracks[UNKNOWN] = [*_not_recorded(profile)]
    if is_whole:
        tracks[STALLS] = [*_stall_slices(profile, rows)]
    return {track: tracks[track] for track in TRACKS if tracks.get(track)}


def _about(profile: Profile) -> dict[str, Value]:
    """Of the whole run: what it is, and every total of the profile."""
    program, clock = profile.program, profile.program.target_config.compute.clock_mhz
    totals = asdict(profile.metrics)
    del totals["op_metrics"]
    return {
        "program": program.name,
        "mode": profile.mode.value,
        "precision": program.precision.value,
        "clock_mhz": clock,
        "ns_per_cycle": 1000 / clock,
        **totals,
        **{f"left_out_{table}": rows for table, rows in left_out(profile).items()},
    }


def _op_slices(profile: Profile, rows: list[OpRow]) -> Iterator[Slice]:
    """With all figures of the op. Views take no time and are not shown."""
    starts, ends = (profile.events[f"op.{end}_cycle"].tolist() for end in ("start", "end"))
    ops = profile.program.get_ops_in_order()
    for op, row, start, end in zip(ops, rows, starts, ends, strict=True):
        if end <= start:
            continue
        figures = profile.metrics.op_metrics[row.id]
        args: dict[str, Value] = {
            "op": row.id,
            "source": row.name,
            "source_line": op.source,
            "type": row.op_type,
            "precision": row.precision,
            "limited_by": row.bound_by,
            "start_cycle": start,
            **{name: _plain(figures[name]) for name in sorted(figures) if name != "bound_by"},
        }
        yield Slice(f"{row.name} {row.op_type}", start, end, args)


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) and abs(value) < MOST_WHOLE else value


def _stall_slices(profile: Profile, rows: list[OpRow]) -> Iterator[Slice]:
    for each in stalls(profile):
        row = rows[each.op]
        args: dict[str, Value] = {
            "op": row.id,
            "source": row.name,
            "limited_by": row.bound_by,
            "start_cycle": each.start,
            "cycles": each.end - each.start,
        }
        yield Slice(f"waits for {each.cause}", each.start, each.end, args)


def _not_recorded(profile: Profile) -> Iterator[Slice]:
    """From the op on of which the last command is; from the last change of power on."""
    events, end = profile.events, profile.metrics.total_cycles
    for table, rows in left_out(profile).items():
        if table == "command":
            known = events["command.op"].tolist()[-1:]
            begin = int(events["op.start_cycle"][known[0]]) if known else 0
        elif table == "power":
            begin = int((events["power.start_cycle"].tolist()[-1:] or [0])[0])
        else:
            continue
        yield Slice(f"{table}: {rows:,} left out", begin, max(begin, end))


def _missing(profile: Profile, simulated: bool, is_whole: bool) -> Iterator[str]:
    cut = left_out(profile)
    if not simulated:
        yield (
            f"a {profile.mode.value} profile has no commands: only ops are shown "
            "(kpurun --mode power_trace)"
        )
        return
    if "command" in cut:
        yield (
            f"the profile lacks {cut['command']:,} commands: the last ops have none, no stall is "
            "named (kpurun --max-events)"
        )
    elif not is_whole:
        yield "no stall is named: run again with this kpurun, which says when loads are interrupted"
    if profile.mode is not SimulationMode.POWER_TRACE:
        yield "there is no power over time (kpurun --mode power_trace)"
    elif "power" in cut:
        yield f"the profile lacks the last {cut['power']:,} changes of power (kpurun --max-events)"
