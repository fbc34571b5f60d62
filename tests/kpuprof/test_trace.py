"""A run as tracks: units, stalls by cause, counters; what it does not know is said, not made up."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from formats.container import load_profile, save
from formats.errors import FileError
from formats.profile import SimulationMode
from kpuprof.stalls import stalls
from kpuprof.trace import TRACKS, Slice, Trace, lanes, trace_of
from kpuprof.trace_chrome import chrome_text
from kpuprof.trace_perfetto import perfetto_bytes
from tests.kpuprof.profiles import small_profile
from tests.kpuprof.simulated import played


def test_every_unit_has_a_track():
    assert tuple(trace_of(played()).tracks) == TRACKS


def test_ops_follow_one_another_to_the_end_of_the_run():
    profile = played()
    slices = trace_of(profile).tracks["Ops"]
    assert [each.start for each in slices[1:]] == [each.end for each in slices[:-1]]
    assert (slices[0].start, slices[-1].end) == (0, profile.metrics.total_cycles)


@pytest.mark.parametrize(
    ("cause", "figures"),
    [
        ("DRAM", ["dma_stall_cycles"]),
        ("block mover", ["mover_stall_cycles"]),
        ("dispatch", ["other_cycles"]),
    ],
)
def test_the_stalls_of_a_cause_add_up_op_by_op(cause, figures):
    profile = played()
    found = dict.fromkeys(range(len(profile.program.ops)), 0)
    for each in stalls(profile):
        found[each.op] += (each.end - each.start) * (each.cause == cause)
    rows = [profile.metrics.op_metrics[op.id] for op in profile.program.get_ops_in_order()]
    assert list(found.values()) == [sum(row[figure] for figure in figures) for row in rows]


def test_counters_integrate_to_the_bytes_and_the_energy():
    profile = played()
    found = {
        counter.name: sum(
            value * (stop - start)
            for (start, value), (stop, _) in zip(counter.points, counter.points[1:], strict=False)
        )
        for counter in trace_of(profile).counters
    }
    metrics = profile.metrics
    assert found["DRAM traffic"] == pytest.approx(
        metrics.dram_reads_bytes + metrics.dram_writes_bytes
    )
    # W · cycles / MHz = µJ
    assert found["Power"] / 500 == pytest.approx(metrics.total_energy_uj)


def test_a_tile_flows_from_memory_through_the_arrays():
    trace = trace_of(played())
    flows = {each.flow for each in trace.tracks["Systolic arrays"]}
    assert None not in flows
    assert flows <= {each.flow for each in trace.tracks["Block mover"]}


def test_lanes_keep_slices_that_overlap_apart():
    a, b, c = Slice("a", 0, 10), Slice("b", 5, 15), Slice("c", 10, 20)
    assert lanes([c, b, a]) == [[a, c], [b]]


def test_a_functional_profile_has_ops_and_says_what_it_lacks():
    trace = trace_of(played(SimulationMode.FUNCTIONAL))
    assert tuple(trace.tracks) == ("Ops",)
    assert "functional" in trace.missing[0]


def test_without_power_over_time_there_is_no_counter_of_it():
    trace = trace_of(played(SimulationMode.CYCLE_ACCURATE))
    assert "Power" not in {counter.name for counter in trace.counters}
    assert "no power over time" in trace.missing[0]


def test_of_a_profile_that_was_cut_no_stall_is_named():
    trace = trace_of(played(max_events=20))
    assert "Stalls" not in trace.tracks
    assert any("lacks" in sentence for sentence in trace.missing)


def test_cycles_become_nanoseconds_of_the_clock():
    trace = Trace("p", 300.0, {}, {}, (), ())
    # 10 cycles of 3.33 ns
    assert trace.ns(10) == 33


def test_the_same_profile_gives_the_same_bytes():
    assert perfetto_bytes(trace_of(played())) == perfetto_bytes(trace_of(played()))


def test_chrome_events_have_every_slice_of_the_trace():
    trace = trace_of(played())
    document = json.loads(chrome_text(trace))
    slices = [event for event in document["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == sum(map(len, trace.tracks.values()))
    ends = [event["ts"] + event["dur"] for event in slices]
    assert max(ends) == pytest.approx(played().metrics.total_time_us)
    assert document["otherData"]["ns_per_cycle"] == 2


def test_rows_of_chrome_events_do_not_overlap():
    rows = {}
    for event in json.loads(chrome_text(trace_of(played())))["traceEvents"]:
        if event["ph"] == "X":
            rows.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for spans in rows.values():
        ordered = sorted(spans)
        assert all(one[1] <= other[0] + 1e-9 for one, other in pairwise(ordered))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("command.kind", 9),
        ("command.op", 99),
        ("command.operand", 7),
        ("command.end_cycle", 1 << 40),
    ],
)
def test_commands_of_another_run_are_refused(column, value):
    profile = played()
    events = {**profile.events, column: np.full_like(profile.events[column], value)}
    with pytest.raises(FileError):
        trace_of(replace(profile, events=events))


def test_a_trace_of_a_file_is_that_of_the_run(tmp_path):
    save(played(), tmp_path / "run.kprof")
    assert perfetto_bytes(trace_of(load_profile(tmp_path / "run.kprof"))) == perfetto_bytes(
        trace_of(played())
    )


def test_a_profile_without_commands_is_no_error():
    assert trace_of(small_profile()).tracks["Ops"][-1].end == 300
