"""A run as tracks: units, stalls by cause, counters; what it does not know is said, not made up."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from formats.container import load_profile, save
from formats.errors import FileError, LimitError
from formats.profile import SimulationMode
from kpuprof.arrows import arrows
from kpuprof.stalls import stalls
from kpuprof.trace import trace_of
from kpuprof.trace_chrome import chrome_text
from kpuprof.trace_perfetto import perfetto_bytes
from kpuprof.tracks import TRACKS, UNKNOWN, Slice, Trace, lanes
from kpuprof.units import runs_on_arrays
from kpurun.ops.loopnest import Unit
from kpurun.work import work_of
from tests.kpuprof.profiles import small_profile
from tests.kpuprof.simulated import played, shallow_program


def test_every_unit_has_a_track():
    assert {*trace_of(played()).tracks} == {*TRACKS} - {UNKNOWN}


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


def test_arrows_lead_from_what_a_tile_works_on_to_what_it_gives():
    # One op of two tiles: weights are loaded once, into L1 once; both results leave together.
    kinds = [0, 2, 0, 2, 4, 3, 0, 2, 4, 3, 1]
    operands = [1, 1, 0, 0, -1, 0, 0, 0, -1, 0, 0]
    first_tile = [(0, 1), (2, 3), (1, 4), (3, 4), (4, 5)]
    second_tile = [(6, 7), (1, 8), (7, 8), (8, 9)]
    together = [(5, 10), (9, 10)]
    assert [*arrows([0] * 11, kinds, operands)] == first_tile + second_tile + together


def test_a_move_stores_what_was_loaded():
    # A transposition has no compute.
    assert [*arrows([0] * 4, [2, 3, 2, 3], [0] * 4)] == [(0, 1), (2, 3)]


def test_no_arrow_leads_from_one_op_to_another():
    assert [*arrows([0, 1], [2, 4], [0, -1])] == []


def test_every_tile_has_data_that_came_from_somewhere():
    trace = trace_of(played())
    assert all(each.arriving for each in trace.tracks["Systolic arrays"])
    assert all(each.leaving for each in trace.tracks["DMA in"])
    assert all(each.arriving for each in trace.tracks["DMA out"])


@pytest.mark.parametrize("program", [played().program, shallow_program()], ids=lambda it: it.name)
def test_a_tile_is_shown_on_the_unit_that_the_machine_runs_it_on(program):
    ops = program.get_ops_in_order()
    units = {op.id: work_of(program, op).nest.unit for op in ops}
    assert {Unit.SYSTOLIC, Unit.VECTOR} <= {*units.values()}
    for op in ops:
        assert runs_on_arrays(program, op) == (units[op.id] is Unit.SYSTOLIC)


def test_the_bus_is_never_shown_above_its_peak():
    # What is loaded ahead moves when the bus has time, not when its op runs. 25.6 GB/s at 500 MHz
    # are 51.2 bytes a cycle.
    (bus,) = (each for each in trace_of(played()).counters if each.name == "DRAM traffic")
    assert 0 < max(value for _, value in bus.points) <= 51.2


def test_what_l1_holds_is_within_l1():
    (used,) = (each for each in trace_of(played()).counters if each.name == "L1 in use")
    assert 0 < max(value for _, value in used.points) <= 256 * 1024


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


def test_a_profile_that_was_cut_shows_from_when_on_it_does_not_know():
    profile = played(max_events=20)
    left_out = profile.options["left_out"]
    last_op = int(profile.events["command.op"][-1])
    begins = {
        "command": int(profile.events["op.start_cycle"][last_op]),
        "power": int(profile.events["power.start_cycle"][-1]),
    }
    found = {each.name: (each.start, each.end) for each in trace_of(profile).tracks[UNKNOWN]}
    end = profile.metrics.total_cycles
    assert found == {f"{it}: {left_out[it]:,} left out": (begins[it], end) for it in begins}


def test_power_that_was_cut_does_not_fall_to_nothing():
    profile = played(max_events=20)
    (power,) = (each for each in trace_of(profile).counters if each.name == "Power")
    starts, watts = (profile.events[f"power.{name}"].tolist() for name in ("start_cycle", "watts"))
    assert [*power.points] == [*zip(starts, watts, strict=True)]


def test_a_profile_of_an_older_simulator_names_no_stall_and_says_so():
    profile = played()
    events = {name: column for name, column in profile.events.items() if "busy_from" not in name}
    trace = trace_of(replace(profile, events=events))
    assert "Stalls" not in trace.tracks
    assert "no stall is named" in trace.missing[0]


def test_cycles_become_nanoseconds_of_the_clock():
    trace = Trace("p", 300.0, {}, {}, (), ())
    # 10 cycles of 3.33 ns
    assert trace.ns(10) == 33


def test_a_clock_without_whole_nanoseconds_keeps_cycles_apart_and_in_order():
    # 3 GHz: three cycles a nanosecond
    trace = Trace("p", 3000.0, {}, {}, (), ())
    assert [trace.ns(cycle) for cycle in range(7)] == [0, 0, 1, 1, 1, 2, 2]
    assert trace.scale.startswith("1 cycle = 1/3 ns (3000 MHz); times are rounded")


@pytest.mark.parametrize("clock_mhz", [1e-300, 1e-9])
def test_a_run_of_more_than_104_days_is_refused(clock_mhz):
    profile = played()
    config = profile.program.target_config
    slow = replace(config, compute=replace(config.compute, clock_mhz=clock_mhz))
    program = replace(profile.program, target_config=slow)
    with pytest.raises(LimitError, match="104 days"):
        trace_of(replace(profile, program=program))


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
        ("command.operand", -7),
        ("command.step", -1),
        ("command.bytes", -1),
        ("command.end_cycle", 1 << 40),
        ("command.busy_from_cycle", 1 << 40),
        ("op.start_cycle", 1 << 40),
        ("op.end_cycle", 1 << 40),
        ("power.watts", np.nan),
    ],
)
def test_columns_of_another_run_are_refused(column, value):
    profile = played()
    events = {**profile.events, column: np.full_like(profile.events[column], value)}
    with pytest.raises(FileError):
        trace_of(replace(profile, events=events))


@pytest.mark.parametrize("column", ["op", "start_cycle"])
def test_columns_that_are_turned_round_are_refused(column):
    profile = played()
    name = f"command.{column}"
    with pytest.raises(FileError):
        trace_of(replace(profile, events={**profile.events, name: profile.events[name][::-1]}))


def test_a_table_of_commands_without_all_columns_is_refused():
    profile = played()
    events = {name: column for name, column in profile.events.items() if name != "command.step"}
    with pytest.raises(FileError, match="lacks columns"):
        trace_of(replace(profile, events=events))


@pytest.mark.parametrize("value", [5, [], "command", {"command": "all"}, {"command": -1}])
def test_options_of_strangers_mean_nothing(value):
    assert "Stalls" in trace_of(replace(played(), options={"left_out": value})).tracks


def test_figures_beyond_whole_numbers_are_written():
    profile = played()
    table = {op_id: {**row, "later": 1e300} for op_id, row in profile.metrics.op_metrics.items()}
    metrics = replace(profile.metrics, op_metrics=table)
    trace = trace_of(replace(profile, metrics=metrics))
    assert trace.tracks["Ops"][0].args["later"] == 1e300
    assert perfetto_bytes(trace)


def test_a_trace_of_a_file_is_that_of_the_run(tmp_path):
    save(played(), tmp_path / "run.kprof")
    assert perfetto_bytes(trace_of(load_profile(tmp_path / "run.kprof"))) == perfetto_bytes(
        trace_of(played())
    )


def test_a_profile_without_commands_is_no_error():
    assert trace_of(small_profile()).tracks["Ops"][-1].end == 300
