"""`kpuc` with a calibration that is kept in a file, and with options that need one."""

import json
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from formats.container import load_program
from kpuc.cli import kpuc_command
from tests.integration.models import small
from tests.kpuc.test_cli import SMALL, kpuc, mistake

INT8 = (SMALL, "--precision", "int8", "-q")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with samples, a calibration and the program that was made along with it."""
    path = tmp_path_factory.mktemp("made")
    samples = np.random.default_rng(0).normal(size=(100, 3, 16, 16)).astype(np.float32)
    np.save(path / "samples.npy", samples)
    words = ["--calibration", path / "samples.npy", "--save-calibration", path / "small.cal"]
    assert kpuc_command([str(word) for word in (*INT8, *words, "-o", path / "small.kpu")]) == 0
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, made):
    """A working directory with what was made, and an environment that says nothing about kpuc."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KPUC_")]:
        monkeypatch.delenv(name)
    for source in made.iterdir():
        Path(source.name).write_bytes(source.read_bytes())


def test_a_saved_calibration_gives_the_same_program():
    assert kpuc(*INT8, "--load-calibration", "small.cal", "-o", "again.kpu") == 0
    assert Path("again.kpu").read_bytes() == Path("small.kpu").read_bytes()


def test_a_saved_calibration_needs_no_weight_rounded_again(monkeypatch):
    monkeypatch.setattr("kpuc.quant.refine.rounded", None)
    assert kpuc(*INT8, "--load-calibration", "small.cal", "-o", "again.kpu") == 0


def test_a_saved_calibration_comes_through_a_pipe(monkeypatch):
    with Path("small.cal").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert kpuc(*INT8, "--load-calibration", "-", "-o", "again.kpu") == 0
    assert Path("again.kpu").read_bytes() == Path("small.kpu").read_bytes()


def test_samples_come_through_a_pipe(monkeypatch):
    with Path("samples.npy").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert kpuc(*INT8, "--calibration", "-", "-o", "again.kpu") == 0
    assert Path("again.kpu").read_bytes() == Path("small.kpu").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--calibration-method", "minmax"],
        ["--per-tensor"],
        ["--no-bias-correction"],
        ["--no-weight-rounding"],
        ["--keep-fp16", "classifier"],
        ["--precision", "int4", "--config", "swkpu-v2", "--group-size", "16"],
    ],
    ids=lambda options: options[-1],
)
def test_other_options_on_a_saved_calibration_give_what_the_samples_give(options):
    words = [*INT8, *options]
    assert kpuc(*words, "--calibration", "samples.npy", "-o", "direct.kpu") == 0
    assert kpuc(*words, "--load-calibration", "small.cal", "-o", "loaded.kpu") == 0
    assert Path("loaded.kpu").read_bytes() == Path("direct.kpu").read_bytes()
    assert load_program("loaded.kpu") != load_program("small.kpu")


def test_weights_of_other_options_are_added_to_a_loaded_calibration(monkeypatch):
    other = [*INT8, "--calibration-method", "minmax"]
    both = ["--load-calibration", "small.cal", "--save-calibration", "small.cal"]
    assert kpuc(*other, *both, "-o", "other.kpu") == 0
    monkeypatch.setattr("kpuc.quant.refine.rounded", None)
    assert kpuc(*other, "--load-calibration", "small.cal", "-o", "again.kpu") == 0
    assert Path("again.kpu").read_bytes() == Path("other.kpu").read_bytes()
    assert kpuc(*INT8, "--load-calibration", "small.cal", "-o", "first.kpu") == 0
    assert Path("first.kpu").read_bytes() == Path("small.kpu").read_bytes()


def test_the_same_samples_make_the_same_file():
    words = ["--calibration", "samples.npy", "--save-calibration", "again.cal"]
    assert kpuc(*INT8, *words, "-o", "again.kpu") == 0
    assert Path("again.cal").read_bytes() == Path("small.cal").read_bytes()


def test_nothing_is_saved_of_a_compilation_that_fails(capsys):
    words = ["--calibration", "samples.npy", "--save-calibration", "again.cal", "-o", "a.kpu"]
    assert mistake(capsys, *INT8, *words, "--set", "memory.dram_bytes=2KiB")[0] == 5


def test_a_depfile_names_the_saved_calibration():
    words = ["--load-calibration", "small.cal", "-o", "a.kpu", "--depfile", "a.d"]
    assert kpuc(*INT8, *words) == 0
    assert Path("a.d").read_text().splitlines()[0].endswith(" small.cal")


def test_a_depfile_names_the_samples():
    words = ["--calibration", "samples.npy", "-o", "a.kpu", "--depfile", "a.d"]
    assert kpuc(*INT8, *words) == 0
    assert Path("a.d").read_text().splitlines()[0].endswith(" samples.npy")


def test_a_depfile_names_every_image_and_the_folders_that_they_may_come_and_go_in(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (100, 16, 16, 3), np.uint8)
    Path("photos/more").mkdir(parents=True)
    for index, image in enumerate(pixels):
        place = "photos/more" if index else "photos"
        Image.fromarray(image).save(f"{place}/{index:02}.png")
    Path("photos/notes.txt").write_text("no image")

    assert kpuc(*INT8, "--calibration", "photos", "-o", "a.kpu", "--depfile", "a.d") == 0

    named = set(Path("a.d").read_text().splitlines()[0].split())
    assert {"photos", "photos/00.png", "photos/more", "photos/more/99.png"} <= named
    assert "photos/notes.txt" not in named


LOAD = ["--load-calibration", "small.cal"]
SAVE = ["--calibration", "samples.npy", "--save-calibration"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([*LOAD, "--calibration", "samples.npy"], 2, "--calibration and --load-calibration"),
        ([*SAVE, "-"], 2, "--save-calibration needs a file"),
        ([*SAVE, "a.kpu"], 2, "-o and --save-calibration both name"),
        ([*SAVE, "samples.npy"], 2, "would overwrite the input"),
        ([*LOAD, "--remarks", "small.cal"], 2, "would overwrite the input"),
        ([*SAVE, "no/such/a.cal"], 3, "no/such/a.cal"),
        (["--load-calibration", "gone.cal"], 3, "gone.cal: no such file"),
        (["--load-calibration", "samples.npy"], 3, "samples.npy: not a saved calibration"),
        (["--load-calibration", "small.kpu"], 3, "small.kpu: not a saved calibration"),
        ([*LOAD, "--input-shape", "2,3,16,16"], 3, "small.cal: calibration of another model"),
    ],
    ids=lambda value: "-".join(value[-2:]) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_with_its_exit_code(capsys, words, code, message):
    found, said = mistake(capsys, *INT8, *words, "-o", "a.kpu")
    assert message in said
    assert found == code


@pytest.mark.parametrize("option", ["-o", "--save-calibration", "--remarks", "--depfile"])
def test_no_output_replaces_an_image_of_the_samples(capsys, option):
    Path("photos").mkdir()
    Path("photos/a.jpg").write_bytes(b"a photo")
    words = [*INT8, "--calibration", "photos", option, "photos/../photos/a.jpg"]
    found, said = mistake(capsys, *words, *([] if option == "-o" else ["-o", "a.kpu"]))
    assert "a.jpg: the output would overwrite the input" in said
    assert found == 2
    assert Path("photos/a.jpg").read_bytes() == b"a photo"


def test_a_damaged_calibration_is_a_mistake_of_one_line(capsys):
    data = bytearray(Path("small.cal").read_bytes())
    data[-100] ^= 1
    Path("small.cal").write_bytes(data)
    found, said = mistake(capsys, *INT8, *LOAD, "-o", "a.kpu")
    assert "small.cal: not a saved calibration: it is damaged" in said
    assert found == 3


@pytest.mark.parametrize("option", ["--calibration", "--load-calibration"])
def test_the_model_and_the_calibration_do_not_both_come_from_stdin(capsys, option):
    found, said = mistake(capsys, "-", "--precision", "int8", option, "-", "-o", "a.kpu")
    assert f"only one of the model and {option} can" in said
    assert found == 2


@pytest.mark.parametrize("kept", ["*", "features*", "classifier"])
def test_a_calibration_saved_with_kernels_in_fp16_loads_again(kept, made, monkeypatch):
    monkeypatch.chdir(made)
    words = [*INT8, "--keep-fp16", kept]
    samples = ["--calibration", "samples.npy", "--save-calibration", "kept.cal"]
    assert kpuc(*words, *samples, "-o", "one.kpu") == 0
    assert kpuc(*words, "--load-calibration", "kept.cal", "-o", "two.kpu") == 0
    assert Path("one.kpu").read_bytes() == Path("two.kpu").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--percentile", "99"], "--percentile is for --calibration-method percentile"),
        (["--calibration-method", "percentile", "--percentile", "50"], "above 50, at most 100"),
        (["--group-size", "0"], "--group-size is positive"),
        (["--precision", "INT8"], "did you mean int8?"),
        (["--max-diff", "inf"], "--max-diff inf: give a positive number"),
        (["--min-sqnr", "nan"], "--min-sqnr nan: give a number of dB"),
        (["--calibration", ""], "a calibration's path is empty"),
        (["--check"], "--check makes no program: leave out -o"),
        (["--estimate-memory", "--if-changed"], "leave out -o, --if-changed"),
        (["--check", "--calibration", "a"], "leave out -o, --calibration"),
        (["--check", "--save-calibration", "a"], "leave out -o, --save-calibration"),
        (["--check", "--estimate-memory"], "--check and --estimate-memory: give one"),
    ],
)
def test_what_an_option_cannot_mean_is_refused_before_the_model_is_read(capsys, words, message):
    found, said = mistake(capsys, "absent.pt2", "--precision", "int8", *words, "-o", "b.kpu")
    assert message in said
    assert found == 2


OF_INT8 = [
    ["--load-calibration", "small.cal"],
    ["--save-calibration", "a.cal"],
    ["--calibration-method", "minmax"],
    ["--percentile", "99"],
    ["--per-tensor"],
    ["--group-size", "32"],
    ["--no-equalisation"],
    ["--no-weight-rounding"],
    ["--no-bias-correction"],
    ["--keep-fp16", "features"],
    ["--max-diff", "0.01"],
    ["--min-sqnr", "30"],
]
UNUSED = [
    *product(["fp16", "bf16", "posit8", "posit16"], OF_INT8),
]


@pytest.mark.parametrize(("precision", "option"), UNUSED)
def test_an_option_that_a_precision_has_no_use_for_is_refused_by_name(capsys, precision, option):
    words = [SMALL, "--precision", precision, "--config", "swkpu-v2", *option, "-o", "b.kpu"]
    found, said = mistake(capsys, *words)
    assert f"{option[0]} is for int8 and int4, not {precision}" in said
    assert found == 2


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_samples_are_for_codes_and_posits(capsys, precision):
    words = ["--precision", precision, "--config", "swkpu-v2", "--calibration", "samples.npy"]
    found, said = mistake(capsys, SMALL, *words, "-o", "b.kpu")
    assert f"--calibration is for int8, int4, posit8 and posit16, not {precision}" in said
    assert found == 2


def test_missing_samples_are_asked_for_before_the_model_is_read(capsys):
    found, said = mistake(capsys, "absent.pt2", "--precision", "int8", "-o", "b.kpu")
    assert "at least 100 samples: give --calibration PATH or --load-calibration FILE" in said
    assert found == 2


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["absent.pt2", "-o", "b.kpu"], "absent.pt2: no such file"),
        ([SMALL, "--calibration", "gone", "-o", "b.kpu"], "gone: no such file"),
        ([SMALL, "--load-calibration", "gone.cal", "-o", "b.kpu"], "gone.cal: no such file"),
        ([SMALL, "-o", "no/b.kpu"], "no/b.kpu: No such file"),
        ([SMALL, "-o", "."], ".: Is a directory"),
        ([SMALL, "--save-calibration", "no/a.cal", "-o", "b.kpu"], "no/a.cal: No such file"),
        ([SMALL, "--remarks", "no/a.txt", "-o", "b.kpu"], "no/a.txt: No such file"),
    ],
)
def test_a_path_that_cannot_be_is_found_before_the_model_is_read(capsys, monkeypatch, words, path):
    monkeypatch.setattr("kpuc.compiler.KPUCompiler", None)
    has_samples = words[1] in ("--calibration", "--load-calibration")
    samples = [] if has_samples else ["--calibration", "samples.npy"]
    found, said = mistake(capsys, *words, *samples, "--precision", "int8")
    assert path in said
    assert found == 3


def test_the_summary_says_which_ops_stay_and_of_what_a_difference_is_a_share(capsys):
    words = [SMALL, "--precision", "int8", "--calibration", "samples.npy", "-o", "b.kpu"]
    assert kpuc(*words, "--keep-fp16", "classifier", "--json") == 0
    said = capsys.readouterr()
    assert ", 1 op in fp16: classifier\n" in said.err
    assert " of the largest value\n" in said.err
    found = json.loads(said.out)["quantization"]
    assert found["kept"] == {"classifier": "fp16"}
    assert 0 < found["integer_mac_share"] < 1


def test_too_few_samples_name_their_file(capsys):
    np.save("few.npy", np.zeros((40, 3, 16, 16), np.float32))
    found, said = mistake(capsys, *INT8, "--calibration", "few.npy", "-o", "b.kpu")
    assert "requires at least 100 samples; few.npy has 40" in said
    assert found == 2


def test_a_pattern_is_of_kernels(capsys):
    words = ["--calibration", "samples.npy", "--keep-fp16", "nothing*"]
    found, said = mistake(capsys, *INT8, *words, "-o", "b.kpu")
    assert "--keep-fp16 nothing*: matches none of " in said
    assert "these are Conv, Gemm and MatMul, other ops follow them" in said
    assert found == 2


def test_the_small_network_is_the_same_each_time():
    one, other = (small().state_dict() for _ in range(2))
    assert all((one[name] == other[name]).all() for name in one)
