"""Perfetto's trace processor finds in a trace what the profile says, by SQL."""

import pytest

from formats.profile import SimulationMode
from kpuprof.trace import trace_of
from kpuprof.trace_chrome import chrome_text
from kpuprof.trace_perfetto import perfetto_bytes
from tests.kpuprof.simulated import played
from tests.kpuprof.trace_processor import processor  # noqa: F401  # a fixture

pytestmark = pytest.mark.node
NS_PER_CYCLE = 2  # 500 MHz


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


def test_tiles_are_followed_from_slice_to_slice(loaded):
    (row,) = loaded.rows(
        "select count(*) as arrows from flow join slice s on flow.slice_out = s.id "
        "join slice t on flow.slice_in = t.id "
        "where extract_arg(s.arg_set_id, 'debug.tile') = extract_arg(t.arg_set_id, 'debug.tile')"
    )
    (all_arrows,) = loaded.rows("select count(*) as arrows from flow")
    assert row["arrows"] == all_arrows["arrows"] > 0


def test_counters_have_units(loaded):
    rows = loaded.rows("select name, unit from counter_track order by name")
    assert {row["name"]: row["unit"] for row in rows} == {
        "DRAM traffic": "B/cycle",
        "L1 traffic": "B/cycle",
        "L2 in use": "bytes",
        "L2 traffic": "B/cycle",
        "Power": "W",
    }


def test_the_run_says_how_long_a_cycle_is(loaded):
    (row,) = loaded.rows(
        "select extract_arg(arg_set_id, 'debug.ns_per_cycle') as ns from slice where name = 'run'"
    )
    assert row["ns"] == NS_PER_CYCLE


def test_chrome_events_have_the_same_slices(processor):  # noqa: F811
    trace = trace_of(played(SimulationMode.CYCLE_ACCURATE))
    query = "select name, ts, dur from slice where name != 'run' order by ts, dur, name"
    native = processor(perfetto_bytes(trace)).rows(query)
    assert processor(chrome_text(trace).encode()).rows(query) == native
