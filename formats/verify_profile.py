"""Is a profile whole? Every op has its figures, every table its columns, and the sums agree.

Reports read a profile without asking again, so nothing that they need may be missing.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from formats.errors import FileError
from formats.profile import OP_COLUMNS, OP_FIGURES, Bound, KPUPerformanceMetrics, Profile
from formats.verify import verify

EVENT_DTYPES = (np.dtype("<i8"), np.dtype("<f8"))


def verify_profile(profile: Profile) -> None:
    """FileError with the first problem of the profile or its program."""
    verify(profile.program, has_weights=False)
    problem = next(profile_problems(profile), None)
    if problem is not None:
        raise FileError(f"{profile.program.name}: {problem}")


def profile_problems(profile: Profile) -> Iterator[str]:
    """What is wrong beside the program, one sentence each."""
    op_ids = [op.id for op in profile.program.ops]
    yield from _totals(profile.metrics)
    for op_id in op_ids:
        if op_id not in profile.metrics.op_metrics:
            yield f"there are no figures for op {op_id!r}"
            continue
        yield from (f"op {op_id!r} {it}" for it in _figures(profile.metrics.op_metrics[op_id]))
    for op_id in sorted(profile.metrics.op_metrics.keys() - set(op_ids)):
        yield f"there are figures for {op_id!r}, which is no op of the program"
    yield from _events(profile.events, len(op_ids))


def _totals(metrics: KPUPerformanceMetrics) -> Iterator[str]:
    parts = (metrics.compute_cycles, metrics.memory_stall_cycles, metrics.other_cycles)
    if min(parts) < 0 or sum(parts) != metrics.total_cycles:
        yield f"compute, memory stall and other cycles {parts} are not {metrics.total_cycles}"


def _figures(figures: Mapping[str, float]) -> Iterator[str]:
    missing = [name for name in OP_FIGURES if name not in figures]
    if missing:
        yield f"lacks {', '.join(missing)}"
        return
    for name, value in figures.items():
        if not 0 <= value < math.inf:
            yield f"has {name} {value}"
    if figures["bound_by"] not in list(Bound):
        yield f"has bound_by {figures['bound_by']}, which is no Bound"


def _events(events: Mapping[str, np.ndarray], op_count: int) -> Iterator[str]:
    lengths: dict[str, set[int]] = defaultdict(set)
    for name, column in events.items():
        table, dot, _ = name.partition(".")
        if not dot or column.ndim != 1 or column.dtype not in EVENT_DTYPES:
            yield f"event {name!r} is not a column of a table"
            continue
        lengths[table].add(len(column))
    for table, found in lengths.items():
        if len(found) > 1:
            yield f"the columns of the event table {table!r} differ in length"
    for name in OP_COLUMNS:
        found_column = events.get(name)
        if found_column is None or found_column.shape != (op_count,):
            yield f"there is no event column {name!r} with a row per op"
        elif found_column.dtype.kind != "i" or (found_column < 0).any():
            yield f"event column {name!r} holds what is no count"
