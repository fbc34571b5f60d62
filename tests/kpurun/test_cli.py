"""`kpurun` as a user meets it: in-process for every option, as real processes for the streams."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from formats.console import run
from formats.container import VERSION, load_profile, save
from kpurun.cli import app
from tests.kpurun.programs import IMAGE, ProgramBuilder

ROOT = Path(__file__).parents[2]


def scorer(**fields):
    """A convolution and pooling: one image in, four scores out."""
    builder = ProgramBuilder(name="classifier")
    image = builder.input("image", (1, 3, 8, 8))
    weight = builder.constant("w", np.random.default_rng(1).standard_normal((4, 3, 3, 3)))
    features = builder.op("Conv", image, weight, epilogue=[("Relu", {})], name="features")
    return builder.program(builder.op("GlobalAveragePool", features, name="scores"), **fields)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a program and an input."""
    monkeypatch.chdir(tmp_path)
    save(scorer(), "model.kpu")
    np.save("in.npy", IMAGE)
    return tmp_path


def kpurun(*words: object) -> int:
    return run(app, "kpurun", [str(word) for word in words])


def process(*words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "kpurun.cli", *words],
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        check=False,
    )


@pytest.mark.parametrize("output", ["out.npz", "out.npy", "out.safetensors"])
def test_outputs_are_written_and_the_metrics_go_to_stderr(output, capsys):
    assert kpurun("model.kpu", "-i", "in.npy", "-o", output) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "cycles" in said.err
    assert "scores_out" in said.err
    assert (Path(output)).stat().st_size > 0


def test_npz_holds_the_outputs_by_name_and_is_deterministic():
    assert kpurun("model.kpu", "-i", "in.npy", "-o", "a.npz") == 0
    assert kpurun("model.kpu", "-i", "in.npy", "-o", "b.npz") == 0
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes()
    with np.load("a.npz") as arrays:
        assert arrays.files == ["scores_out"]
        assert arrays["scores_out"].shape == (1, 4, 1, 1)


def test_the_reference_engine_gives_the_same_numbers():
    assert kpurun("model.kpu", "-i", "in.npy", "-o", "fast.npy") == 0
    assert kpurun("model.kpu", "-i", "in.npy", "-o", "slow.npy", "--engine", "reference") == 0
    np.testing.assert_allclose(np.load("fast.npy"), np.load("slow.npy"), rtol=2**-10)


def test_an_image_is_prepared_as_asked():
    Image.new("RGB", (20, 10), (124, 116, 104)).save("grey.png")
    assert kpurun("model.kpu", "-i", "grey.png", "--preprocess", "imagenet", "-o", "out.npy") == 0
    assert np.abs(np.load("out.npy")).max() < 0.2  # the mean colour becomes almost zero


def test_an_image_is_prepared_as_the_program_records():
    save(scorer(preprocess="yolo"), "detector.kpu")
    Image.new("RGB", (20, 10)).save("photo.png")
    assert kpurun("detector.kpu", "-i", "photo.png") == 0


def test_json_is_one_document_on_stdout(capsys):
    assert kpurun("model.kpu", "--random", "0", "--json", "--repeat", "2") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"]
    assert document["metrics"]["total_cycles"] > 0
    assert set(document["metrics"]["op_metrics"]) == {"features", "scores"}
    assert len(document["host_ms"]) == 2
    assert document["outputs"][0]["shape"] == [1, 4, 1, 1]


def test_quiet_says_nothing(capsys):
    assert kpurun("model.kpu", "--random", "0", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_verbose_says_what_is_read_fed_and_written(capsys):
    assert kpurun("model.kpu", "-i", "in.npy", "-o", "out.npz", "--verbose") == 0
    said = capsys.readouterr().err
    assert "precision: fp16" in said
    assert "feeding image (1,3,8,8) float32 -" in said
    assert "wrote out.npz" in said


def test_a_profile_holds_the_program_without_weights_and_its_metrics():
    assert kpurun("model.kpu", "--random", "0", "--profile", "run.kprof") == 0
    profile = load_profile("run.kprof")
    assert profile.program.name == "classifier"
    assert not profile.program.weights_blob
    assert profile.metrics.total_cycles > 0
    assert profile.options["random_seed"] == 0


def tables(profile) -> dict[str, int]:
    """Rows by table."""
    return {name.partition(".")[0]: len(column) for name, column in profile.events.items()}


def test_the_profile_of_a_simulation_holds_its_commands():
    """Map and weights take 2 loads each, the result 2 stores: 4 + 1 + 2 and, of the pooling,
    2 + 1 + 2."""
    words = ["model.kpu", "--random", "0", "--mode", "cycle_accurate"]
    assert kpurun(*words, "--profile", "run.kprof") == 0
    profile = load_profile("run.kprof")
    assert profile.mode.value == "cycle_accurate"
    assert tables(profile) == {"op": 2, "command": 12}
    ends = profile.events["command.end_cycle"]
    assert (profile.events["command.start_cycle"] <= ends).all()
    assert ends.max() == profile.metrics.total_cycles
    assert "left_out" not in profile.options


def test_the_profile_of_a_power_trace_integrates_to_the_energy():
    words = ["model.kpu", "--random", "0", "--mode", "power_trace"]
    assert kpurun(*words, "--profile", "run.kprof") == 0
    profile = load_profile("run.kprof")
    assert tables(profile).keys() == {"op", "command", "power"}
    starts, watts = profile.events["power.start_cycle"], profile.events["power.watts"]
    cycles = np.diff(starts, append=profile.metrics.total_cycles)
    assert watts @ cycles / 500 == pytest.approx(profile.metrics.total_energy_uj)


@pytest.mark.parametrize("most", [0, 5])
def test_a_profile_keeps_as_many_events_as_asked_and_says_what_it_lacks(most, capsys):
    words = ["model.kpu", "--random", "0", "--mode", "power_trace", "--quiet"]
    assert kpurun(*words, "--profile", "whole.kprof") == 0
    assert kpurun(*words, "--profile", "cut.kprof", "--max-events", most) == 0
    whole, cut = tables(load_profile("whole.kprof")), tables(load_profile("cut.kprof"))
    assert cut == {"op": 2, "command": most, "power": most}
    lacking = {table: whole[table] - most for table in ("command", "power")}
    assert load_profile("cut.kprof").options["left_out"] == lacking
    said = capsys.readouterr().err
    for table, rows in lacking.items():
        assert f"the table '{table}' of the profile lacks its last {rows} rows" in said


def test_a_simulation_is_as_deterministic_as_its_file():
    words = ["model.kpu", "--random", "0", "--mode", "power_trace", "--profile"]
    assert kpurun(*words, "a.kprof") == kpurun(*words, "b.kprof") == 0
    assert Path("a.kprof").read_bytes() == Path("b.kprof").read_bytes()


def test_info_prints_what_the_program_is(capsys):
    assert kpurun("model.kpu", "--info") == 0
    out = capsys.readouterr().out
    assert "input: image (1,3,8,8) float32, stored as fp16" in out
    assert "precision: fp16" in out
    assert f"format version: {VERSION}" in out
    assert kpurun("model.kpu", "--info", "--json") == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0]["name"] == "image"


def test_verify_says_that_the_program_is_sound(capsys):
    assert kpurun("model.kpu", "--verify") == 0
    assert "well formed" in capsys.readouterr().err


def test_an_overflow_is_a_warning_even_when_quiet(capsys):
    np.save("large.npy", np.full((1, 3, 8, 8), -60000, np.float32))
    assert kpurun("model.kpu", "-i", "large.npy", "--quiet") == 0
    assert "warning: op features (Conv) overflows fp16" in capsys.readouterr().err


def one_line_error(capsys) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("kpurun: error: ")
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "no input: give -i FILE or --random SEED"),
        (["-i", "in.npy", "--random", "1"], 2, "exclude each other"),
        (["-i", "absent.npy"], 3, "absent.npy: No such file"),
        (["-i", "."], 3, "Is a directory"),
        (["-i", "wide.npy"], 2, "expected (1,3,8,8), got (1,3,8,9)"),
        (["-i", "nan.npy"], 2, "'image' contains NaN"),
        (["-i", "words.npy"], 2, "must be float32, got an array of <U5"),
        (["-i", "model.kpu"], 3, "model.kpu: a zip file, but not an .npz"),
        (["-i", "in.npy", "--preprocess", "yolo"], 2, "--preprocess is for images"),
        (["--random", "0", "--preprocess", "yolo"], 2, "--preprocess is for images"),
        (["-i", "empty.npy"], 2, "expected (1,3,8,8), got (0,3,8,8)"),
        (["-i", "in.npy", "--preprocess", "imagnet"], 2, "did you mean imagenet?"),
        (["--random", "0", "-o", "out.txt"], 2, "written as .npz, .npy, .safetensors"),
        (["--random", "0", "-o", "model.kpu"], 2, "would overwrite the input"),
        (["--random", "0", "-o", "absent/out.npz"], 3, "No such file or directory"),
        (["--random", "0", "-o", "x.npz", "--profile", "x.npz"], 2, "both name x.npz"),
        (["--random", "0", "-o", "x.npz", "--profile", "./x.npz"], 2, "both name ./x.npz"),
        (["--random", "0", "-o", "-", "--json"], 2, "can go to stdout"),
        (["--random", "-1"], 2, "--random"),
        (["--random", "0", "--repeat", "0"], 2, "--repeat"),
        (["--random", "0", "--max-cycles", "10", "--mode", "cycle_accurate"], 5, "beyond 10"),
        (["--random", "0", "--mode", "powertrace"], 2, "did you mean power_trace?"),
        (["--random", "0", "--engine", "turbo"], 2, "fast, reference"),
        (["--random", "0", "--config", "swkpu-v9"], 2, "swkpu-v1"),
        (["--info", "-o", "out.npz"], 2, "leave out -o"),
        (["--info", "--check-tiles"], 2, "leave out --check-tiles"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_its_exit_code_and_leaves_no_file(words, code, message, capsys):
    np.save("wide.npy", np.zeros((1, 3, 8, 9), np.float32))
    np.save("empty.npy", np.zeros((0, 3, 8, 8), np.float32))
    np.save("nan.npy", np.full((1, 3, 8, 8), np.nan, np.float32))
    np.save("words.npy", np.full((1, 3, 8, 8), "hello"))
    before = sorted(os.listdir())
    assert kpurun("model.kpu", *words) == code
    assert message in one_line_error(capsys)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"not a program", "not a KPU file"), (None, "No such file")],
    ids=["empty", "magic", "absent"],
)
def test_a_bad_program_is_one_line_with_exit_code_3(content, message, capsys):
    if content is not None:
        Path("bad.kpu").write_bytes(content)
    assert kpurun("bad.kpu", "--random", "0") == 3
    error = one_line_error(capsys)
    assert "bad.kpu" in error
    assert message.lower() in error.lower()


def test_streams_join_in_a_pipe():
    ran = process(
        *("-", "-i", "in.npy", "-o", "-", "--quiet"), stdin=Path("model.kpu").read_bytes()
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == b""
    with np.load(io.BytesIO(ran.stdout)) as arrays:
        assert arrays["scores_out"].shape == (1, 4, 1, 1)


def test_an_input_comes_through_a_pipe():
    ran = process("model.kpu", "-i", "-", "-o", "out.npy", stdin=Path("in.npy").read_bytes())
    assert ran.returncode == 0, ran.stderr
    assert np.load("out.npy").shape == (1, 4, 1, 1)
    assert b"\x1b" not in ran.stderr


def test_help_is_quick_and_imports_neither_torch_nor_numpy():
    code = (
        "import sys; from formats.console import run; from kpurun.cli import app;"
        "run(app, 'kpurun', ['--help']); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert b"--random" in done.stdout


def test_little_traffic_is_not_rounded_to_nothing(capsys):
    assert kpurun("model.kpu", "-i", "in.npy") == 0
    traffic = [line for line in capsys.readouterr().err.splitlines() if "RAM read" in line]
    assert len(traffic) == 2
    assert not any(" 0 B" in line or " 0.0" in line for line in traffic)
