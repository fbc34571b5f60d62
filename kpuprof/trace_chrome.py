"""A trace as Chrome's trace events (JSON): for viewers that know no other.

The format has no slices that overlap in a row, so a track that needs it has more rows, numbered.
"""

import json
from collections.abc import Iterator
from typing import Any

from kpuprof.tracks import NS_PER_US, Slice, Trace, lanes

PID = 1
Event = dict[str, Any]


def chrome_text(trace: Trace) -> str:
    """Times are microseconds, as the format has it; cycles are in the arguments."""
    events = [*_names(trace), *_slices(trace), *_flows(trace), *_counters(trace)]
    about = {**trace.about, "scale": trace.scale, "missing": list(trace.missing)}
    document = {"traceEvents": events, "displayTimeUnit": "ns", "otherData": about}
    return json.dumps(document, allow_nan=False) + "\n"


def _rows(trace: Trace) -> Iterator[tuple[int, str, list[Slice]]]:
    """(number, name, slices) of each row."""
    number = 0
    for name, slices in trace.tracks.items():
        for place, row in enumerate(lanes(slices), 1):
            number += 1
            yield number, name if place == 1 else f"{name} {place}", row


def _names(trace: Trace) -> Iterator[Event]:
    yield _described("process_name", 0, name=trace.process)
    yield _described("process_labels", 0, labels=trace.scale)
    for number, name, _ in _rows(trace):
        yield _described("thread_name", number, name=name)
        yield _described("thread_sort_index", number, sort_index=number)


def _described(what: str, row: int, **args: object) -> Event:
    return {"ph": "M", "pid": PID, "tid": row, "name": what, "args": args}


def _slices(trace: Trace) -> Iterator[Event]:
    for number, _, row in _rows(trace):
        for each in row:
            yield {
                "ph": "X",
                "pid": PID,
                "tid": number,
                "name": each.name,
                "ts": _us(trace, each.start),
                "dur": (trace.ns(each.end) - trace.ns(each.start)) / NS_PER_US,
                "args": dict(each.args),
            }


def _flows(trace: Trace) -> Iterator[Event]:
    """Arrows from the slice that has the data of a tile to the one that takes them."""
    for number, _, row in _rows(trace):
        for each in row:
            end = {"pid": PID, "tid": number, "name": "tile", "cat": "tile"}
            end |= {"ts": _us(trace, each.start), "bp": "e"}
            yield from ({**end, "ph": "s", "id": arrow} for arrow in each.leaving)
            yield from ({**end, "ph": "f", "id": arrow} for arrow in each.arriving)


def _counters(trace: Trace) -> Iterator[Event]:
    for counter in trace.counters:
        for cycle, value in counter.points:
            yield {
                "ph": "C",
                "pid": PID,
                "name": counter.name,
                "ts": _us(trace, cycle),
                "args": {counter.unit: value},
            }


def _us(trace: Trace, cycle: int) -> float:
    return trace.ns(cycle) / NS_PER_US
