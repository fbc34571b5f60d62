"""The commands of a simulation as slices: what the arrays, lanes, block mover and DMA do when."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from formats.errors import FileError
from formats.profile import COMMAND_KINDS, Profile
from kpuprof.activity import require_sound_commands
from kpuprof.arrows import arrows
from kpuprof.rows import OpRow
from kpuprof.tracks import ARRAYS, DMA_IN, DMA_OUT, LANES, MOVER, Slice, Value
from kpuprof.units import runs_on_arrays

COLUMNS = "op kind operand step start_cycle end_cycle bytes".split()
TRACK_OF_KIND = dict(zip(COMMAND_KINDS, (DMA_IN, DMA_OUT, MOVER, MOVER), strict=False))
ENDS = {  # what is read and what is written by a command that moves bytes
    "load from DRAM": ("dram_read_bytes", "l2_write_bytes"),
    "store to DRAM": ("l2_read_bytes", "dram_write_bytes"),
    "load into L1": ("l2_read_bytes", "l1_write_bytes"),
    "store from L1": ("l1_read_bytes", "l2_write_bytes"),
}

Links = dict[int, list[int]]  # row of a command -> numbers of arrows


def has_commands(profile: Profile) -> bool:
    """Whether a simulation left its commands; FileError where columns lack or are not sound."""
    found = [f"command.{column}" in profile.events for column in COLUMNS]
    if not any(found):
        return False
    if not all(found):
        raise FileError(f"{profile.program.name}: the event table 'command' lacks columns")
    require_sound_commands(profile)
    ops, operands, steps, sizes = (
        profile.events[f"command.{column}"] for column in ("op", "operand", "step", "bytes")
    )
    is_sound = (np.diff(ops) >= 0).all() and all(
        column.dtype.kind == "i" and (column >= least).all()
        for column, least in ((operands, -1), (steps, 0), (sizes, 0))
    )
    if not is_sound:
        raise FileError(f"{profile.program.name}: the commands are not in the order of their ops")
    return True


def unit_slices(profile: Profile, rows: list[OpRow]) -> Iterator[tuple[str, Slice]]:
    """(track, slice) of every command, with arrows from each to those that take its data."""
    columns = [profile.events[f"command.{name}"].tolist() for name in COLUMNS]
    program, ops = profile.program, profile.program.get_ops_in_order()
    units = [ARRAYS if runs_on_arrays(program, op) else LANES for op in ops]
    leaving, arriving = _links(profile)
    for number, (op, kind, operand, step, start, end, size) in enumerate(
        zip(*columns, strict=True)
    ):
        what, row = COMMAND_KINDS[kind], rows[op]
        args: dict[str, Value] = {
            "op": row.id,
            "source": row.name,
            "tile": step,
            "limited_by": row.bound_by,
            "start_cycle": start,
            "cycles": end - start,
        }
        if what != "compute":
            sides = ops[op].output_ids if what.startswith("store") else ops[op].input_ids
            if not 0 <= operand < len(sides):
                raise FileError(f"{program.name}: a command moves no operand of its op")
            args |= {"tensor": sides[operand], "bytes": size, **dict.fromkeys(ENDS[what], size)}
        ends = tuple(leaving.get(number, ())), tuple(arriving.get(number, ()))
        found = Slice(f"{row.name}: {what}", start, end, args, *ends)
        yield TRACK_OF_KIND.get(what, units[op]), found


def _links(profile: Profile) -> tuple[Links, Links]:
    """The arrows that leave, and those that arrive at, each command."""
    starts = profile.events["command.start_cycle"].tolist()
    names = ("op", "kind", "operand")
    order = (profile.events[f"command.{name}"].tolist() for name in names)
    leaving: Links = defaultdict(list)
    arriving: Links = defaultdict(list)
    for number, (source, target) in enumerate(arrows(*order), 1):
        if starts[source] > starts[target]:
            raise FileError(f"{profile.program.name}: a command starts before what it works on")
        leaving[source].append(number)
        arriving[target].append(number)
    return leaving, arriving
