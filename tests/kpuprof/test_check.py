"""`kpuprof check`: what a budget is, whether it is held, and who spends most of it."""

import json
from dataclasses import fields, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from formats.console import run
from formats.container import save
from formats.errors import UsageError
from formats.profile import SimulationMode
from formats.program import EpilogueStage
from kpuprof.budgets import budgets, judge, spenders
from kpuprof.cli import app
from kpuprof.figures import ALIASES, FIGURES, SPENT, figure_named
from kpuprof.measured import OpFigures, measured_profile, measured_program
from tests.kpuprof.profiles import quantised_profile, small_profile


@pytest.fixture
def path(tmp_path):
    save(small_profile(), tmp_path / "run.kprof")
    return str(tmp_path / "run.kprof")


def power_profile(**options):
    """The op conv1 (cycles 0-200) draws up to 9 W, fc (200-300) up to 4 W."""
    profile = small_profile()
    events = {
        **profile.events,
        "power.start_cycle": np.array([0, 50, 100, 200, 250], np.int64),
        "power.watts": np.array([1.0, 9.0, 2.0, 3.0, 4.0]),
    }
    return replace(profile, mode=SimulationMode.POWER_TRACE, events=events, options=options)


def check(*words):
    return run(app, "kpuprof", ["check", *words])


def finding(text):
    (found,) = judge(measured_profile(small_profile(), "run"), budgets([text], None), 5)
    return found


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_has_a_unit_a_meaning_and_a_figure_of_ops(figure):
    assert figure.meaning
    if figure.spent_as:
        assert figure.spent_as in {field.name for field in fields(OpFigures)}
        assert figure.spent_as in SPENT


def test_an_alias_is_another_name_of_a_figure():
    names = {figure.name for figure in FIGURES}
    assert set(ALIASES.values()) <= names
    assert not names & set(ALIASES)


def test_every_figure_of_a_profile_is_the_one_in_the_file():
    profile = power_profile()
    totals = measured_profile(profile, "run").totals
    for name, value in totals.items():
        if hasattr(profile.metrics, name):
            assert value == getattr(profile.metrics, name), name
    assert totals["peak_l2_bytes"] == profile.program.peak_sram_bytes
    assert totals["dram_bytes"] == 128
    assert totals["peak_power_watts"] == 9.0
    assert totals["macs"] == 2000


def test_a_program_says_what_its_compiler_estimates():
    program = replace(
        small_profile().program, estimated_total_cycles=500, estimated_total_energy_uj=2.0
    )
    totals = measured_program(program, "model").totals
    assert totals["total_time_us"] == 1.0
    assert totals["average_power_watts"] == 2.0
    assert "dram_bytes" not in totals


@pytest.mark.parametrize(
    ("budget", "is_held"),
    [
        ("cycles=300", True),
        ("cycles=299", False),
        ("total_time_us=0.6", True),
        ("total_time_us=600ns", True),
        ("total_time_us=599.99ns", False),
        ("total_time_us=0.0006001ms", True),
        ("average_power_watts=6500mW", True),
        ("power=6.4W", False),
        ("energy=0.004mJ", True),
        ("energy=3999nJ", False),
        ("peak_l2=1KiB", True),
        ("peak_l2=1023", False),
        ("inferences_per_second=1e6", True),
        ("inferences_per_second=2e6", False),
        ("roofline_ratio=70%", True),
        ("roofline_ratio=80%", False),
    ],
)
def test_a_budget_is_the_most_or_of_what_is_better_higher_the_least(budget, is_held):
    assert finding(budget).is_held == is_held


def test_the_ops_behind_a_figure_come_with_the_largest_first():
    found = finding("dram_bytes=1")
    assert [(op.name, op.spent) for op in found.spenders] == [("fc", 4096), ("conv1", 64)]
    assert found.spenders[0].share == 4096 / 4160


def test_of_a_peak_ops_have_no_share():
    (most, least) = finding("peak_l2=1").spenders
    assert (most.name, most.spent, most.share) == ("conv1", 1024, None)
    assert least.spent == 512


def test_the_power_of_an_op_is_the_highest_while_it_runs():
    found = spenders(measured_profile(power_profile(), "run"), figure_named("peak_power", ""))
    assert [(op.name, op.spent) for op in found] == [("conv1", 9.0), ("fc", 4.0)]


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (small_profile(), "--mode power_trace"),
        (power_profile(left_out={"power": 7}), "larger --max-events"),
    ],
)
def test_a_peak_that_the_file_does_not_hold_is_not_guessed(profile, reason):
    measured = measured_profile(profile, "run")
    with pytest.raises(UsageError, match=reason):
        measured.total(figure_named("peak_power", ""))


def test_exit_code_1_says_the_figure_and_the_budget(path, capsys):
    assert check(path, "--budget", "average_power_watts=5", "--budget", "cycles=300") == 1
    shown = capsys.readouterr()
    assert "average_power_watts is 6.500 W, at most 5.000 W was asked for" in shown.err
    assert "total_cycles" not in shown.err
    for text in ("exceeded", "held", "130.0%", "the ops with most energy", "conv1"):
        assert text in shown.out


def test_exit_code_0_when_all_are_held(path, capsys):
    assert check(path, "--budget", "cycles=1000") == 0
    assert capsys.readouterr().err == ""


def test_an_excess_too_small_to_see_is_written_out(path, capsys):
    assert check(path, "--budget", "peak_l2=1023.99B") == 1
    assert "1,024 B, at most 1,023.99 B" in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_the_verdict_fits_the_terminal(path, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    check(path, "--budget", "memory_bandwidth_utilization=1", "--budget", "power=1")
    shown = capsys.readouterr().out
    assert "exceeded" in shown
    assert max(map(len, shown.splitlines())) <= int(columns)


def test_json_carries_figure_budget_and_ops(path, capsys):
    assert check(path, "--budget", "dram_bytes=100", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["command"], document["is_held"]) == ("check", False)
    (budget,) = document["budgets"]
    assert (budget["figure"], budget["value"], budget["budget"]) == ("dram_bytes", 128, 100)
    assert [op["spent"] for op in budget["ops"]] == [4096, 64]


def test_junit_has_a_case_per_budget(path, tmp_path):
    target = tmp_path / "check.xml"
    words = ("--budget", "cycles=1", "--budget", "energy=1J", "--junit", str(target))
    assert check(path, *words) == 1
    root = ElementTree.parse(target).getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    (failure,) = root.iter("failure")
    assert failure.get("message") == "total_cycles is 300 cycles, at most 1 cycles was asked for"
    assert "conv1 (Relu+Relu): 200 cycles 66.7%" in failure.text


def test_budgets_come_from_a_file_and_the_command_line_goes_before(path, tmp_path, capsys):
    file = tmp_path / "budgets.toml"
    file.write_text('[budgets]\ncycles = 1\npeak_l2 = "1 KiB"\n')
    assert check(path, "--budgets", str(file), "--budget", "total_cycles=300") == 0
    assert "peak_l2_bytes" in capsys.readouterr().out


def test_a_file_without_tables_is_all_budgets(path, tmp_path):
    file = tmp_path / "budgets.toml"
    file.write_text("average_power_watts = 6.4\n")
    assert check(path, "--budgets", str(file)) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "peak_l3=1"], "unknown figure 'peak_l3'; did you mean peak_l2"),
        (["--budget", "zzz=1"], "known: total_cycles"),
        (["--budget", "cycles"], "not of the form NAME=AMOUNT"),
        (["--budget", "cycles=many"], "'many' is not an amount: give a number"),
        (["--budget", "peak_l2=2MB"], "alone or with B KiB MiB GiB"),
        (["--budget", "cycles=-1"], "not an amount"),
        (["--budget", "cycles=nan"], "not an amount"),
        (["--budget", "cycles=1e999"], "not an amount"),
        (["--budget", "power=1", "--budget", "average_power_watts=2"], "has two budgets"),
        (["--budget", "peak_power=1"], "--mode power_trace"),
        (["--budget", "sqnr=40"], "not quantised"),
        ([], "give --budget NAME=AMOUNT or --budgets FILE"),
    ],
)
def test_a_budget_that_makes_no_sense_is_a_usage_error(path, capsys, words, message):
    assert check(path, *words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("cycles = ", 3, "budgets.toml: "),
        ("cycles = true", 3, "neither a number nor a text"),
        ("cycles = [1]", 3, "neither a number nor a text"),
        ("budgets = 1", 3, "budgets is not a table"),
        ("cycels = 1", 2, "did you mean cycles"),
        ("cycles = inf", 2, "not an amount"),
        ("[budgets]", 2, "no budget to check"),
    ],
)
def test_a_budget_file_is_refused_where_it_is_wrong(path, tmp_path, capsys, text, code, message):
    file = tmp_path / "budgets.toml"
    file.write_text(text)
    assert check(path, "--budgets", str(file)) == code
    assert message in capsys.readouterr().err


def test_what_is_no_kpu_file_is_refused(tmp_path, capsys):
    foreign = tmp_path / "foreign.kprof"
    foreign.write_bytes(b"PK\x03\x04 something else")
    assert check(str(foreign), "--budget", "cycles=1") == 3
    assert str(foreign) in capsys.readouterr().err


def test_the_verdicts_do_not_overwrite_the_profile(path, capsys):
    assert check(path, "--budget", "cycles=1", "--junit", path) == 2
    assert "overwrite the input" in capsys.readouterr().err


def test_power_that_is_no_number_is_refused(tmp_path, capsys):
    profile = power_profile()
    broken = {**profile.events, "power.watts": np.full(5, np.nan)}
    save(replace(profile, events=broken), tmp_path / "run.kprof")
    assert check(str(tmp_path / "run.kprof"), "--budget", "cycles=1") == 3
    assert "power.watts" in capsys.readouterr().err


def test_accuracy_has_budgets_too():
    measured = measured_profile(quantised_profile(), "run")
    found = judge(measured, budgets(["sqnr=38dB", "max_difference=1%"], None), 5)
    assert [one.is_held for one in found] == [True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-", "--budgets", "-"], "only one of the profile and --budgets"),
        (["x.kprof", "--budget", "cycles=1", "--json", "--junit", "-"], "only one of --json"),
    ],
)
def test_stdin_and_stdout_are_used_once(capsys, words, message):
    assert check(*words) == 2
    assert message in capsys.readouterr().err


def test_an_op_type_from_a_file_cannot_break_the_report(tmp_path, capsys):
    profile = small_profile()
    first, second = profile.program.ops
    stages = (EpilogueStage("Relu\x1b[2J\n"),)
    program = replace(profile.program, ops=(replace(first, epilogue=stages), second))
    save(replace(profile, program=program), tmp_path / "run.kprof")
    target = tmp_path / "check.xml"
    words = ("--budget", "cycles=1", "--junit", str(target))
    assert check(str(tmp_path / "run.kprof"), *words) == 1
    assert "\x1b" not in capsys.readouterr().out
    assert "\\x1b" in next(ElementTree.parse(target).getroot().iter("failure")).text


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_is_documented_with_its_direction(figure):
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert f"`{figure.name}`" in text
    assert (f"`{figure.name}` ↑" in text) == figure.at_least


@pytest.mark.parametrize("command", ["check", "diff", "export"])
def test_a_truncated_profile_is_refused(path, tmp_path, capsys, command):
    cut = tmp_path / "cut.kprof"
    cut.write_bytes(Path(path).read_bytes()[:-100])
    more = {"check": ["--budget", "cycles=1"], "diff": [path], "export": ["-o", "-"]}[command]
    assert run(app, "kpuprof", [command, str(cut), *more]) == 3
    assert "cut.kprof" in capsys.readouterr().err
