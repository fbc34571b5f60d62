"""What the commands print is what the file says, read here without any code of ours."""

import json
import zipfile

import pytest

import kpuprof
from formats.console import run
from formats.container import save
from kpuprof.cli import app
from kpuprof.figures import FIGURES
from tests.kpuprof.networks import network, profile_of
from tests.kpuprof.profiles import small_profile


@pytest.fixture
def path(tmp_path):
    save(profile_of(network(), conv=123, gemm=77), tmp_path / "run.kprof")
    return str(tmp_path / "run.kprof")


def stored(path):
    """profile.json of the file."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("profile.json"))


def printed(capsys, *words):
    capsys.readouterr()
    run(app, "kpuprof", [*words])
    return json.loads(capsys.readouterr().out)


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
