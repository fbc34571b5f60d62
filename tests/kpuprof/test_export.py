"""`kpuprof export`: every figure of the profile, unrounded, for other tools."""

import csv
import io
import json
from dataclasses import replace

import pytest

from formats.console import run
from formats.container import load_profile, save
from formats.profile import OP_FIGURES
from kpuprof.cli import app
from kpuprof.export import op_records
from kpuprof.workload import workload
from tests.kpuprof.networks import network, profile_of
from tests.kpuprof.profiles import small_profile


@pytest.fixture
def path(tmp_path):
    save(profile_of(network(), conv=123, gemm=77), tmp_path / "run.kprof")
    return str(tmp_path / "run.kprof")


def export(*words):
    return run(app, "kpuprof", ["export", *words])


def csv_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_every_number_of_the_csv_is_the_one_in_the_profile(path, tmp_path):
    assert export(path, "-o", str(tmp_path / "ops.csv")) == 0
    profile = load_profile(path)
    rows = csv_rows((tmp_path / "ops.csv").read_text())
    assert [row["id"] for row in rows] == [op.id for op in profile.program.get_ops_in_order()]
    for place, row in enumerate(rows):
        figures = profile.metrics.op_metrics[row["id"]]
        for key in set(figures) - {"bound_by"}:
            assert float(row[key]) == figures[key], key
        for key in ("start_cycle", "end_cycle", "l2_live_bytes"):
            assert int(row[key]) == profile.events[f"op.{key}"][place]


def test_every_number_of_the_json_is_the_one_in_the_profile(path, tmp_path):
    assert export(path, "-o", str(tmp_path / "ops.json")) == 0
    metrics = load_profile(path).metrics
    document = json.loads((tmp_path / "ops.json").read_text())
    assert (document["schema_version"], document["command"]) == ("1.0", "export")
    for name, value in document["metrics"].items():
        assert value == getattr(metrics, name), name
    for op in document["ops"]:
        for key in set(OP_FIGURES) - {"bound_by"}:
            assert op[key] == metrics.op_metrics[op["id"]][key], key


def test_a_row_says_what_the_op_is():
    row = op_records(small_profile())[0]
    assert (row["order"], row["name"], row["op_type"]) == (0, "conv1", "Relu")
    assert (row["epilogue"], row["fused_with"]) == (["Relu"], ["bn1"])
    assert (row["output_shape"], row["precision"]) == ([1, 8], "fp16")
    assert row["bound_by"] == "compute"


def test_a_figure_that_not_every_op_has_is_an_empty_cell(tmp_path, capsys):
    profile = small_profile()
    table = dict(profile.metrics.op_metrics)
    table["n1"] = {**table["n1"], "bank_conflicts": 3.0}
    metrics = replace(profile.metrics, op_metrics=table)
    save(replace(profile, metrics=metrics), tmp_path / "run.kprof")
    assert export(str(tmp_path / "run.kprof"), "-o", "-") == 0
    assert [row["bank_conflicts"] for row in csv_rows(capsys.readouterr().out)] == ["", "3"]


def test_stdout_is_csv_unless_json_is_asked_for(path, capsys):
    export(path, "-o", "-")
    assert capsys.readouterr().out.startswith("order,id,name,op_type")
    export(path, "-o", "-", "--format", "json")
    assert json.loads(capsys.readouterr().out)["program"] == "net"


def test_names_with_commas_and_quotes_survive(tmp_path, capsys):
    layers = (('a,"b"', "Conv", ()),)
    save(profile_of(network(layers)), tmp_path / "run.kprof")
    export(str(tmp_path / "run.kprof"), "-o", "-")
    assert csv_rows(capsys.readouterr().out)[0]["name"] == 'a,"b"'


def test_the_workload_has_real_counts():
    found = workload(profile_of(network()))
    assert found["total_estimated_gflops"] == 2 * 5 * 1000 / 1e9
    assert found["estimated_memory_mb"] == 4096 / 2**20
    assert found["dominant_op"] == "convolution"
    assert found["operators"] == [
        {"type": "activation", "count": 4},
        {"type": "convolution", "count": 3},
        {"type": "concat", "count": 1},
        {"type": "matrix_multiply", "count": 1},
    ]


def test_fusion_does_not_change_the_counts():
    fused, separate = (workload(profile_of(network(is_fused=it))) for it in (True, False))
    assert fused["operators"] == separate["operators"]


def test_without_macs_the_kind_with_most_lane_operations_dominates():
    profile = small_profile()
    table = {
        op_id: {**row, "macs": 0.0, "lane_ops": 5.0}
        for op_id, row in profile.metrics.op_metrics.items()
    }
    found = workload(replace(profile, metrics=replace(profile.metrics, op_metrics=table)))
    assert (found["total_estimated_gflops"], found["dominant_op"]) == (0, "activation")


def test_the_workload_is_a_file_of_its_own_beside_the_ops(path, tmp_path):
    targets = [str(tmp_path / name) for name in ("ops.csv", "workload.json")]
    assert export(path, "-o", targets[0], "--host-workload", targets[1]) == 0
    assert json.loads((tmp_path / "workload.json").read_text())["dominant_op"] == "convolution"
    assert (tmp_path / "ops.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to export"),
        (["-o", "ops.xlsx"], "ends in neither .csv nor .json"),
        (["-o", "ops.csv", "--format", "xml"], "is not one of csv, json"),
        (["-o", "-", "--host-workload", "-"], "both name -"),
    ],
)
def test_options_that_make_no_sense_are_refused(path, capsys, words, message):
    assert export(path, *words) == 2
    assert message in capsys.readouterr().err


def test_the_profile_is_not_overwritten(path, capsys):
    assert export(path, "-o", path, "--format", "csv") == 2
    assert "overwrite the input" in capsys.readouterr().err


def test_a_program_has_no_run_to_export(tmp_path, capsys):
    save(network(), tmp_path / "model.kpu")
    assert export(str(tmp_path / "model.kpu"), "-o", "-") == 3
    assert "a profile (.kprof) is needed" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_leaves_nothing(path, tmp_path, capsys):
    assert export(path, "-o", str(tmp_path / "missing" / "ops.csv")) == 3
    assert not (tmp_path / "missing").exists()
