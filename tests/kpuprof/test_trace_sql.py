"""Perfetto's trace processor finds in a trace what the profile says, by SQL."""

from dataclasses import replace

import pytest

from formats.profile import SimulationMode
from kpuprof.trace import trace_of
from kpuprof.trace_chrome import chrome_text
from kpuprof.trace_perfetto import perfetto_bytes
from kpuprof.tracks import Slice
from tests.kpuprof.simulated import played
from tests.kpuprof.trace_processor import processor  # noqa: F401  # a fixture

pytestmark = pytest.mark.node
NS_PER_CYCLE = 2  # 500 MHz
SLICES = "select slice.*, track.name as track from slice join track on slice.track_id = track.id"


@pytest.fixture(scope="module")
def loaded(processor):  # noqa: F811
    return processor(perfetto_bytes(trace_of(played())))


def test_the_trace_is_read_without_an_error(loaded):
    assert loaded.rows("select name from stats where severity = 'error' and value > 0") == []


def test_the_ops_take_the_cycles_of_the_record(loaded):
    metrics = played().metrics
    (row,) = loaded.rows(
        "select sum(dur) as ns, sum(extract_arg(arg_set_id, 'debug.cycles')) as cycles "
        "from slice join track on slice.track_id = track.id where track.name = 'Ops'"
    )
    assert row["cycles"] == metrics.total_cycles
    assert row["ns"] == metrics.total_cycles * NS_PER_CYCLE


@pytest.mark.parametrize(
    ("figure", "total"),
    [
        ("dram_read_bytes", "dram_reads_bytes"),
        ("dram_write_bytes", "dram_writes_bytes"),
        ("compute_cycles", "compute_cycles"),
        ("memory_stall_cycles", "memory_stall_cycles"),
    ],
)
def test_the_figures_of_the_ops_add_up_to_the_record(loaded, figure, total):
    (row,) = loaded.rows(
        f"select sum(extract_arg(arg_set_id, 'debug.{figure}')) as found "
        "from slice join track on slice.track_id = track.id where track.name = 'Ops'"
    )
    assert row["found"] == getattr(played().metrics, total)


def test_stalls_are_named_and_add_up(loaded):
    metrics = played().metrics
    rows = loaded.rows(
        "select slice.name as cause, sum(dur) as ns from slice join track "
        "on slice.track_id = track.id where track.name = 'Stalls' group by slice.name"
    )
    cycles = {row["cause"]: row["ns"] / NS_PER_CYCLE for row in rows}
    assert cycles.pop("waits for dispatch") == metrics.other_cycles
    assert sum(cycles.values()) == metrics.memory_stall_cycles


def test_bytes_over_the_dram_bus_are_those_of_the_record(loaded):
    metrics = played().metrics
    rows = loaded.rows(
        "select track.name as track, sum(extract_arg(arg_set_id, 'debug.bytes')) as bytes "
        "from slice join track on slice.track_id = track.id "
        "where track.name in ('DMA in', 'DMA out') group by track.name"
    )
    found = {row["track"]: row["bytes"] for row in rows}
    assert found == {"DMA in": metrics.dram_reads_bytes, "DMA out": metrics.dram_writes_bytes}


def test_slices_that_overlap_are_all_there(loaded):
    profile = played()
    (row,) = loaded.rows("select count(*) as slices from slice where dur >= 0")
    trace = trace_of(profile)
    assert row["slices"] == sum(map(len, trace.tracks.values())) + 1  # the instant of the run


def test_every_arrow_is_there_and_leads_on_in_time(loaded):
    rows = loaded.rows(
        "select s.ts + s.dur as left, t.ts as arrived from flow "
        "join slice s on flow.slice_out = s.id join slice t on flow.slice_in = t.id"
    )
    tracks = trace_of(played()).tracks.values()
    assert len(rows) == sum(len(each.leaving) for track in tracks for each in track) > 0
    assert all(row["left"] <= row["arrived"] for row in rows)


def test_arrows_follow_the_data_from_dram_to_dram(loaded):
    rows = loaded.rows(
        f"with named as ({SLICES}) select distinct s.track as left, t.track as arrived "
        "from flow join named s on flow.slice_out = s.id join named t on flow.slice_in = t.id"
    )
    assert {(row["left"], row["arrived"]) for row in rows} <= {
        ("DMA in", "Block mover"),
        ("Block mover", "Systolic arrays"),
        ("Block mover", "Vector units"),
        ("Block mover", "Block mover"),  # a move, through L1 and back
        ("Systolic arrays", "Block mover"),
        ("Vector units", "Block mover"),
        ("Block mover", "DMA out"),
    }


def test_what_a_result_is_made_of_is_found_from_its_store(loaded):
    # All that the first store to DRAM comes from, arrow by arrow.
    rows = loaded.rows(
        f"with recursive named as ({SLICES}), source(id) as ("
        "select min(id) from named where track = 'DMA out' union "
        "select slice_out from flow join source on slice_in = source.id) "
        "select distinct track from named join source on named.id = source.id"
    )
    computed = {"Systolic arrays", "Vector units"} & {row["track"] for row in rows}
    assert {row["track"] for row in rows} - computed == {"DMA in", "Block mover", "DMA out"}
    assert len(computed) == 1


def test_counters_have_units(loaded):
    rows = loaded.rows("select name, unit from counter_track order by name")
    assert {row["name"]: row["unit"] for row in rows} == {
        "DRAM traffic": "B/cycle",
        "L1 in use": "bytes",
        "L1 traffic": "B/cycle",
        "L2 in use": "bytes",
        "L2 traffic": "B/cycle",
        "Power": "W",
    }


def test_the_run_says_how_long_a_cycle_is(loaded):
    (row,) = loaded.rows(
        "select extract_arg(arg_set_id, 'debug.ns_per_cycle') as ns, "
        "extract_arg(arg_set_id, 'debug.scale') as scale from slice where name = 'run'"
    )
    assert (row["ns"], row["scale"]) == (NS_PER_CYCLE, "1 cycle = 2 ns (500 MHz)")


def test_slices_that_overlap_keep_their_times(processor):  # noqa: F811
    # A long one that two others interrupt, one that nests in it and one that outlasts it; one of
    # no length where another begins.
    spans = {
        "long": (0, 10),
        "inner": (2, 4),
        "crossing": (6, 14),
        "next": (10, 12),
        "none": (2, 2),
    }
    slices = [Slice(name, *span) for name, span in spans.items()]
    trace = replace(trace_of(played()), tracks={"DMA in": slices}, counters=())
    for found in (perfetto_bytes(trace), chrome_text(trace).encode()):
        rows = processor(found).rows("select name, ts, dur from slice where name != 'run'")
        cycles = {row["name"]: (row["ts"] // 2, (row["ts"] + row["dur"]) // 2) for row in rows}
        assert cycles == spans


@pytest.mark.parametrize("mode", [SimulationMode.FUNCTIONAL, SimulationMode.POWER_TRACE])
@pytest.mark.parametrize(
    "query",
    [
        "select name, ts, dur, extract_arg(arg_set_id, 'KEY.cycles') as cycles, "
        "extract_arg(arg_set_id, 'KEY.op') as op from slice where name != 'run' "
        "order by ts, dur, name, op",
        "select s.name as left, s.ts, t.name as arrived, t.ts as at from flow "
        "join slice s on slice_out = s.id join slice t on slice_in = t.id order by 1, 2, 3, 4",
    ],
    ids=["slices", "arrows"],
)
def test_both_formats_say_the_same(processor, mode, query):  # noqa: F811
    trace = trace_of(played(mode))
    native = processor(perfetto_bytes(trace)).rows(query.replace("KEY", "debug"))
    assert processor(chrome_text(trace).encode()).rows(query.replace("KEY", "args")) == native


def test_both_formats_count_the_same(processor):  # noqa: F811
    trace, query = trace_of(played()), "select ts, value from counter order by ts, track_id"
    native = processor(perfetto_bytes(trace)).rows(query)
    found = processor(chrome_text(trace).encode()).rows(query)
    assert [row["ts"] for row in found] == [row["ts"] for row in native]
    # The processor reads numbers of JSON to the last but one bit.
    expected = pytest.approx([row["value"] for row in native], rel=1e-15)
    assert [row["value"] for row in found] == expected


@pytest.mark.parametrize("clock_mhz", [333.3, 3000.0])
def test_cycles_add_up_whatever_the_clock(processor, clock_mhz):  # noqa: F811
    profile = played()
    config = profile.program.target_config
    other = replace(config, compute=replace(config.compute, clock_mhz=clock_mhz))
    trace = trace_of(replace(profile, program=replace(profile.program, target_config=other)))
    query = (
        f"with named as ({SLICES}) select track, "
        "sum(extract_arg(arg_set_id, 'debug.cycles')) as cycles from named "
        "where track in ('Ops', 'Stalls') group by track order by track"
    )
    ops, waits = processor(perfetto_bytes(trace)).rows(query)
    metrics = profile.metrics
    assert ops["cycles"] == metrics.total_cycles
    assert waits["cycles"] == metrics.memory_stall_cycles + metrics.other_cycles
