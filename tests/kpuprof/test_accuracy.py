"""`kpuprof accuracy`: figures worked by hand, refusals, gates, and where precision is lost."""

import io
import json
import math
import sys
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import formats
from formats import tensors
from formats.console import run
from formats.errors import CheckError, UsageError
from kpuc.compiler import KPUCompiler
from kpuc.quant.difference import MOST_DB
from kpuprof.accuracy import MIN_SQNR, bars, broken, document
from kpuprof.accuracy_run import Comparison, measure
from kpuprof.accuracy_sums import ExactSums, FloatSums, OpSums, Output
from kpuprof.cli import app
from tests.integration.models import scales as scales_module

SCALES = "tests.integration.models:scales"
SMALL = "tests.integration.models:small"
CHAIN = "tests.integration.models:chain"
UNEVEN = "tests.integration.models:uneven"
SAMPLES = np.array([[2, 4], [8, 1], [1, 1]], np.float32)
STEP = 2.0**-12  # what FP16 loses of the second weight


def compiled(model, **options):
    return KPUCompiler().compile(model, **options)


def measured(program, reference, data, **options):
    return measure(program, Comparison(reference, str(data), **options), lambda items, _: items)


@pytest.fixture(scope="module")
def scales():
    return compiled(SCALES)


@pytest.fixture(scope="module")
def small():
    return compiled(SMALL)


@pytest.fixture
def data(tmp_path):
    np.save(tmp_path / "set.npy", SAMPLES)
    return tmp_path / "set.npy"


@pytest.fixture
def command(tmp_path, scales, data):
    """The exit code of the command on the model of two scales."""
    formats.save(scales, tmp_path / "scales.kpu")

    def call(*words, reference=SCALES, path=data):
        program = str(tmp_path / "scales.kpu")
        given = ["accuracy", program, "--reference", reference, "--data", str(path), *words]
        return run(app, "kpuprof", given)

    return call


def test_figures_are_those_of_a_hand_computation(scales, data):
    (output,) = measured(scales, SCALES, data).outputs
    # Reference (2, 4 + 4u), (8, 1 + u), (1, 1 + u) with u = 2^-12; the program has no u.
    signal = 4 + 16 * (1 + STEP) ** 2 + 64 + (1 + STEP) ** 2 + 1 + (1 + STEP) ** 2
    noise = (16 + 1 + 1) * STEP**2
    assert output.max_abs == 4 * STEP
    assert output.max_difference == pytest.approx(STEP / (1 + STEP), rel=1e-12)
    assert output.max_difference_sample == "set.npy: sample 0"
    assert output.sqnr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-9)
    lone = 10 * math.log10((1 + (1 + STEP) ** 2) / STEP**2)  # 2 over u²; sample 0: 20 over 16 u²
    first = 10 * math.log10((4 + 16 * (1 + STEP) ** 2) / (16 * STEP**2))
    assert output.worst_sqnr_db == pytest.approx(min(lone, first), abs=1e-9)
    assert output.worst_sqnr_sample == "set.npy: sample 0"
    assert output.top1_agreement == pytest.approx(2 / 3)  # of (1, 1) the first is the largest
    # Of two logits d apart the softmax is 1 / (1 + e^-d). Sample 0: d is 2 + 4u, and 2.
    moved = 1 / (1 + math.exp(-2 - 4 * STEP)) - 1 / (1 + math.exp(-2))
    assert output.max_softmax_difference == pytest.approx(moved, rel=1e-6)


def test_samples_that_fill_up_a_batch_do_not_count(data):
    alone = measured(compiled(SCALES), SCALES, data)
    pairs = measured(compiled(SCALES, input_shapes=["2,2"]), SCALES, data)
    assert pairs.outputs == alone.outputs
    assert pairs.samples == 3


def test_limit_takes_the_first_samples(scales, data):
    found = measured(scales, SCALES, data, limit=1)
    assert found.samples == 1
    assert found.outputs[0].top1_agreement == 1.0


@pytest.mark.parametrize("reference", [SMALL, CHAIN])
def test_a_program_of_another_model_is_refused(scales, data, reference):
    with pytest.raises(UsageError, match=r"is not the model of scales: the program takes features"):
        measured(scales, reference, data)


def test_a_model_that_cannot_run_on_the_programs_shapes_is_refused(data, tmp_path):
    exported = torch.export.export(scales_module(), (torch.zeros(3, 2),))
    torch.export.save(exported, tmp_path / "three.pt2")
    with pytest.raises(UsageError, match=r"is not the model of scales: .*features \(1,2\)"):
        measured(compiled(SCALES), str(tmp_path / "three.pt2"), data)


def test_a_model_of_other_outputs_is_refused(small, tmp_path):
    np.save(tmp_path / "set.npy", np.zeros((1, 3, 16, 16), np.float32))
    with pytest.raises(
        UsageError, match=r"gives output \(1,10\), the reference output \(1,4,16,16\)"
    ):
        measured(small, CHAIN, tmp_path / "set.npy")


def test_a_shape_that_the_program_does_not_have_is_refused(scales, data):
    with pytest.raises(UsageError, match=r"the reference features \(3,2\)"):
        measured(scales, SCALES, data, input_shapes=("3,2",))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--max-diff", "0.001"], 0),
        (["--max-diff", "0.0001"], 1),
        (["--max-diff", "0.01%"], 1),
        (["--min-sqnr", "70"], 0),
        (["--min-sqnr", "90", "--max-diff", "1"], 1),
        (["--max-diff", "often"], 2),
        (["--limit", "0"], 2),
        (["--json", "-o", "-"], 2),
        (["--preprocess", "imagenet"], 2),
        (["--preprocess", "none of them"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_gate_ends_with_its_exit_code(command, words, code):
    assert command(*words) == code


def test_a_broken_gate_names_output_sample_figure_and_limit(scales, data):
    found = measured(scales, SCALES, data)
    (difference, sqnr) = broken(found, bars("0.0001", "80"))
    assert difference == (
        f"max_difference of 'output' is {found.outputs[0].max_difference} in set.npy: sample 0, "
        "at most 0.0001 was asked for"
    )
    assert sqnr == (
        "sqnr_db of 'output' is 79.1 dB over 3 samples (worst: 73.2 dB in set.npy: sample 0), "
        "at least 80.0 dB was asked for"
    )


def test_a_figure_that_equals_its_bar_is_held(scales, data):
    found = measured(scales, SCALES, data)
    assert not broken(found, bars(str(found.outputs[0].max_difference), None))


def test_json_has_every_figure_and_limit(command, tmp_path, capsys):
    assert command("-o", str(tmp_path / "out.json"), "--min-sqnr", "90") == 1
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["outputs"][0]["max_abs"] == 4 * STEP
    assert written["limits"] == [
        {"figure": "sqnr_db", "limit": 90, "at_least": True, "is_held": False}
    ]
    assert "exceeded" in capsys.readouterr().out
    for words in (["--json"], ["-o", "-"]):
        assert command(*words) == 0
        assert json.loads(capsys.readouterr().out)["outputs"] == written["outputs"]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ("40", "output / max SQNR dB"),
        ("60", "output max |d| / max SQNR dB worst dB"),
        ("80", "output max |d| / max SQNR dB worst dB top-1 softmax |d|"),
    ],
)
def test_a_narrow_terminal_is_shown_fewer_figures_and_none_cut(
    command, capsys, monkeypatch, columns, shown
):
    monkeypatch.setenv("COLUMNS", columns)
    assert command("--max-diff", "1e-9") == 1
    printed = capsys.readouterr().out
    (headings,) = (line for line in printed.splitlines() if "SQNR dB" in line)
    assert " ".join(headings.split()) == shown
    assert "exceeded" in printed
    assert "…" not in printed


def test_the_program_is_not_written_over(command, data):
    assert command("-o", str(data)) == 2
    assert np.array_equal(np.load(data), SAMPLES)


def test_a_folder_without_images_is_refused(command, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert command(path=tmp_path / "none") == 2
    assert "images" in capsys.readouterr().err


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_a_folder_of_images_goes_through_the_programs_own_recipe(small, photos):
    plain = measured(small, SMALL, photos)
    recipe = measured(replace(small, preprocess="imagenet"), SMALL, photos)
    same = measured(small, SMALL, photos, preprocess="imagenet")
    assert recipe.outputs == same.outputs != plain.outputs


def test_a_broken_image_is_named(small, photos):
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:60])
    with pytest.raises(formats.errors.FileError, match=r"1\.png: not a readable image"):
        measured(small, SMALL, photos)


def test_an_output_that_is_not_finite_fails():
    sums = FloatSums(Output("y", "y", (1, 2), 1))
    with pytest.raises(CheckError, match=r"photo: output 'y' is not finite"):
        sums.add(["photo"], np.array([[1.0, 2.0]]), np.array([[1.0, np.inf]]))


def test_infinities_that_both_have_are_no_difference():
    sums = FloatSums(Output("y", "y", (1, 3), 1))
    both = np.array([[np.inf, np.nan, 2.0]])
    sums.add(["a"], both, both)
    assert sums.figures().max_abs == 0.0


def test_an_op_that_overflows_is_as_far_off_as_can_be_and_those_behind_it_add_nothing(chain):
    ids = [op.id for op in chain.get_ops_in_order()]
    sums = OpSums(chain)
    one = np.array([1.0], np.float32)
    sums.add([(ids[0], one, one), (ids[1], one, one * np.inf), (ids[2], one, one * np.nan)])
    first, second, third = sums.figures("").ops
    assert (first.sqnr_db, first.own_sqnr_db) == (MOST_DB, None)
    assert (second.sqnr_db, second.own_sqnr_db) == (-MOST_DB, -MOST_DB)
    assert (third.sqnr_db, third.own_sqnr_db) == (-MOST_DB, None)


def test_samples_come_through_a_pipe_too(scales, data, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data.read_bytes())))
    piped = measured(scales, SCALES, "-")
    assert (piped.data, piped.outputs[0].max_difference_sample) == ("stdin", "stdin: sample 0")
    assert piped.outputs[0].sqnr_db == measured(scales, SCALES, data).outputs[0].sqnr_db


def test_integers_are_compared_for_equality():
    sums = ExactSums(Output("ids", "ids", (4,), 0))
    sums.add(["a"], np.array([1, 2, 3, 4]), np.array([1, 2, 3, 4]))
    sums.add(["b"], np.array([1, 2, 3, 4]), np.array([1, 0, 3, 0]))
    found = sums.figures()
    assert (found.equal_share, found.worst_equal_share, found.worst_sample) == (0.75, 0.5, "b")


def test_integers_that_only_fill_a_batch_up_do_not_count():
    sums = ExactSums(Output("ids", "ids", (3, 2), 3))
    sums.add(["a", "b"], np.array([[1, 2], [3, 4], [5, 6]]), np.array([[1, 2], [3, 0], [0, 0]]))
    found = sums.figures()
    assert (found.equal_share, found.worst_equal_share, found.worst_sample) == (0.75, 0.5, "b")


def test_memory_does_not_grow_with_the_number_of_samples(small, tmp_path):
    np.save(tmp_path / "set.npy", np.ones((400, 3, 16, 16), np.float32))  # 1.2 MB

    def peak_bytes(limit):
        tracemalloc.start()
        measured(small, SMALL, tmp_path / "set.npy", limit=limit)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    peak_bytes(2)  # what is made once
    assert peak_bytes(400) < peak_bytes(10) + 200_000


@pytest.fixture(scope="module")
def chain():
    return compiled(CHAIN)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "set.npy", rng.normal(size=(4, 3, 12, 12)).astype(np.float32))
    return tmp_path / "set.npy"


def damaged(program, name):
    """With a weight of the op of that name off by about 5 %."""
    (op,) = (op for op in program.ops if op.name == name)
    weights = dict(formats.weights(program))
    weight = weights[op.input_ids[1]]
    noise = np.random.default_rng(0).normal(1, 0.05, weight.shape)
    weights[op.input_ids[1]] = (weight * noise).astype(weight.dtype)
    dtypes = {tensor.id: tensor.dtype for tensor in program.tensors.values()}
    return replace(program, weights_blob=tensors.pack(weights, dtypes))


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_per_layer_finds_the_op_that_was_made_worst(chain, images, name):
    layers = measured(damaged(chain, name), CHAIN, images, per_layer=True).per_layer
    assert layers.worst.name == name
    # 5 % of noise is 20·log10(1 / 0.05) = 26 dB
    assert layers.worst.own_sqnr_db == pytest.approx(26, abs=3)
    assert layers.stored_weights == ""


def test_the_last_op_has_the_sqnr_of_the_output(chain, images):
    found = measured(damaged(chain, "second"), CHAIN, images, per_layer=True)
    assert [op.name for op in found.per_layer.ops] == ["first", "second", "third"]
    assert found.per_layer.ops[-1].sqnr_db == pytest.approx(found.outputs[0].sqnr_db, abs=0.01)
    marked = document(found, bars(None, "1"))["per_layer"]
    assert marked["worst_op"] == found.per_layer.worst.id


@pytest.mark.parametrize("model", [CHAIN, UNEVEN])
def test_per_layer_of_codes_is_what_the_compiler_measured(tmp_path, model):
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(100, 3, 12, 12)).astype(np.float32)
    np.save(tmp_path / "aside.npy", wide[::10])  # the ten that calibration holds out
    program = compiled(model, precision="int8", calibration_data=wide[:, None])
    assert (program.quantization.gains_db["equalisation"] > 0) == (model == UNEVEN)
    found = measured(program, model, tmp_path / "aside.npy", per_layer=True)
    measured_db = {op.id: op.sqnr_db for op in found.per_layer.ops if op.sqnr_db is not None}
    assert measured_db == pytest.approx(program.quantization.op_sqnr_db)
    assert found.outputs[0].sqnr_db == pytest.approx(program.quantization.sqnr_db["output"], 1e-4)


def test_onnx_without_onnxruntime_says_how_to_install_it(command, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert command(reference="model.onnx") == 2
    assert "pip install 'kpu-toolchain[accuracy]'" in capsys.readouterr().err


def test_options_of_pytorch_are_refused_for_onnx(command):
    assert command("--trust-pickle", reference="model.onnx") == 2


def test_an_onnx_reference_gives_the_figures_of_the_model(scales, data, tmp_path):
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path / "scales.onnx")
    found = measured(scales, str(tmp_path / "scales.onnx"), data, per_layer=True)
    expected = measured(scales, SCALES, data).outputs
    assert [replace(output, reference_name="output") for output in found.outputs] == [*expected]
    assert "not a PyTorch model" in found.per_layer.stored_weights


def test_a_broken_onnx_file_is_refused(command, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert command(reference=str(tmp_path / "broken.onnx")) == 3
    assert "broken.onnx: not a readable ONNX model" in capsys.readouterr().err


def write_onnx(path):
    """The model of two scales, its input and output called otherwise."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    weight = make.make_tensor("w", 1, (2, 2), [1.0, 0.0, 0.0, 1 + STEP])
    graph = make.make_graph(
        [make.make_node("MatMul", ["pair", "w"], ["scaled"])],
        "scales",
        [make.make_tensor_value_info("pair", 1, ["rows", 2])],
        [make.make_tensor_value_info("scaled", 1, ["rows", 2])],
        [weight],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))


def test_bars_without_an_output_of_real_numbers_are_refused(scales, data):
    found = replace(measured(scales, SCALES, data), outputs=())
    with pytest.raises(UsageError, match=MIN_SQNR):
        broken(found, bars(None, "30"))
