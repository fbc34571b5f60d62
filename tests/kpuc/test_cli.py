"""`kpuc` as a user meets it: every option in-process, the streams as real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from formats.container import load_program
from kpuc.cli import kpuc_command
from tests.integration.models import small

ROOT = Path(__file__).parents[2]
MODELS = "tests.integration.models"
MODELS = "tests.integration.models"
SMALL = f"{MODELS}:small"


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "small.pt2"
    torch.export.save(torch.export.export(small(), (torch.zeros(1, 3, 16, 16),)), path)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory, and an environment that says nothing about kpuc."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KPUC_")]:
        monkeypatch.delenv(name)
    return tmp_path


def kpuc(*words: object) -> int:
    return kpuc_command([str(word) for word in words])


def process(*words: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "kpuc.cli", *map(str, words)],
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        check=False,
    )


def mistake(capsys, *words: object) -> tuple[int, str]:
    """Exit code and the one line on stderr; nothing on stdout, no file left behind."""
    before = sorted(Path.cwd().iterdir())
    code = kpuc(*words)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("kpuc: error: ")
    assert said.err.count("\n") == 1, said.err
    assert sorted(Path.cwd().iterdir()) == before
    return code, said.err


def test_a_model_becomes_a_program_and_the_summary_goes_to_stderr(capsys):
    assert kpuc(SMALL, "-o", "small.kpu") == 0
    said = capsys.readouterr()
    assert said.out == ""
    for subject in ("ops", "weights", "peak L2", "latency", "energy", "small.kpu"):
        assert subject in said.err
    assert load_program("small.kpu").validate() == []


def test_quiet_says_nothing(capsys):
    assert kpuc(SMALL, "-o", "small.kpu", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_json_is_the_summary_on_stdout(capsys):
    assert kpuc(SMALL, "-o", "small.kpu", "--json", "-q") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema_version"], found["command"]) == ("1.0", "compile")
    program = load_program("small.kpu")
    assert found["estimated_total_cycles"] == program.estimated_total_cycles
    assert found["file_bytes"] == Path("small.kpu").stat().st_size


def test_shape_precision_machine_and_recipe_are_options():
    words = "--input-shape 2,3,16,16 --precision bf16 --config swkpu-v2 --preprocess yolo"
    assert kpuc(SMALL, "-o", "p.kpu", *words.split(), "--set", "memory.sram_l2_bytes=1MiB") == 0
    program = load_program("p.kpu")
    assert program.get_input_tensors()[0].shape == (2, 3, 16, 16)
    assert (program.precision.value, program.preprocess) == ("bf16", "yolo")
    assert program.target_config.memory.sram_l2_bytes == 1 << 20


def test_the_environment_stands_in_for_options_that_are_not_given(monkeypatch):
    monkeypatch.setenv("KPUC_PRECISION", "bf16")
    monkeypatch.setenv("KPUC_CONFIG", "swkpu-v2")
    monkeypatch.setenv("KPUC_SET", "memory.sram_l2_bytes=1MiB compute.clock_mhz=400")
    assert kpuc(SMALL, "-o", "p.kpu", "--set", "compute.clock_mhz=300") == 0
    program = load_program("p.kpu")
    assert program.precision.value == "bf16"
    assert program.target_config.memory.sram_l2_bytes == 1 << 20
    assert program.target_config.compute.clock_mhz == 300


def test_print_config_shows_the_machine_after_file_environment_and_options(capsys, monkeypatch):
    Path("mine.toml").write_text('name = "mine"\n[memory]\nsram_l2_bytes = 1048576\n')
    monkeypatch.setenv("KPUC_SET", "max_batch_size=8")
    assert kpuc("--print-config", "--config", "mine.toml", "--set", "compute.clock_mhz=600") == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["name"], config["memory"]["sram_l2_bytes"]) == ("mine", 1 << 20)
    assert (config["max_batch_size"], config["compute"]["clock_mhz"]) == (8, 600)


def test_check_names_everything_that_would_not_compile(capsys):
    assert kpuc("tests.integration.models:norms", "--check") == 4
    said = capsys.readouterr()
    assert "GroupNorm" in said.out
    assert "InstanceNorm" in said.out
    assert "would not compile" in said.err


def test_check_of_a_model_that_compiles_is_done(capsys):
    assert kpuc(SMALL, "--check", "--json") == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_check_of_a_file_that_is_not_there_is_exit_code_3(capsys):
    assert mistake(capsys, "gone.pt2", "--check")[0] == 3


def test_estimate_memory_prints_four_sizes_and_writes_nothing(capsys, folder):
    assert kpuc(SMALL, "--estimate-memory", "--json") == 0
    sizes = json.loads(capsys.readouterr().out)["bytes"]
    assert set(sizes) == {"weights", "activations", "peak_sram", "peak_dram"}
    assert all(size > 0 for size in sizes.values())
    assert list(folder.iterdir()) == []


def test_remarks_say_of_every_op_what_was_done(capsys):
    assert kpuc(SMALL, "-o", "small.kpu", "--remarks", "remarks.jsonl") == 0
    remarks = [json.loads(line) for line in Path("remarks.jsonl").read_text().splitlines()]
    program = load_program("small.kpu")
    for subject in ("tile", "precision", "place"):
        assert {r["op"] for r in remarks if r["subject"] == subject} == {
            op.id for op in program.ops
        }
    fused = [r for r in remarks if r["subject"] == "fusion" and r["status"] == "applied"]
    assert "features.0" in [r["name"] for r in fused]


def test_remarks_say_why_an_activation_is_not_in_l2():
    words = ("--set", "memory.sram_l1_bytes=1KiB", "--set", "memory.sram_l2_bytes=2KiB")
    assert kpuc(SMALL, "-o", "small.kpu", "--remarks", "remarks.jsonl", *words) == 0
    remarks = [json.loads(line) for line in Path("remarks.jsonl").read_text().splitlines()]
    missed = [r for r in remarks if (r["subject"], r["status"]) == ("place", "missed")]
    assert missed
    assert all("L2 (2,048 B) would be exceeded" in r["detail"] for r in missed)


def test_every_pass_can_be_saved():
    assert kpuc(SMALL, "-o", "small.kpu", "--save-passes", "passes") == 0
    saved = sorted(path.name for path in Path("passes").iterdir())
    assert saved[0].endswith("-lower.txt")
    assert any(name.endswith("-fuse.txt") for name in saved)
    assert "Conv(" in (Path("passes") / saved[0]).read_text()


def test_stop_after_prints_the_graph_and_writes_no_program(capsys, folder):
    assert kpuc(SMALL, "--stop-after", "fuse") == 0
    assert "Conv(" in capsys.readouterr().out
    assert list(folder.iterdir()) == []


def test_the_time_report_names_the_stages(capsys):
    assert kpuc(SMALL, "-o", "small.kpu", "--time-report") == 0
    said = capsys.readouterr().err
    assert all(stage in said for stage in ("load", "lower", "fuse", "emit", "total"))


def test_a_depfile_names_the_model_the_machine_and_the_sources(saved_model):
    Path("my machine.toml").write_text('name = "mine"\n')
    assert kpuc(saved_model, "-o", "a.kpu", "--config", "my machine.toml", "--depfile", "a.d") == 0
    first = Path("a.d").read_text().splitlines()[0]
    assert first == f"a.kpu: {saved_model} my\\ machine.toml"
    assert kpuc(SMALL, "-o", "b.kpu", "--depfile", "b.d") == 0
    assert "tests/integration/models.py" in Path("b.d").read_text().splitlines()[0]


def test_a_state_dict_compiles_with_its_architecture():
    torch.save(small().state_dict(), "weights.pt")
    assert kpuc("weights.pt", "--arch", SMALL, "-o", "small.kpu") == 0


def test_if_changed_leaves_an_output_that_would_be_the_same_alone():
    assert kpuc(SMALL, "-o", "small.kpu") == 0
    os.utime("small.kpu", (1, 1))
    assert kpuc(SMALL, "-o", "small.kpu", "--if-changed") == 0
    assert Path("small.kpu").stat().st_mtime == 1
    assert kpuc(SMALL, "-o", "small.kpu", "--if-changed", "--preprocess", "yolo") == 0
    assert Path("small.kpu").stat().st_mtime != 1


def test_dump_lists_the_program(capsys):
    assert kpuc(SMALL, "-o", "small.kpu", "-q") == 0
    assert kpuc("dump", "small.kpu") == 0
    assert "Conv" in capsys.readouterr().out


def test_upgrade_of_a_present_file_keeps_the_program():
    assert kpuc(SMALL, "-o", "small.kpu") == 0
    assert kpuc("upgrade", "small.kpu", "-o", "same.kpu") == 0
    assert load_program("same.kpu") == load_program("small.kpu")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "no model"),
        ([SMALL], 2, "no output"),
        ([SMALL, "-o", "a.kpu", "--precison", "fp16"], 2, "--precision"),
        ([SMALL, "-o", "a.kpu", "--precision", "fp61"], 2, "did you mean fp16?"),
        ([SMALL, "-o", "a.kpu", "--precision", "int8"], 2, "requires at least 100 samples"),
        ([SMALL, "-o", "a.kpu", "--precision", "bf16"], 4, "--config swkpu-v2"),
        ([SMALL, "-o", "a.kpu", "--preprocess", "imgenet"], 2, "did you mean imagenet?"),
        ([SMALL, "-o", "a.kpu", "--config", "swkpu1"], 2, "did you mean swkpu-v1?"),
        ([SMALL, "-o", "a.kpu", "--config", "gone.toml"], 3, "gone.toml"),
        ([SMALL, "-o", "a.kpu", "--set", "compute.clock_mz=1"], 2, "did you mean clock_mhz?"),
        ([SMALL, "-o", "a.kpu", "--set", "compute.clock_mhz=fast"], 2, "not a number"),
        ([SMALL, "-o", "a.kpu", "--input-shape", "big"], 2, "--input-shape 'big'"),
        ([SMALL, "-o", "a.kpu", "--calibrate", "photos"], 2, "--calibration"),
        ([SMALL, "--stop-after", "fues"], 2, "did you mean fuse?"),
        ([SMALL, "-o", "-", "--json"], 2, "stdout"),
        ([SMALL, "-o", "-", "--depfile", "a.d"], 2, "--depfile"),
        ([SMALL, "-o", "no/such/folder/a.kpu"], 3, "no/such/folder"),
        (["gone.pt2", "-o", "a.kpu"], 3, "no such file"),
        (["net.onnx", "-o", "a.kpu"], 4, "ONNX models are not available"),
        (["dump", "gone.kpu"], 3, "gone.kpu"),
        ([SMALL, "-o", "a.kpu", "--remarks", "./a.kpu"], 2, "-o and --remarks both name"),
        ([SMALL, "-o", "a.kpu", "--depfile", "a.kpu"], 2, "-o and --depfile both name"),
        ([SMALL, "-o", "a.kpu", "--remarks", "-", "--json"], 2, "stdout"),
        ([SMALL, "-o", "a.kpu", "--input-shape", "17,3,16,16"], 5, "is a batch of 17"),
        ([SMALL, "-o", "a.kpu", "--input-shape", f"1,3,{10**6},{10**6}"], 5, "too large"),
        ([SMALL, "-o", "a.kpu", "--input-shape", f"{10**20},3,1,1"], 5, "too large"),
        ([f"{MODELS}:leaving", "-o", "a.kpu"], 2, "leaving failed: SystemExit: 3"),
        ([f"{MODELS}:broken", "-o", "a.kpu"], 2, "OwnError: first line second line"),
        ([SMALL, "-o", "a.kpu", "--set", "memory.dram_bytes=8KiB"], 5, "DRAM memory exceeded"),
        ([SMALL, "-o", "a.kpu", "--set", "memory.sram_l1_bytes=64"], 5, "SRAM memory exceeded"),
    ],
    ids=lambda value: "-".join(value[-2:]) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_with_its_exit_code(capsys, words, code, message):
    found, said = mistake(capsys, *words)
    assert message in said
    assert found == code


def test_a_shape_that_does_not_fit_the_model_names_the_models_line(capsys):
    assert kpuc(SMALL, "-o", "a.kpu", "--input-shape", "1,3,20,20") == 4
    said = capsys.readouterr().err
    assert "the model fails on its example input" in said
    assert "models.py:" in said


def test_a_model_that_ends_the_process_is_a_mistake_like_any_other(capsys):
    assert kpuc(f"{MODELS}:LeavingNet", "-o", "a.kpu") == 4
    assert "fails on its example input: that is all" in capsys.readouterr().err


def test_the_output_may_not_be_the_input(capsys, saved_model):
    code, said = mistake(capsys, saved_model, "-o", saved_model)
    assert (code, "overwrite" in said) == (2, True)


def test_traceback_shows_where(capsys):
    assert kpuc("gone.pt2", "-o", "a.kpu", "--traceback") == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_model_comes_and_a_program_goes_through_a_pipe(saved_model):
    done = process("-", "-o", "-", "--quiet", stdin=saved_model.read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert load_program(done.stdout).name == "stdin"


def test_what_a_model_prints_does_not_reach_the_program_on_stdout():
    done = process(f"{MODELS}:talkative", "-o", "-", "--quiet")
    assert done.stderr == b"building the model\n"
    assert load_program(done.stdout).name == "talkative"


def test_what_is_no_model_on_stdin_is_one_line(capsys):
    done = process("-", "-o", "-", stdin=b"hello")
    assert done.returncode == 3
    assert done.stderr.decode().startswith("kpuc: error: stdin: neither")


def test_help_starts_without_torch_and_numpy():
    code = "import sys, kpuc.cli; sys.exit(bool({'torch', 'numpy', 'msgspec'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
