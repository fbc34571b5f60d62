"""`kpuprof diff`: what changed between two runs, and whether that is too much."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from formats.console import run
from formats.container import save
from formats.precision import KPUPrecision
from formats.profile import Bound, SimulationMode
from formats.program import MemoryLayout, MemoryType, TileConfig
from kpuprof.amounts import share_beside, share_text
from kpuprof.cli import app
from kpuprof.comparison import Change, compare
from kpuprof.gates import judge, limits
from kpuprof.measured import measured_profile, measured_program
from tests.kpuprof.networks import LAYERS, network, profile_of


def comparison(base=None, new=None):
    sides = (base or profile_of(network()), new or profile_of(network(), gemm=130))
    return compare(*(measured_profile(side, "run.kprof") for side in sides))


def gate(text, found=None):
    (judged,) = judge(found or comparison(), limits([text]), 5)
    return judged


@pytest.fixture
def paths(tmp_path):
    """gemm took 100 of 500 cycles, and now 130 of 530."""
    save(profile_of(network()), tmp_path / "base.kprof")
    save(profile_of(network(), gemm=130), tmp_path / "new.kprof")
    return [str(tmp_path / "base.kprof"), str(tmp_path / "new.kprof")]


def diff(*words):
    return run(app, "kpuprof", ["diff", *words])


def test_totals_are_the_figures_of_the_files():
    base, new = profile_of(network()), profile_of(network(), gemm=130)
    found = comparison(base, new)
    for name in ("total_cycles", "total_energy_uj", "dram_reads_bytes", "compute_utilization"):
        change = found.totals[name]
        assert (change.base, change.new) == (
            getattr(base.metrics, name),
            getattr(new.metrics, name),
        )


def test_the_figures_of_an_op_are_those_of_the_files():
    base, new = profile_of(network()), profile_of(network(), gemm=130)
    worst = comparison(base, new).ops[0]
    rows = [side.metrics.op_metrics["gemm"] for side in (base, new)]
    assert worst.name == "head"
    assert worst.figures["cycles"] == Change(*(row["cycles"] for row in rows))
    assert worst.figures["energy_uj"] == Change(*(row["energy_pj"] / 1e6 for row in rows))
    assert worst.figures["dram_bytes"] == Change(64, 64)
    assert worst.figures["l2_live_bytes"] == Change(2048, 2048)


def test_a_fused_op_is_compared_with_the_sum_of_its_parts():
    found = comparison(profile_of(network(is_fused=False)), profile_of(network()))
    (block,) = (op for op in found.ops if op.name == "block.conv1")
    assert block.figures["cycles"] == Change(300, 100)
    assert block.notes[0] == "fused"
    assert block.op_type == "Conv Tanh Relu → Conv+Tanh+Relu"


def test_the_figures_of_the_ops_add_up_to_those_of_the_whole():
    found = comparison(
        profile_of(network(is_fused=False)), profile_of(network(LAYERS[1:], prefix="m."), gemm=7)
    )
    for side in ("base", "new"):
        sums = sum(getattr(op.figures["cycles"], side) for op in found.ops)
        assert sums == getattr(found.totals["total_cycles"], side)


def test_the_largest_change_comes_first_whether_better_or_worse():
    found = comparison(new=profile_of(network(), gemm=130, conv=60, concat=101))
    names = [op.name for op in found.ops]
    assert names[:3] == ["stem", "head", "concat"]


def test_an_op_that_one_side_lacks_counts_as_nothing_there():
    found = comparison(new=profile_of(network(LAYERS[1:])))
    (gone,) = (op for op in found.ops if op.notes == ("gone",))
    assert (gone.name, gone.figures["cycles"]) == ("stem", Change(100, 0))


def test_what_makes_runs_incomparable_is_said():
    slower = replace(profile_of(network()), mode=SimulationMode.CYCLE_ACCURATE)
    assert comparison(new=slower).differences == ("mode functional → cycle_accurate",)


@pytest.mark.parametrize(
    ("limit", "is_held"),
    [
        ("cycles=6%", True),
        ("cycles=5.99%", False),
        ("cycles=30", True),
        ("cycles=29", False),
        ("time=0.06us", True),
        ("time=59ns", False),
        ("energy=0.03mJ", True),
        ("dram_bytes=0", True),
        ("compute_utilization=0%", True),
        ("inferences_per_second=5%", False),  # 500/530 are 5.7 % less
        ("inferences_per_second=6%", True),
    ],
)
def test_a_limit_is_held_up_to_and_with_its_amount(limit, is_held):
    assert gate(limit).is_held == is_held


def test_getting_better_is_always_held():
    found = comparison(profile_of(network(), gemm=130), profile_of(network()))
    assert gate("cycles=0", found).is_held
    assert gate("inferences_per_second=0", found).is_held


def test_of_a_base_of_nothing_any_percentage_is_nothing():
    free = profile_of(network())
    free = replace(free, metrics=replace(free.metrics, dram_reads_bytes=0))
    assert not gate("dram_bytes=50%", comparison(base=free)).is_held
    assert gate("dram_bytes=1KiB", comparison(base=free)).is_held


def test_behind_a_gate_are_the_ops_that_got_worse():
    found = comparison(new=profile_of(network(), gemm=130, conv=10, concat=110))
    assert [op.name for op in gate("cycles=0", found).ops] == ["head", "concat"]


def test_a_gate_that_fails_is_exit_code_1_with_figure_change_and_limit(paths, capsys):
    assert diff(*paths, "--fail-over", "cycles=2%,energy=50%") == 1
    shown = capsys.readouterr()
    assert shown.err == (
        "kpuprof: error: total_cycles 500 cycles → 530 cycles (+6.0%), +2% is allowed\n"
    )
    for text in ("exceeded", "held", "where cycles rose most", "head", "1 of 5 ops changed"):
        assert text in shown.out


def test_without_a_limit_a_change_is_exit_code_0(paths, capsys):
    assert diff(*paths) == 0
    assert capsys.readouterr().err == ""


def test_equal_runs_say_so(paths, capsys):
    assert diff(paths[0], paths[0]) == 0
    assert "0 of 5 ops changed" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_the_report_fits_the_terminal(paths, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    diff(*paths, "--fail-over", "cycles=2%")
    shown = capsys.readouterr().out
    assert "what differs" in shown
    assert max(map(len, shown.splitlines())) <= int(columns)


def spending_elsewhere(profile):
    """With another energy of the op `conv`, and nothing else."""
    table = dict(profile.metrics.op_metrics)
    table["conv"] = table["conv"] | {"energy_pj": 5e6}
    return replace(profile, metrics=replace(profile.metrics, op_metrics=table))


@pytest.mark.parametrize(
    ("columns", "sort", "is_shown"),
    [("80", "cycles", False), ("80", "energy", True), ("160", "cycles", True)],
)
def test_a_row_is_shown_if_something_in_it_changed(
    tmp_path, paths, capsys, monkeypatch, columns, sort, is_shown
):
    monkeypatch.setenv("COLUMNS", columns)
    save(spending_elsewhere(profile_of(network(), gemm=130)), tmp_path / "new.kprof")
    diff(*paths, "--sort", sort)
    printed = capsys.readouterr().out
    assert ("stem" in printed, "energy  " in printed) == (is_shown, is_shown)
    assert "2 of 5 ops changed" in printed
    assert ("1 with less change not shown" in printed) is not is_shown


def test_names_of_totals_fit_80_columns_beside_large_figures(tmp_path, paths, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    save(profile_of(network(), cycles=123_456_789), tmp_path / "new.kprof")
    diff(*paths)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert {"memory_stall_cycles", "average_power_watts", "compute_utilization"} <= set(names)


def test_top_hides_the_rest_and_says_so(tmp_path, paths, capsys):
    save(profile_of(network(), gemm=130, conv=110), tmp_path / "other.kprof")
    diff(paths[0], str(tmp_path / "other.kprof"), "--top", "1")
    shown = capsys.readouterr().out
    assert "1 with less change not shown" in shown
    assert "stem" not in shown


def test_json_carries_totals_limits_and_every_op(paths, capsys):
    assert diff(*paths, "--json", "--fail-over", "cycles=2%", "--top", "1") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["totals"]["total_cycles"] == {
        "base": 500,
        "new": 530,
        "difference": 30,
        "share": 0.06,
    }
    (limit,) = document["limits"]
    assert (limit["figure"], limit["allowed"], limit["is_held"]) == ("total_cycles", 0.02, False)
    assert len(document["ops"]) == 5
    assert document["ops"][0]["base_ops"] == ["gemm"]
    assert document["ops"][0]["matched_by"] == "name"


def test_junit_has_a_case_per_limit(paths, tmp_path):
    target = tmp_path / "diff.xml"
    diff(*paths, "--fail-over", "cycles=2%,dram_bytes=0", "--junit", str(target))
    root = ElementTree.parse(target).getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    (failure,) = root.iter("failure")
    assert failure.text.startswith("head  +30 cycles")


def test_markdown_has_gates_totals_and_ops_as_tables(paths, capsys):
    diff(*paths, "--markdown", "--fail-over", "cycles=2%")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "### KPU profile: `base.kprof` → `new.kprof`"
    assert "| total_cycles | +6.0% | +2% | ❌ exceeded |" in lines
    assert "| total_cycles | 500 cycles | 530 cycles | +6.0% |" in lines
    (row,) = (line for line in lines if line.startswith("| `head`"))
    assert row.startswith("| `head` | Gemm | 100 | 130 | +30 cycles |")


def test_markdown_takes_no_mark_up_from_a_file(tmp_path, capsys):
    layers = (("a|b`<img>@you", "Conv", ()), *LAYERS)
    for name, cycles in (("base", 100), ("new", 200)):
        save(profile_of(network(layers), conv=cycles), tmp_path / f"{name}.kprof")
    diff(str(tmp_path / "base.kprof"), str(tmp_path / "new.kprof"), "--markdown")
    shown = capsys.readouterr().out
    (row,) = (line for line in shown.splitlines() if "<img>" in line)
    assert row.startswith("| `a\\|b'<img>@you` |"), "within a code span nothing is mark-up"


def test_a_program_is_compared_with_a_run_by_what_both_say(tmp_path, paths, capsys):
    save(network(), tmp_path / "model.kpu")
    assert diff(str(tmp_path / "model.kpu"), paths[0], "--sort", "energy") == 0
    shown = capsys.readouterr().out
    assert "total_cycles" in shown
    assert "memory_stall_cycles" not in shown


def test_what_a_program_does_not_say_cannot_be_a_limit(tmp_path, paths, capsys):
    save(network(), tmp_path / "model.kpu")
    assert diff(str(tmp_path / "model.kpu"), paths[0], "--fail-over", "dram_bytes=1%") == 2
    assert "model.kpu does not say dram_bytes" in capsys.readouterr().err
    assert diff(str(tmp_path / "model.kpu"), paths[0], "--sort", "dram") == 2


def test_two_programs_are_compared_by_their_estimates():
    base = network()
    ops = tuple(replace(op, estimated_cycles=10) for op in base.ops)
    new = replace(base, ops=ops, estimated_total_cycles=50)
    found = compare(measured_program(base, "a.kpu"), measured_program(new, "b.kpu"))
    assert found.totals["total_cycles"] == Change(0, 50)
    assert {op.figures["cycles"] for op in found.ops} == {Change(0, 10)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fail-over", "cycels=2%"], "did you mean cycles"),
        (["--fail-over", "cycles"], "not of the form NAME=AMOUNT"),
        (["--fail-over", "cycles=2%,"], "not of the form NAME=AMOUNT"),
        (["--fail-over", "cycles=2%,total_cycles=3%"], "has two limits"),
        (["--fail-over", "cycles=2KiB"], "not an amount"),
        (["--sort", "time"], "is not one of cycles, energy, dram"),
        (["--json", "--markdown"], "only one of --json, --markdown"),
        (["--junit", "x.xml"], "give some with --fail-over"),
    ],
)
def test_options_that_make_no_sense_are_refused(paths, capsys, words, message):
    assert diff(*paths, *words) == 2
    assert message in capsys.readouterr().err


def test_only_one_side_can_be_stdin(capsys):
    assert diff("-", "-") == 2
    assert "only one of the two" in capsys.readouterr().err


def test_a_foreign_file_is_refused_by_name(tmp_path, paths, capsys):
    foreign = tmp_path / "photo.kprof"
    foreign.write_bytes(b"\xff\xd8\xff\xe0 no profile")
    assert diff(paths[0], str(foreign)) == 3
    assert str(foreign) in capsys.readouterr().err


def test_a_percentage_is_written_with_the_digits_that_show_the_excess():
    assert share_beside(0.0204, 0.02) == "+2.04%"
    assert share_beside(0.06, 0.02) == "+6.0%"
    assert share_text(0.0001) == "+<0.1%"
    assert share_text(-0.25) == "−25.0%"


@pytest.mark.parametrize("command", ["show", "diff", "check"])
def test_names_with_square_brackets_and_colons_are_shown_as_they_are(tmp_path, capsys, command):
    layers = (("a[/b]:x:", "Conv", ()), *LAYERS)
    for name, cycles in (("base", 100), ("new", 200)):
        save(profile_of(network(layers), conv=cycles), tmp_path / f"{name}.kprof")
    base, new = str(tmp_path / "base.kprof"), str(tmp_path / "new.kprof")
    words = {"show": [new], "diff": [base, new], "check": [new, "--budget", "cycles=1"]}[command]
    assert run(app, "kpuprof", [command, *words]) in (0, 1)
    assert "a[/b]:x:" in capsys.readouterr().out


def test_the_notes_say_what_may_be_the_cause():
    program = network()
    other = network(size=4)
    ops = list(other.ops)
    ops[4] = replace(ops[4], tiling=TileConfig({"N": 4}), precision=KPUPrecision.BF16)
    moved = replace(other.tensors["gemm.out"], layout=MemoryLayout(MemoryType.SRAM_L2))
    tensors = {**other.tensors, "gemm.out": moved}
    found = comparison(
        profile_of(program), profile_of(replace(other, ops=tuple(ops), tensors=tensors))
    )
    (head,) = (op for op in found.ops if op.name == "head")
    assert head.notes == (
        "precision of the program → bf16",
        "output DRAM → L2",
        "shape",
        "tiles",
    )


def test_a_split_op_keeps_the_place_of_its_result():
    found = comparison(profile_of(network()), profile_of(network(is_fused=False)))
    assert {op.notes for op in found.ops} == {("split",), ()}


def test_an_op_that_another_resource_binds_says_so():
    bound = profile_of(network())
    table = dict(bound.metrics.op_metrics)
    table["gemm"] = {**table["gemm"], "bound_by": float(Bound.DRAM)}
    found = comparison(new=replace(bound, metrics=replace(bound.metrics, op_metrics=table)))
    (head,) = (op for op in found.ops if op.name == "head")
    assert head.notes == ("bound compute → dram",)
