"""The three commands as a user meets them: in a pipe, in a Makefile, and with every mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.integration.models import small

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
SMALL = "tests.integration.models:small"


def command(*words: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a console script as a real process from the project's root."""
    name, *rest = map(str, words)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "160"}
    return subprocess.run(
        [BIN / name, *rest],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A compiled small model with an input, shared by the tests that only read them."""
    folder = tmp_path_factory.mktemp("commands")
    done = command("kpuc", SMALL, "-o", folder / "small.kpu")
    assert done.returncode == 0, done.stderr.decode()
    rng = np.random.default_rng(0)
    np.save(folder / "input.npy", rng.standard_normal((1, 3, 16, 16)).astype(np.float32))
    return folder


def test_the_pipeline_computes_what_pytorch_computes_and_profiles_it(folder):
    out, profile = folder / "out.npz", folder / "run.kprof"
    ran = command(
        "kpurun", folder / "small.kpu", "-i", folder / "input.npy", "-o", out, "--profile", profile
    )
    assert ran.returncode == 0, ran.stderr.decode()
    with torch.no_grad():
        expected = small()(torch.from_numpy(np.load(folder / "input.npy"))).numpy()
    (got,) = np.load(out).values()
    np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())
    shown = command("kpuprof", "show", profile, "--json")
    summary = json.loads(shown.stdout)["summary"]
    parts = ("compute_cycles", "memory_stall_cycles", "other_cycles")
    assert sum(summary[part] for part in parts) == summary["total_cycles"] > 0


def test_the_commands_join_in_a_pipe(folder):
    compiled = command("kpuc", SMALL, "-o", "-", "--quiet")
    ran = command(
        *("kpurun", "-", "-i", folder / "input.npy", "--profile", "-", "--quiet"),
        stdin=compiled.stdout,
    )
    shown = command("kpuprof", "show", "-", "--json", stdin=ran.stdout)
    assert json.loads(shown.stdout)["summary"]["total_cycles"] > 0


def test_compiling_twice_gives_the_same_bytes(folder):
    again = folder / "again.kpu"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    words = [BIN / "kpuc", SMALL, "-o", again, "--quiet"]
    subprocess.run(words, cwd=ROOT, env=environment, check=True)
    assert again.read_bytes() == (folder / "small.kpu").read_bytes()


def test_a_reader_that_goes_away_is_silent(folder):
    words = f"{BIN / 'kpuc'} dump {folder / 'small.kpu'} | head -n 1"
    done = subprocess.run(words, shell=True, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0
    assert done.stderr == b""


@pytest.mark.parametrize("name", ["kpuc", "kpurun", "kpuprof"])
def test_version_is_one_line_on_stdout(name):
    done = command(name, "--version")
    assert done.returncode == 0
    assert done.stdout.startswith(b"kpu-toolchain ")


def corrupt(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def truncated(folder: Path) -> Path:
    return corrupt(folder, "truncated.kpu", (folder / "small.kpu").read_bytes()[:-100])


def wrong_magic(folder: Path) -> Path:
    return corrupt(folder, "magic.kpu", b"GIF89a" + (folder / "small.kpu").read_bytes()[6:])


def empty(folder: Path) -> Path:
    return corrupt(folder, "empty.kpu", b"")


def missing(folder: Path) -> Path:
    return folder / "nowhere.kpu"


def saved(folder: Path, name: str, array: np.ndarray) -> Path:
    np.save(folder / name, array)
    return folder / name


@pytest.mark.parametrize("program", [missing, empty, truncated, wrong_magic])
@pytest.mark.parametrize("reader", [("kpurun",), ("kpuc", "dump"), ("kpuprof", "show")])
def test_a_broken_file_is_one_line_and_exit_code_3(folder, reader, program):
    done = command(*reader, program(folder))
    assert done.returncode == 3
    assert_one_line(done)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 3, 32, 32), np.float32), "expected (1,3,16,16), got (1,3,32,32)"),
        (np.full((1, 3, 16, 16), np.nan, np.float32), "NaN"),
        (np.zeros((1, 3, 16, 16), np.complex64), "complex64"),
    ],
    ids=["shape", "nan", "dtype"],
)
def test_an_input_that_does_not_fit_is_one_line_and_leaves_no_file(folder, array, message):
    out = folder / "refused.npz"
    done = command(
        "kpurun", folder / "small.kpu", "-i", saved(folder, "wrong.npy", array), "-o", out
    )
    assert done.returncode == 2
    assert message in assert_one_line(done)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["no/such/model.pt2"], 3, "no/such/model.pt2"),
        ([SMALL, "--precision", "fp61"], 2, "fp16"),
        ([SMALL, "--precison", "fp16"], 2, "--precision"),
        ([SMALL, "--input-shape", "17,3,16,16"], 5, "16"),
        ([SMALL, "--precision", "int8"], 2, "INT8 calibration requires at least 100 samples"),
        ([SMALL, "--config", "swkpu-v9"], 2, "swkpu-v1"),
        ([SMALL, "--set", "memory.sram_l2_byte=4MiB"], 2, "sram_l2_bytes"),
        (["tests.integration.models:wide", "--set", "memory.dram_bytes=16MiB"], 5, "DRAM memory"),
        (["tests.integration.models:nothing"], 2, "nothing"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_compile_mistake_is_one_line_with_its_exit_code(tmp_path, words, code, message):
    out = tmp_path / "model.kpu"
    done = command("kpuc", *words, "-o", out)
    assert message in assert_one_line(done)
    assert done.returncode == code
    assert not any(tmp_path.iterdir())


def test_every_unsupported_op_is_named_with_its_source_line(tmp_path):
    done = command("kpuc", "tests.integration.models:norms", "-o", tmp_path / "model.kpu")
    message = done.stderr.decode()
    assert done.returncode == 4
    assert "GroupNorm" in message
    assert "InstanceNorm" in message
    assert "models.py:" in message
    assert "Traceback" not in message


@pytest.mark.parametrize("mode", ["cycle_accurate", "power_trace"])
def test_a_simulated_run_gives_the_same_outputs(folder, mode):
    words = ["kpurun", folder / "small.kpu", "--random", "0", "-q", "-o"]
    assert command(*words, folder / "plain.npz").returncode == 0
    assert command(*words, folder / f"{mode}.npz", "--mode", mode).returncode == 0
    plain, simulated = (np.load(folder / f"{name}.npz") for name in ("plain", mode))
    for name in plain:
        np.testing.assert_array_equal(simulated[name], plain[name])


def assert_one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    message = done.stderr.decode()
    assert message.count("\n") == 1, message
    assert "Traceback" not in message
    assert ": error: " in message
    return message
