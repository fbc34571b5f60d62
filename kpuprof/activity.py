"""What every unit does when: the commands of a simulation as spans per unit, ready to be drawn."""

from dataclasses import dataclass

import numpy as np

from formats.errors import FileError
from formats.profile import COMMAND_KINDS, Profile

UNITS = {  # the kinds of command that keep each unit busy, one at a time
    "DRAM bus": ("load from DRAM", "store to DRAM"),
    "Block mover": ("load into L1", "store from L1"),
    "Arrays and lanes": ("compute",),
}
MOST_SPANS = 60_000  # of a report: beyond, neighbours are drawn as one
RESOLUTION = 20_000  # such a picture's width in dots


@dataclass(frozen=True)
class Spans:
    """Half-open ranges of cycles with the op (index in scheduled order) and kind of command
    (index in COMMAND_KINDS); int64 columns in order of start."""

    starts: np.ndarray
    ends: np.ndarray
    ops: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def where(self, chosen: np.ndarray) -> "Spans":
        """Those that a mask or an order of indices chooses."""
        return Spans(self.starts[chosen], self.ends[chosen], self.ops[chosen], self.kinds[chosen])


@dataclass(frozen=True)
class UnitActivity:
    """One unit over the run: counts and cycles are of all its commands, whatever is drawn.

    busy_cycles: in which it works on at least one command; share: of all cycles, 0-1.
    """

    unit: str
    commands: int
    busy_cycles: int
    share: float
    spans: Spans


def activity(profile: Profile, most_spans: int = MOST_SPANS) -> tuple[UnitActivity, ...]:
    """Per unit; nothing for a profile without commands (functional mode)."""
    events = profile.events
    columns = ("start_cycle", "end_cycle", "op", "kind")
    if any(f"command.{column}" not in events for column in columns):
        return ()
    every = Spans(*(events[f"command.{column}"] for column in columns))
    require_sound_commands(profile)
    total = max(1, profile.metrics.total_cycles)
    gap = 0 if len(every) <= most_spans else max(1, total // RESOLUTION)
    found = []
    for unit, kinds in UNITS.items():
        chosen = np.isin(every.kinds, [COMMAND_KINDS.index(kind) for kind in kinds])
        spans = every.where(chosen)
        busy = covered_cycles(*work_windows(profile, chosen)[:2])
        drawn = merged(spans, gap) if gap else spans.where(np.argsort(spans.starts, kind="stable"))
        found.append(UnitActivity(unit, len(spans), busy, busy / total, drawn))
    return tuple(found)


def work_windows(profile: Profile, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(starts, ends, which of the chosen) of when commands work: a load ahead of its op until that
    begins, and again from when on the bus is its own."""
    events = profile.events
    starts, ends = (events[f"command.{name}_cycle"][chosen] for name in ("start", "end"))
    begins = events["op.start_cycle"][events["command.op"][chosen]]
    column = events.get("command.busy_from_cycle")
    busy_from = starts if column is None else column[chosen]
    resumed = np.maximum.reduce([starts, begins, busy_from])
    firsts, lasts = (
        np.concatenate([starts, resumed]),
        np.concatenate([np.minimum(ends, begins), ends]),
    )
    numbers = np.tile(np.arange(len(starts)), 2)
    some = firsts < lasts
    return firsts[some], lasts[some], numbers[some]


def covered_cycles(starts: np.ndarray, ends: np.ndarray) -> int:
    """How many cycles are in at least one of the half-open ranges."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    before = np.concatenate([[0], ends])[: len(ends)]
    return int(np.maximum(0, ends - np.maximum(starts, before)).sum())


def require_sound_commands(profile: Profile) -> None:
    """FileError where a command is of no op, of no kind or outside the run."""
    names = ("start_cycle", "end_cycle", "op", "kind")
    starts, ends, ops, kinds = columns = [profile.events[f"command.{name}"] for name in names]
    is_sound = (
        all(column.dtype.kind == "i" for column in columns)
        and ((ops >= 0) & (ops < len(profile.program.ops))).all()
        and ((kinds >= 0) & (kinds < len(COMMAND_KINDS))).all()
        and ((starts >= 0) & (starts <= ends)).all()
        and (ends <= profile.metrics.total_cycles).all()
    )
    busy_from = profile.events.get("command.busy_from_cycle", starts)
    if not is_sound or ((busy_from < starts) | (busy_from > ends)).any():
        raise FileError(f"{profile.program.name}: a command is of no op or outside the run")


def merged(spans: Spans, gap: int) -> Spans:
    """Spans of one op and kind that are at most `gap` cycles apart as one."""
    if not len(spans):
        return spans
    ordered = spans.where(np.lexsort((spans.starts, spans.ops, spans.kinds)))
    changes = (np.diff(ordered.ops) != 0) | (np.diff(ordered.kinds) != 0)
    is_apart = ordered.starts[1:] - ordered.ends[:-1] > gap
    firsts = np.flatnonzero(np.concatenate([[True], changes | is_apart]))
    ends = np.maximum.reduceat(ordered.ends, firsts)
    joined = Spans(ordered.starts[firsts], ends, ordered.ops[firsts], ordered.kinds[firsts])
    return joined.where(np.argsort(joined.starts, kind="stable"))
