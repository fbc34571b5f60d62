"""What the commands print is what the file says, read here without any code of ours."""

import csv
import io
import json
from xml.etree import ElementTree

import pytest

import kpuprof
from formats.console import run
from formats.container import save
from kpuprof.cli import app
from kpuprof.figures import FIGURES
from tests.kpuprof.networks import network, profile_of
from tests.kpuprof.profiles import small_profile
from tests.kpuprof.simulated import played
from tests.kpuprof.stored import ops_in_order, says, stored, stored_columns


@pytest.fixture
def path(tmp_path):
    save(profile_of(network(), conv=123, gemm=77), tmp_path / "run.kprof")
    return str(tmp_path / "run.kprof")


def printed(capsys, *words):
    capsys.readouterr()
    run(app, "kpuprof", [*words])
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def slower(tmp_path):
    """Another run of the program."""
    save(profile_of(network(), conv=150, gemm=70), tmp_path / "slower.kprof")
    return str(tmp_path / "slower.kprof")


def cells(line):
    """Of a row of a Markdown table, without its mark-up."""
    return [cell.strip().strip("`") for cell in line.strip("| \n").split("|")]


def test_the_totals_of_a_diff(path, capsys):
    metrics = stored(path)["metrics"]
    totals = printed(capsys, "diff", path, path, "--json")["totals"]
    names = set(metrics) & {figure.name for figure in FIGURES}
    assert len(names) > 15
    assert {name: totals[name]["base"] for name in names} == {n: metrics[n] for n in names}


def test_the_ops_of_a_diff(path, capsys):
    table = stored(path)["metrics"]["op_metrics"]
    ops = printed(capsys, "diff", path, path, "--json")["ops"]
    assert {op["new_ops"][0] for op in ops} == set(table)
    for op in ops:
        row = table[op["new_ops"][0]]
        figures = {name: change["new"] for name, change in op["figures"].items()}
        for name in ("cycles", "time_us", "compute_cycles", "macs", "dram_read_bytes"):
            assert figures[name] == row[name]
        assert figures["energy_uj"] == row["energy_pj"] / 1e6
        assert figures["dram_bytes"] == row["dram_read_bytes"] + row["dram_write_bytes"]
        assert figures["lost_cycles"] == row["cycles"] - row["roofline_cycles"]


def test_the_figures_of_a_check(path, capsys):
    document = stored(path)
    metrics, program = document["metrics"], document["program"]
    words = [f"--budget={name}=1" for name in ("total_time_us", "energy", "peak_l2")]
    time, energy, peak = printed(capsys, "check", path, *words, "--json")["budgets"]
    assert time["value"] == metrics["total_time_us"]
    assert energy["value"] == metrics["total_energy_uj"]
    assert peak["value"] == program["peak_sram_bytes"]
    spent = {op["id"]: op["spent"] for op in time["ops"]}
    assert spent == {op_id: row["cycles"] for op_id, row in metrics["op_metrics"].items()}


def test_the_rows_of_an_export(path, capsys):
    table = stored(path)["metrics"]["op_metrics"]
    for op in printed(capsys, "export", path, "-o", "-", "--format", "json")["ops"]:
        row = table[op["id"]]
        assert {key: op[key] for key in row if key != "bound_by"} == {
            key: value for key, value in row.items() if key != "bound_by"
        }


def test_python_takes_files_profiles_and_programs(path):
    assert kpuprof.measure(path).totals["total_cycles"] == 500
    found = kpuprof.compare(small_profile(), small_profile().program)
    assert (found.base.name, found.new.mode) == ("small", "compiler's estimate")


def test_the_tables_of_a_diff_in_markdown(path, slower, capsys):
    base, new = stored(path), stored(slower)
    run(app, "kpuprof", ["diff", path, slower, "--markdown", "--top", "0"])
    rows = [cells(line) for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    totals = {row[0]: row[1:] for row in rows if len(row) == 4}
    seen = set(totals) & set(base["metrics"])
    assert seen >= {"total_cycles", "total_time_us", "compute_cycles"}
    for name in seen:
        first, second = base["metrics"][name], new["metrics"][name]
        assert says(totals[name][0], first), name
        assert says(totals[name][1], second), name
        assert says(totals[name][2], second / first - 1), name
    names = {op["name"] or op["id"]: op["id"] for op in base["program"]["ops"]}
    ops = {row[0]: row for row in rows if row[0] in names}
    tables = base["metrics"]["op_metrics"], new["metrics"]["op_metrics"]
    figures = {name: [table[op_id] for table in tables] for name, op_id in names.items()}
    changed = {name for name, (a, b) in figures.items() if a["cycles"] != b["cycles"]}
    assert ops.keys() >= changed != set()
    for name, row in ops.items():
        first, second = figures[name]
        assert says(row[2], first["cycles"])
        assert says(row[3], second["cycles"])
        assert says(row[4], second["cycles"] - first["cycles"])
        assert says(row[5], (second["energy_pj"] - first["energy_pj"]) / 1e6)


def test_the_verdicts_of_a_diff_in_junit(path, slower, tmp_path):
    base, new = stored(path), stored(slower)
    words = ["--fail-over", "cycles=1%,dram_bytes=1GiB", "--junit", str(tmp_path / "out.xml")]
    run(app, "kpuprof", ["diff", path, slower, *words])
    suite = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    failure = suite.find(".//failure")
    before, after, *_ = failure.get("message").removeprefix("total_cycles ").split(" → ")
    assert says(before, base["metrics"]["total_cycles"])
    assert says(after.split(" (")[0], new["metrics"]["total_cycles"])
    names = {op["name"] or op["id"]: op["id"] for op in base["program"]["ops"]}
    rises = {
        name: new["metrics"]["op_metrics"][op_id]["cycles"]
        - base["metrics"]["op_metrics"][op_id]["cycles"]
        for name, op_id in names.items()
    }
    lines = failure.text.splitlines()
    assert len(lines) == sum(rise > 0 for rise in rises.values())
    for line in lines:
        name, change, *_ = line.split("  ")
        assert says(change, rises[name])


def test_the_figures_of_a_check_in_junit(path, tmp_path):
    words = ["--budget", "total_time_us=0.001", "--junit", str(tmp_path / "out.xml")]
    run(app, "kpuprof", ["check", path, *words])
    failure = ElementTree.parse(tmp_path / "out.xml").getroot().find(".//failure")
    figure = failure.get("message").removeprefix("total_time_us is ").split(",")[0]
    assert says(figure, stored(path)["metrics"]["total_time_us"])


def test_the_rows_of_an_export_in_csv(path, capsys):
    table, columns = stored(path)["metrics"]["op_metrics"], stored_columns(path)
    run(app, "kpuprof", ["export", path, "-o", "-", "--format", "csv"])
    for index, op in enumerate(csv.DictReader(io.StringIO(capsys.readouterr().out))):
        figures = {key: value for key, value in table[op["id"]].items() if key != "bound_by"}
        assert {key: float(op[key]) for key in figures} == figures
        for name in ("start_cycle", "end_cycle", "l2_live_bytes"):
            assert int(op[name]) == columns[f"op.{name}"][index]


def test_the_figures_of_show(path, capsys):
    document = stored(path)
    found = printed(capsys, "show", path, "--json")
    metrics, summary = document["metrics"], found["summary"]
    names = set(metrics) & set(summary)
    assert len(names) > 8
    assert {name: summary[name] for name in names} == {name: metrics[name] for name in names}
    for op, (source, row) in zip(found["ops"], ops_in_order(document), strict=True):
        assert (op["id"], op["cycles"]) == (source["id"], row["cycles"])
        assert op["energy_uj"] == row["energy_pj"] / 1e6


def test_the_figures_of_advice(tmp_path, capsys):
    path = str(tmp_path / "run.kprof")
    save(played(), path)
    metrics = stored(path)["metrics"]
    table = metrics["op_metrics"].values()
    found = printed(capsys, "advise", path, "--json")
    assert found["total_cycles"] == metrics["total_cycles"]
    names = ("none", "compute", "vector", "dram", "sram", "dispatch")
    bounds = {each["cause"]: each for each in found["limits"]}
    for place, name in enumerate(names):
        cycles = sum(row["cycles"] for row in table if row["bound_by"] == place)
        assert bounds.get(name, {"cycles": 0})["cycles"] == cycles
    stalls = {each["cause"]: each["cycles"] for each in found["stalls"]}
    figures = {
        "waiting for DRAM": "dma_stall_cycles",
        "waiting for the block mover": "mover_stall_cycles",
        "dispatching ops": "other_cycles",
    }
    for cause, figure in figures.items():
        assert stalls.get(cause, 0) == sum(row[figure] for row in table)
    for each in (*found["limits"], *found["stalls"]):
        assert each["share"] == each["cycles"] / metrics["total_cycles"]
    for remedy in found["remedies"]:
        assert remedy["cycles_saved"] == metrics["total_cycles"] - remedy["total_cycles"]
        spent = metrics["total_energy_uj"] - remedy["total_energy_uj"]
        assert remedy["energy_uj_saved"] == spent
