"""What binds a run, and remedies: each saving is that of a run tiled and simulated anew."""

import json
from dataclasses import replace

import pytest

from formats.console import run
from formats.container import load_profile, save
from formats.errors import UsageError
from formats.precision import KPUPrecision
from formats.profile import SimulationMode
from formats.schema import changed
from kpuc.compiler import compile_graph
from kpuc.nominal import in_precision
from kpuc.retile import retile
from kpuprof.advice import advise
from kpuprof.cli import app
from kpuprof.remedies import changes_of, remedies
from kpuprof.trials import base_of, tried
from kpurun.sim.timeline import simulate, simulated_metrics
from tests.kpuc.passes.draft import Draft
from tests.kpuprof.simulated import played


@pytest.fixture
def path(tmp_path):
    save(played(), tmp_path / "run.kprof")
    return str(tmp_path / "run.kprof")


def answer(capsys, *words):
    capsys.readouterr()
    code = run(app, "kpuprof", [*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_on_its_own_machine_a_run_is_what_its_profile_says():
    base, note = base_of(played())
    assert note == ""
    assert base.totals["total_cycles"] == played().metrics.total_cycles
    assert base.totals["total_energy_uj"] == played().metrics.total_energy_uj


def test_a_profile_of_another_version_is_named():
    metrics = replace(played().metrics, total_cycles=1)
    assert "played again" in base_of(replace(played(), metrics=metrics))[1]


@pytest.mark.parametrize("mode", list(SimulationMode))
def test_a_trial_is_the_simulation_of_the_program_for_that_machine(mode):
    config = changed(played().program.target_config, "memory.dram_bandwidth_gbps", "6.4")
    program = retile(played().program, config)
    metrics = simulated_metrics(simulate(program))
    found = tried(played(mode), "slow", config)
    assert found.totals["total_cycles"] == metrics.total_cycles
    assert found.totals["total_energy_uj"] == metrics.total_energy_uj


def test_every_saving_is_that_of_the_run_that_was_played():
    profile = played()
    for each in advise(profile).verified:
        remedy = each.remedy
        precision = remedy.precision or profile.program.precision
        again = simulate(in_precision(profile.program, precision, remedy.config))
        assert each.cycles_saved == profile.metrics.total_cycles - again.total_cycles


def test_the_best_remedy_comes_first():
    saved = [each.cycles_saved for each in advise(played()).verified]
    assert saved == sorted(saved, reverse=True)
    assert saved[0] > 0


def test_what_limits_the_ops_takes_all_cycles():
    found = advise(played())
    assert sum(each.cycles for each in found.limits) == played().metrics.total_cycles


def test_stalls_are_those_of_the_record():
    metrics = played().metrics
    cycles = {each.cause: each.cycles for each in advise(played()).stalls}
    assert cycles["dispatching ops"] == metrics.other_cycles
    assert sum(cycles.values()) == metrics.memory_stall_cycles + metrics.other_cycles


def test_an_op_that_was_not_fused_is_named_with_its_cycles_and_the_reason():
    """The addend of the second addition is read by a third op too."""
    draft = Draft()
    x = draft.input("x", 1, 8, 16, 16)
    conv = draft.conv("conv", x, 8)
    total = draft.op("total", "Relu", conv)
    program = compile_graph(
        draft.graph(draft.op("y", "Sigmoid", draft.op("sum", "Add", total, conv))),
        played().program.target_config,
        KPUPrecision.FP16,
    )
    profile = replace(played(), program=replace(program, weights_blob=None))
    found = advise(tried(profile, "it", program.target_config).profile)
    assert {each.op_type for each in found.missed} >= {"Relu"}
    assert all(each.cycles > 0 and each.reason for each in found.missed)


def test_a_remedy_that_the_machine_cannot_be_is_not_offered():
    titles = [each.title for each in remedies(played().program)]
    assert "INT8" in titles
    quantised = replace(played().program, precision=KPUPrecision.INT8)
    assert "INT8" not in [each.title for each in remedies(quantised)]


def test_fields_change_one_after_the_other():
    config, precision = changes_of(
        played().program, ["memory.sram_l2_bytes=4MiB", "precision=int8", "compute.vector_lanes=32"]
    )
    assert (config.memory.sram_l2_bytes, config.compute.vector_lanes) == (4 << 20, 32)
    assert precision is KPUPrecision.INT8


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("memory.sram_l3_bytes=1", "unknown key"),
        ("memory.sram_l2_bytes", "not of the form key=value"),
        ("precision=int7", "int8"),
        ("compute.vector_lanes=many", "vector_lanes"),
    ],
)
def test_a_change_that_is_none_is_refused(assignment, message):
    with pytest.raises(UsageError, match=message):
        changes_of(played().program, [assignment])


def test_codes_stay_as_they_were_decided():
    program = in_precision(played().program, KPUPrecision.INT8, played().program.target_config)
    with pytest.raises(UsageError, match="compile the model with --precision fp16"):
        in_precision(program, KPUPrecision.FP16, program.target_config)


def test_whatif_prints_both_runs(path, capsys):
    code, found = answer(capsys, "whatif", path, "--set", "memory.dram_bandwidth_gbps=3.2")
    assert code == 0
    assert found["totals"]["total_cycles"]["base"] == played().metrics.total_cycles
    assert found["totals"]["total_cycles"]["new"] > played().metrics.total_cycles


def test_whatif_of_a_machine_that_is_too_small_says_so(path, capsys):
    words = ("--set", "memory.sram_l1_bytes=64", "--set", "memory.sram_l2_bytes=64")
    assert run(app, "kpuprof", ["whatif", path, *words]) == 5
    assert "SRAM memory exceeded" in capsys.readouterr().err


def test_whatif_without_a_change_is_refused(path, capsys):
    assert run(app, "kpuprof", ["whatif", path]) == 2
    assert "nothing to change" in capsys.readouterr().err


def test_advise_prints_what_python_gives(path, capsys):
    code, found = answer(capsys, "advise", path)
    assert code == 0
    expected = advise(load_profile(path))
    assert [each["cycles_saved"] for each in found["remedies"]] == [
        each.cycles_saved for each in expected.verified
    ]


def test_a_remedy_can_be_copied_from_80_columns(path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(app, "kpuprof", ["advise", path])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    for each in advise(played()).verified:
        assert any(line.endswith(each.remedy.change) for line in lines), each.remedy.change


def test_advise_on_a_terminal_names_the_best_remedy(path, capsys):
    assert run(app, "kpuprof", ["advise", path]) == 0
    printed = capsys.readouterr().out
    assert advise(played()).verified[0].remedy.title in printed
