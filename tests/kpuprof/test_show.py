"""`kpuprof show`: what the rows say, how they are sorted, and what a person and a script read."""

import json

import pytest

from formats.console import run
from formats.container import save
from kpuprof.cli import app
from kpuprof.memory import memory_use
from kpuprof.rows import op_rows, sort_rows
from kpuprof.summary import summarise
from tests.kpuprof.profiles import quantised_profile, small_profile


@pytest.fixture
def path(tmp_path):
    save(small_profile(), tmp_path / "run.kprof")
    return str(tmp_path / "run.kprof")


@pytest.fixture
def quantised_path(tmp_path):
    save(quantised_profile(), tmp_path / "quantised.kprof")
    return str(tmp_path / "quantised.kprof")


def test_a_row_names_the_op_with_its_epilogue_and_its_share():
    conv, fc = op_rows(small_profile())
    assert (conv.name, conv.op_type, conv.fused) == ("conv1", "Relu+Relu", ("bn1",))
    assert (conv.share, fc.share) == (200 / 300, 100 / 300)
    assert (conv.bound_by, fc.bound_by) == ("compute", "dram")


@pytest.mark.parametrize(
    ("key", "first"), [("order", "conv1"), ("cycles", "conv1"), ("dram", "fc"), ("stall", "fc")]
)
def test_rows_are_sorted_with_the_largest_first(key, first):
    assert sort_rows(op_rows(small_profile()), key)[0].name == first


def test_the_summary_measures_the_distance_to_the_roofline():
    profile = small_profile()
    summary = summarise(profile, op_rows(profile))
    assert summary.roofline_cycles == 180 + 50
    assert summary.roofline_ratio == 230 / 300
    assert summary.inferences_per_second == 1e6 / 0.6


def test_memory_peaks_are_the_largest_use_within_each_share_of_the_run():
    assert memory_use(small_profile()).peaks(3) == [1024, 1024, 512]


def test_json_carries_summary_ops_and_memory(path, capsys):
    assert run(app, "kpuprof", ["show", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["summary"]["total_cycles"] == 300
    assert [op["name"] for op in document["ops"]] == ["conv1", "fc"]
    assert document["memory"]["steps"][0] == {
        "start_cycle": 0,
        "end_cycle": 200,
        "l2_bytes": 1024,
    }


def test_the_terminal_report_shows_every_op_and_the_headlines(path, capsys):
    assert run(app, "kpuprof", ["show", path]) == 0
    shown = capsys.readouterr().out
    for text in ("conv1", "fc", "300 cycles", "6.50 W of 5 W TDP", "L2 in use over time"):
        assert text in shown


@pytest.mark.parametrize("columns", ["60", "80", "160"])
def test_what_binds_an_op_is_shown_on_narrow_and_wide_terminals(path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    run(app, "kpuprof", ["show", path])
    shown = capsys.readouterr().out
    assert "bound by" in shown
    assert "compute" in shown.split("bound by")[1]
    assert max(map(len, shown.splitlines())) <= int(columns)
    assert shown.splitlines()[-1].startswith(" 0 "), "the chart's lines are not folded"


def test_the_shares_of_the_cycles_stand_on_one_line_of_an_80_column_terminal(
    path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    run(app, "kpuprof", ["show", path])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "memory stall" in line)
    assert "other" in line


def test_without_a_command_one_line_names_it(capsys):
    assert run(app, "kpuprof", []) == 2
    error = "no command: give show RUN.kprof or report RUN.kprof -o report.html"
    assert capsys.readouterr().err == f"kpuprof: error: {error}\n"


def test_top_hides_the_rest_and_says_so(path, capsys):
    assert run(app, "kpuprof", ["show", path, "--sort", "cycles", "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert "1 more ops" in shown


def test_a_wrong_sort_key_is_refused_with_the_right_ones(path, capsys):
    assert run(app, "kpuprof", ["show", path, "--sort", "cycle"]) == 2
    assert "did you mean cycles" in capsys.readouterr().err


def test_a_program_is_not_a_profile(tmp_path, capsys):
    save(small_profile().program, tmp_path / "model.kpu")
    assert run(app, "kpuprof", ["show", str(tmp_path / "model.kpu")]) == 3
    assert "a profile (.kprof) is needed" in capsys.readouterr().err


def test_the_quantisation_is_shown_with_the_sqnr_of_every_op(quantised_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert run(app, "kpuprof", ["show", quantised_path]) == 0
    shown = capsys.readouterr().out
    for text in (
        "mse, 90 samples; 10 held out",
        "75.0% of MACs in int8, 1 in fp16: fc",
        "scores: 38.2 dB · max difference 0.0125",
        "bias correction +1.5 dB · weight rounding +2.2 dB",
        "SQNR dB",
        "41.5",
    ):
        assert text in shown


@pytest.mark.parametrize("columns", ["80", "160"])
def test_a_quantised_program_fits_the_terminal(quantised_path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    run(app, "kpuprof", ["show", quantised_path])
    shown = capsys.readouterr().out
    assert "bound by" in shown
    assert "41.5" in shown
    assert max(map(len, shown.splitlines())) <= int(columns)


def test_json_carries_the_quantisation(quantised_path, capsys):
    assert run(app, "kpuprof", ["show", quantised_path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = document["quantization"]
    assert (found["method"], found["samples"], found["held_out"]) == ("mse", 90, 10)
    assert found["integer_mac_share"] == 0.75
    assert found["outputs"] == [{"name": "scores", "sqnr_db": 38.25, "max_difference": 0.0125}]
    assert found["kept"] == {"fc": "fp16"}
    assert found["gains_db"] == {"bias correction": 1.5, "weight rounding": 2.25}
    assert [(op["precision"], op["sqnr_db"]) for op in document["ops"]] == [
        ("int8", 41.5),
        ("fp16", None),
    ]


def test_a_program_of_floats_has_no_quantisation(path, capsys):
    run(app, "kpuprof", ["show", path])
    assert "Quantisation" not in capsys.readouterr().out
    run(app, "kpuprof", ["show", path, "--json"])
    assert json.loads(capsys.readouterr().out)["quantization"] is None
