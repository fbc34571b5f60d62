"""What Perfetto's trace processor reads in a trace is what the file of the profile says, read here
without any code of ours."""

import re
from collections import defaultdict

import pytest

from formats.console import run
from formats.container import save
from kpuprof.cli import app
from tests.kpuprof.simulated import played
from tests.kpuprof.stored import ops_in_order, stored, stored_columns
from tests.kpuprof.trace_processor import processor  # noqa: F401  # a fixture

pytestmark = pytest.mark.node


@pytest.fixture
def simulated(tmp_path):
    """The file of a simulation: (path, profile.json, columns of events)."""
    path = tmp_path / "simulated.kprof"
    save(played(), path)
    return str(path), stored(path), stored_columns(path)


@pytest.fixture(params=["trace.pftrace", "trace.json"])
def ask(request, simulated, processor, tmp_path):  # noqa: F811
    """A function that asks Perfetto's trace processor about the trace of that file, by SQL. In it
    `named` are the slices with the names of their tracks; ARG(x) is the argument x of a slice."""
    run(app, "kpuprof", ["trace", simulated[0], "-o", str(tmp_path / request.param)])
    loaded = processor((tmp_path / request.param).read_bytes())
    is_json = request.param.endswith("json")
    track = (
        "thread.name from slice join thread_track t on track_id = t.id join thread using (utid)"
        if is_json
        else "t.name from slice join track t on track_id = t.id"
    )
    named = f"with named as (select slice.*, {track.replace(' from', ' as track from', 1)}) "
    prefix = "args" if is_json else "debug"
    return lambda sql: loaded.rows(
        named + re.sub(r"ARG\((\w+)\)", rf"extract_arg(arg_set_id, '{prefix}.\1')", sql)
    )


def in_order(document):
    """(id of op, its figures) in scheduled order."""
    return [(op["id"], row) for op, row in ops_in_order(document)]


def test_every_figure_of_every_op_of_a_trace(ask, simulated):
    _, document, columns = simulated
    names = sorted({name for _, row in in_order(document) for name in row} - {"bound_by"})
    assert len(names) > 25
    figures = ", ".join(f"ARG({name}) as {name}" for name in names)
    rows = ask(
        f"select ARG(op) as op, ts, dur, {figures} from named where track = 'Ops' order by ts"
    )
    spans = zip(columns["op.start_cycle"], columns["op.end_cycle"], strict=True)
    expected = [
        {"op": op_id, "ts": start * 2, "dur": (end - start) * 2}  # 500 MHz
        | {name: pytest.approx(row[name], rel=1e-15) for name in names}
        for (op_id, row), (start, end) in zip(in_order(document), spans, strict=True)
        if end > start  # a view takes no time
    ]
    assert rows == expected


def test_the_sums_of_the_ops_of_a_trace(ask, simulated):
    metrics = simulated[1]["metrics"]
    (row,) = ask(
        "select sum(dur) / 2 as total_cycles, sum(ARG(energy_pj)) / 1e6 as total_energy_uj, "
        "sum(ARG(compute_cycles)) as compute_cycles, sum(ARG(time_us)) as total_time_us, "
        "sum(ARG(dram_read_bytes)) as dram_reads_bytes, sum(ARG(l1_misses)) as l1_misses, "
        "sum(ARG(dram_write_bytes)) as dram_writes_bytes, sum(ARG(l2_misses)) as l2_misses, "
        "sum(ARG(l1_read_bytes) + ARG(l2_read_bytes)) as sram_reads_bytes, "
        "sum(ARG(l1_write_bytes) + ARG(l2_write_bytes)) as sram_writes_bytes "
        "from named where track = 'Ops'"
    )
    assert row == {name: pytest.approx(metrics[name], rel=1e-12) for name in row}


def test_every_command_of_a_trace(ask, simulated):
    _, document, columns = simulated
    units = ("Systolic arrays", "Vector units", "Block mover", "DMA in", "DMA out")
    rows = ask(
        "select ARG(op) as op, ARG(tile) as tile, ts / 2 as start, (ts + dur) / 2 as end, "
        "coalesce(ARG(bytes), 0) as bytes, ARG(start_cycle) as cycle, ARG(cycles) as cycles, "
        f"track from named where rtrim(track, ' 23456789') in {units}"
    )
    tracks = ("DMA in", "DMA out", "Block mover", "Block mover")
    op_ids = [op_id for op_id, _ in in_order(document)]
    names = ("op", "step", "start_cycle", "end_cycle", "bytes")
    expected = [
        (op_ids[op], step, start, end, size, start, end - start)
        for op, step, start, end, size in zip(
            *(columns[f"command.{name}"] for name in names), strict=True
        )
    ]
    assert sorted(tuple(row.values())[:-1] for row in rows) == sorted(expected)
    for kind, track in enumerate(tracks):
        moved = [row["bytes"] for row in rows if row["track"].startswith(track)]
        kinds = {kind for kind, name in enumerate(tracks) if name == track}
        sizes = zip(columns["command.kind"], columns["command.bytes"], strict=True)
        assert sum(moved) == sum(size for kind, size in sizes if kind in kinds), kind


def test_bytes_by_level_of_the_transfers_of_a_trace(ask, simulated):
    # All that L2 and DRAM give and take is carried by commands; of L1 the arrays and lanes have
    # their part.
    names = ("dram_read_bytes", "dram_write_bytes", "l2_read_bytes", "l2_write_bytes")
    sums = ", ".join(f"sum(ARG({name})) as {name}" for name in names)
    rows = ask(
        f"select ARG(op) as op, {sums} from named where track != 'Ops' group by 1 order by 1"
    )
    table = simulated[1]["metrics"]["op_metrics"]
    found = {row.pop("op"): row for row in rows if row["op"]}
    assert found.keys() == {op_id for op_id, row in table.items() if row["cycles"]}
    for op_id, sizes in found.items():
        assert {name: size or 0 for name, size in sizes.items()} == {
            name: table[op_id][name] for name in names
        }


def test_the_stalls_of_a_trace_by_cause_op_by_op(ask, simulated):
    rows = ask(
        "select ARG(op) as op, name, sum(dur) / 2 as cycles from named where track = 'Stalls' "
        "group by 1, 2"
    )
    figures = {
        "waits for DRAM": "dma_stall_cycles",
        "waits for block mover": "mover_stall_cycles",
        "waits for dispatch": "other_cycles",
    }
    expected = {
        (op_id, cause): row[figure]
        for op_id, row in simulated[1]["metrics"]["op_metrics"].items()
        for cause, figure in figures.items()
        if row[figure]
    }
    assert {(row["op"], row["name"]): row["cycles"] for row in rows} == expected


def test_the_counters_of_a_trace(ask, simulated):
    _, document, columns = simulated
    rows = ask(
        "select name, ts / 2 as cycle, value from counter join counter_track t on track_id = t.id"
    )
    found = defaultdict(list)
    for row in rows:
        found[row["name"].split(" B")[0].removesuffix(" W")].append((row["cycle"], row["value"]))
    end = document["metrics"]["total_cycles"]
    power = zip(columns["power.start_cycle"], columns["power.watts"], strict=True)
    assert found["Power"] == [(at, pytest.approx(watts, rel=1e-15)) for at, watts in power] + [
        (end, 0)
    ]
    steps = zip(
        columns["op.start_cycle"], columns["op.end_cycle"], columns["op.l2_live_bytes"], strict=True
    )
    assert found["L2 in use"] == [(at, size) for at, stop, size in steps if stop > at] + [(end, 0)]
    metrics = document["metrics"]
    totals = {
        "DRAM traffic": metrics["dram_reads_bytes"] + metrics["dram_writes_bytes"],
        "Power": metrics["total_energy_uj"] * 500,  # W · cycles / MHz = µJ
    }
    for name, total in totals.items():
        steps = zip(found[name], found[name][1:], strict=False)
        integral = sum(value * (until - at) for (at, value), (until, _) in steps)
        assert integral == pytest.approx(total, rel=1e-9), name


def test_the_totals_of_a_trace(simulated, processor, tmp_path):  # noqa: F811
    path, document, _ = simulated
    run(app, "kpuprof", ["trace", path, "-o", str(tmp_path / "trace.pftrace")])
    totals = {name: value for name, value in document["metrics"].items() if name != "op_metrics"}
    wanted = ", ".join(f"extract_arg(arg_set_id, 'debug.{name}') as {name}" for name in totals)
    trace = (tmp_path / "trace.pftrace").read_bytes()
    (row,) = processor(trace).rows(f"select {wanted} from slice where name = 'run'")
    assert row == totals
    (process,) = processor(trace).rows("select name from process where name like 'KPU%'")
    assert process["name"] == f"KPU {document['program']['target_config']['name']}"
