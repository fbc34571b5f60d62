"""`kpuprof sweep` as a user meets it: the table, what is kept, and every mistake."""

import csv

import pytest

from formats.config import KPUConfig
from formats.console import run
from formats.schema import override
from kpuc.retile import retile
from kpuprof.cli import app
from kpuprof.sweep import engines, evaluate
from kpuprof.sweep.area import area_proxy
from kpurun.sim.timeline import simulate, simulated_metrics

COLUMNS = (
    "model precision memory.dram_bytes memory.dram_bandwidth_gbps compute.compute_tiles cycles "
    "time_us energy_uj average_power_watts dram_bytes peak_l2_bytes utilization area_proxy "
    "is_pareto status message"
).split()


@pytest.fixture
def sweep(folder):
    """A function that sweeps the folder's program with more words, one worker unless told."""

    def command(*words, space="space.toml", workers="1"):
        paths = [str(folder / space), "--model", str(folder / "net.kpu")]
        table = ["-o", str(folder / "results.csv"), "--workers", workers]
        return run(app, "kpuprof", ["sweep", *paths, *table, *words])

    return command


def rows(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def lines(folder):
    return (folder / "results.jsonl").read_text().splitlines()


def machine(row):
    config = KPUConfig()
    for name in COLUMNS[2:5]:
        config = override(config, f"{name}={row[name]}")
    return config


def test_a_row_says_what_the_program_costs_on_its_machine(sweep, folder, program):
    assert sweep() == 0
    table = rows(folder)
    assert list(table[0]) == COLUMNS
    assert len(table) == 8
    for row in table[4:]:
        tiled = retile(program, machine(row))
        metrics = simulated_metrics(simulate(tiled))
        assert row["model"] == "net"
        assert row["precision"] == "fp16"
        assert int(row["cycles"]) == metrics.total_cycles
        assert float(row["time_us"]) == metrics.total_time_us
        assert float(row["energy_uj"]) == metrics.total_energy_uj
        assert float(row["average_power_watts"]) == metrics.average_power_watts
        moved = metrics.dram_reads_bytes + metrics.dram_writes_bytes
        assert int(row["dram_bytes"]) == moved
        assert int(row["peak_l2_bytes"]) == tiled.peak_sram_bytes
        assert float(row["utilization"]) == metrics.compute_utilization
        assert float(row["area_proxy"]) == area_proxy(machine(row))


def test_a_machine_that_cannot_hold_the_model_is_a_result(sweep, folder):
    assert sweep() == 0
    refused = [row for row in rows(folder) if row["status"] == "refused"]
    assert [row["memory.dram_bytes"] for row in refused] == 4 * ["1024"]
    assert all("DRAM memory exceeded" in row["message"] for row in refused)
    assert all(row["cycles"] == row["is_pareto"] == "" for row in refused)


def test_the_front_is_marked(sweep, folder):
    """Of two bandwidths for nothing, the higher; of 8 and 16 tiles, the smaller and the faster."""
    assert sweep() == 0
    marked = [row for row in rows(folder) if row["is_pareto"] == "true"]
    assert {row["memory.dram_bandwidth_gbps"] for row in marked} == {"25.6"}


def test_what_is_there_is_not_computed_again(sweep, folder, monkeypatch):
    assert sweep() == 0
    table, kept = rows(folder), lines(folder)
    monkeypatch.setattr(engines, "evaluate", lambda *_: pytest.fail("computed again"))
    (folder / "results.csv").unlink()
    assert sweep() == 0
    assert (rows(folder), lines(folder)) == (table, kept)


def test_a_larger_space_computes_what_is_new(sweep, folder, monkeypatch):
    assert sweep() == 0
    computed = []

    def counted(programs, task):
        computed.append(task.fields["compute.compute_tiles"])
        return evaluate.evaluate(programs, task)

    monkeypatch.setattr(engines, "evaluate", counted)
    text = (folder / "space.toml").read_text()
    (folder / "space.toml").write_text(text.replace("[8, 16]", "[8, 16, 32]"))
    assert sweep() == 0
    assert computed == 4 * [32]
    assert len(rows(folder)) == 12


def test_results_of_other_machines_are_kept_and_not_shown(sweep, folder, capsys):
    assert sweep() == 0
    text = (folder / "space.toml").read_text()
    (folder / "space.toml").write_text(text.replace("[12.8, 25.6]", "[25.6]"))
    assert sweep() == 0
    assert len(rows(folder)) == 4
    assert len(lines(folder)) == 8
    assert "4 in" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("search", ["random", "pareto"])
def test_a_search_computes_as_many_as_asked_for(sweep, folder, search):
    assert sweep("--search", search, "--samples", "5", "--seed", "3") == 0
    assert len(rows(folder)) == 5


def test_any_number_of_workers_gives_the_same_table(sweep, folder):
    assert sweep("--search", "pareto", "--samples", "7") == 0
    alone = (folder / "results.csv").read_bytes()
    (folder / "results.jsonl").unlink()
    assert sweep("--search", "pareto", "--samples", "7", workers="2") == 0
    assert (folder / "results.csv").read_bytes() == alone


def test_a_model_is_compiled_in_every_precision(folder):
    (folder / "space.toml").write_text(
        'precision = ["int8", "fp16"]\nvary.compute.compute_tiles = [8, 16]'
    )
    words = [str(folder / "space.toml"), "--model", "tests.integration.models:small"]
    out = ["-o", str(folder / "results.csv"), "--workers", "1"]
    assert run(app, "kpuprof", ["sweep", *words, *out]) == 0
    found = [(row["model"], row["precision"]) for row in rows(folder)]
    assert found == 2 * [("small", "int8")] + 2 * [("small", "fp16")]


def test_a_profile_is_no_model(folder, capsys):
    words = [str(folder / "space.toml"), "--model", "run.kprof", "-o", "-"]
    assert run(app, "kpuprof", ["sweep", *words]) == 2
    assert "run.kprof: a profile, where a program (.kpu) or a model" in capsys.readouterr().err


def test_the_table_goes_to_stdout_and_keeps_nothing(folder, capsys):
    words = [str(folder / "space.toml"), "--model", str(folder / "net.kpu")]
    assert run(app, "kpuprof", ["sweep", *words, "-o", "-", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == ",".join(COLUMNS)
    assert len(out.splitlines()) == 9
    assert sorted(path.name for path in folder.iterdir()) == ["net.kpu", "space.toml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--search", "greedy"], "--search"),
        (["--engine", "dask"], "--engine"),
        (["--samples", "5"], "--samples and --seed are for"),
        (["--seed", "5"], "--samples and --seed are for"),
        (["--address", "auto"], "--address is for --engine ray"),
        (["--results", "-"], "--results needs a file"),
        (["--arch", "a:b"], "are for models, not programs"),
        (["--workers", "0"], "--workers"),
    ],
)
def test_an_option_that_means_nothing_is_refused(sweep, folder, capsys, words, message):
    assert sweep(*words) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "results.csv").exists()


def test_a_precision_that_a_program_does_not_have_is_refused(sweep, folder, capsys):
    text = (folder / "space.toml").read_text()
    (folder / "space.toml").write_text(f'precision = ["int8", "fp16"]\n{text}')
    assert sweep() == 2
    assert "is a program in fp16" in capsys.readouterr().err


def test_the_same_program_twice_is_refused(sweep, folder, capsys):
    assert sweep("--model", str(folder / "net.kpu")) == 2
    assert "net 1 and net 2 are the same program" in capsys.readouterr().err


def test_an_output_does_not_overwrite_what_it_is_made_of(sweep, folder, capsys):
    assert sweep("--html", str(folder / "space.toml")) == 2
    assert sweep("--png", str(folder / "results.csv")) == 2
    assert "both name" in capsys.readouterr().err


def test_a_grid_that_nobody_waits_for_is_refused(sweep, folder, capsys):
    (folder / "space.toml").write_text(
        "vary.compute.clock_mhz = { from = 1, to = 9999, step = 1 }\n"
        "vary.compute.tdp_watts = { from = 1, to = 9999, step = 1 }\n"
    )
    assert sweep() == 2
    assert "give --search random or pareto" in capsys.readouterr().err
