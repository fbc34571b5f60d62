"""MODEL in each of its forms becomes a module ready for capture, or one clear error."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from formats.errors import CompilationError, FileError, InputError, TrustError, UsageError
from kpuc.capture import capture
from kpuc.example import example_inputs
from kpuc.graph import Graph
from kpuc.load import load_model
from kpuc.lower import lower
from tests.kpuc.test_lower import interpret

SHAPE = (1, 3, 6, 6)
ARCH = "tests.kpuc.test_load:small"


class Small(nn.Module):
    """A convolution, normalised and pooled, with a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    @property
    def example_input_array(self) -> torch.Tensor:
        return torch.zeros(SHAPE)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.norm(self.conv(image)).relu_()
        return {"features": features, "mean": features.mean((2, 3))}


class WithoutGradient(nn.Module):
    """Part of it under no_grad, which torch.export keeps as a block of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            doubled = x * 2
        return doubled + 1


class Scaled(nn.Module):
    """Two inputs, one by keyword."""

    def forward(self, x: torch.Tensor, *, scale: torch.Tensor) -> torch.Tensor:
        return x * scale


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def needs_arguments(width: int) -> nn.Module:
    return nn.Linear(width, width)


def fails() -> nn.Module:
    raise RuntimeError("no weights here")


def not_a_module() -> int:
    return 3


def outputs_of(graph: Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    values = interpret(graph, {graph.inputs[0]: x})
    return {graph.names[output]: v for output, v in zip(graph.outputs, values, strict=True)}


def assert_is_small(graph: Graph) -> None:
    x = torch.linspace(-1, 1, 108).reshape(SHAPE)
    with torch.no_grad():
        expected = small()(x)
    got = outputs_of(graph, x.numpy())
    assert list(got) == ["features", "mean"]
    for name, tensor in expected.items():
        np.testing.assert_allclose(got[name], tensor.numpy(), atol=1e-5)


def save_exported(path: Path, **options: object) -> Path:
    torch.export.save(torch.export.export(small(), (torch.zeros(SHAPE),), **options), path)
    return path


def test_an_exported_program(tmp_path):
    loaded = load_model(save_exported(tmp_path / "small.pt2"))

    graph = lower(capture(loaded.module, example_inputs(loaded.module)))

    assert loaded.name == "small"
    assert (graph.name, graph.inputs) == ("Small", ("image",))
    assert graph.nodes[0].name == "conv"
    assert "features = self.norm(self.conv(image)).relu_()" in graph.nodes[0].source
    assert_is_small(graph)


def test_an_exported_program_with_a_symbolic_batch(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(1)).eval()
    sizes = ({0: 2 * torch.export.Dim("half", max=8)},)
    exported = torch.export.export(module, (torch.zeros(4, 3, 6, 6),), dynamic_shapes=sizes)
    torch.export.save(exported, tmp_path / "small.pt2")
    loaded = load_model(tmp_path / "small.pt2")

    assert example_inputs(loaded.module)[0].shape == SHAPE
    graph = lower(capture(loaded.module, ((4, 3, 6, 6),)))
    assert graph.types[graph.outputs[0]].shape == (4, 64)


def test_an_exported_program_with_a_block_without_gradient(tmp_path):
    exported = torch.export.export(WithoutGradient(), (torch.zeros(3),))
    torch.export.save(exported, tmp_path / "model.pt2")
    loaded = load_model(tmp_path / "model.pt2")

    graph = lower(capture(loaded.module, example_inputs(loaded.module)))

    assert [node.op_type for node in graph.nodes] == ["Mul", "Add"]


def test_an_exported_program_with_keywords(tmp_path):
    exported = torch.export.export(
        Scaled(), (torch.zeros(3),), {"scale": torch.zeros(3, dtype=torch.float64)}
    )
    torch.export.save(exported, tmp_path / "scaled.pt2")
    loaded = load_model(tmp_path / "scaled.pt2")

    graph = lower(capture(loaded.module, example_inputs(loaded.module)))

    assert graph.inputs == ("x", "scale")
    assert [graph.host_dtypes[value] for value in graph.inputs] == ["float32", "float64"]


def test_an_exported_program_that_returns_a_number_is_refused(tmp_path):
    class Counting(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, object]:
            return {"doubled": x * 2, "count": 2}

    torch.export.save(torch.export.export(Counting(), (torch.zeros(3),)), tmp_path / "model.pt2")
    loaded = load_model(tmp_path / "model.pt2")

    with pytest.raises(CompilationError, match="output 'count' is of type int"):
        capture(loaded.module, ((3,),))


def test_an_exported_program_refuses_another_shape(tmp_path):
    loaded = load_model(save_exported(tmp_path / "small.pt2"))

    with pytest.raises(InputError, match=r"expected \(1,3,6,6\), got \(1,3,8,8\)"):
        capture(loaded.module, ((1, 3, 8, 8),))


@pytest.mark.parametrize(
    "content",
    [lambda m: m, lambda m: {"model": m, "epoch": 3}, lambda m: {"ema": m, "model": None}],
)
def test_a_pickled_module_or_checkpoint(tmp_path, content):
    torch.save(content(small()), tmp_path / "small.pt")

    loaded = load_model(tmp_path / "small.pt")

    assert_is_small(lower(capture(loaded.module, example_inputs(loaded.module))))


def test_a_half_precision_checkpoint_is_computed_in_fp32(tmp_path):
    torch.save({"model": small().half()}, tmp_path / "small.pt")

    module = load_model(tmp_path / "small.pt").module

    assert module.conv.weight.dtype == torch.float32


@pytest.mark.parametrize(
    "content",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 2},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    ],
)
def test_a_state_dict_with_its_architecture(tmp_path, content):
    torch.save(content(small().state_dict()), tmp_path / "small.pth")

    loaded = load_model(tmp_path / "small.pth", arch=ARCH)

    assert_is_small(lower(capture(loaded.module, example_inputs(loaded.module))))


def test_safetensors_with_their_architecture(tmp_path):
    save_file(small().state_dict(), tmp_path / "small.safetensors")

    loaded = load_model(tmp_path / "small.safetensors", arch=ARCH)

    assert_is_small(lower(capture(loaded.module, example_inputs(loaded.module))))


def test_a_factory():
    loaded = load_model(ARCH)

    assert (loaded.name, loaded.path) == ("small", None)
    assert_is_small(lower(capture(loaded.module, example_inputs(loaded.module))))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # TorchScript is deprecated
@pytest.mark.parametrize("make", [torch.jit.script, partial(torch.jit.trace, strict=False)])
def test_torchscript_needs_trust_and_then_compiles(tmp_path, make):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    options = {"example_inputs": torch.zeros(SHAPE)} if isinstance(make, partial) else {}
    make(module, **options).save(tmp_path / "small.pt")
    x = torch.linspace(-1, 1, 108).reshape(SHAPE)

    with pytest.raises(TrustError, match="--trust-pickle"):
        load_model(tmp_path / "small.pt")
    loaded = load_model(tmp_path / "small.pt", trust_pickle=True)
    got = outputs_of(lower(capture(loaded.module, (SHAPE,))), x.numpy())

    np.testing.assert_allclose(got["output"], module(x).detach().numpy(), atol=1e-5)


def write(path: Path, content: object) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


@pytest.mark.parametrize("suffix", ["pt", "pth", "pt2", "safetensors"])
@pytest.mark.parametrize(
    "content", [b"not a model", b"PK\x03\x04 torn", b"\x80\x02torn", b"\0" * 99]
)
def test_garbage_is_a_file_error(tmp_path, suffix, content):
    path = tmp_path / f"garbage.{suffix}"
    path.write_bytes(content)

    with pytest.raises((FileError, TrustError)) as error:
        load_model(path)

    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_truncated_exported_program_is_a_file_error(tmp_path):
    whole = save_exported(tmp_path / "whole.pt2").read_bytes()
    (tmp_path / "torn.pt2").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(FileError, match=r"torn\.pt2"):
        load_model(tmp_path / "torn.pt2")
    with pytest.raises(FileError, match=r"torn\.pt2"):
        load_model(tmp_path / "torn.pt2", trust_pickle=True)


def test_a_checkpoint_with_a_damaged_directory_is_a_file_error(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "torn.pt")
    data = (tmp_path / "torn.pt").read_bytes()
    (tmp_path / "torn.pt").write_bytes(data.replace(b"PK\1\2", b"PK\1\3"))

    with pytest.raises(FileError, match=r"torn\.pt"):
        load_model(tmp_path / "torn.pt")


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("missing.pt", None, FileError, "no such file"),
        ("empty.pt", b"", FileError, "is empty"),
        ("model.tflite", b"x", UsageError, "a model is one of .pt2"),
        ("weights.pt", {"w": torch.ones(1)}, UsageError, "--arch package.module:factory"),
        ("list.pt", [1, 2], FileError, "neither a module nor a state_dict"),
    ],
)
def test_files_that_are_no_models(tmp_path, name, content, error, words):
    if content is not None:
        write(tmp_path / name, content)

    with pytest.raises(error, match=words):
        load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"conv.weight": torch.ones(4, 3, 3, 3)}, "it has no 'conv.bias' and 5 more"),
        ({**Small().state_dict(), "head.w": torch.ones(1)}, "unknown 'head.w'"),
        ({**Small().state_dict(), "conv.bias": torch.ones(7)}, "another shape for 'conv.bias'"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, state, words):
    torch.save(state, tmp_path / "small.pt")

    with pytest.raises(FileError, match=words):
        load_model(tmp_path / "small.pt", arch=ARCH)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("no_such_package.models:net", "cannot import no_such_package.models"),
        ("tests.kpuc.test_load:absent", "has no 'absent'"),
        ("tests.kpuc.test_load:needs_arguments", "needs arguments (width)"),
        ("tests.kpuc.test_load:fails", "failed: RuntimeError: no weights here"),
        ("tests.kpuc.test_load:not_a_module", "made a int, not an nn.Module"),
        ("tests.kpuc.test_load:SHAPE", "neither a module nor a function"),
    ],
)
def test_a_factory_that_does_not_work(factory, words):
    with pytest.raises(UsageError) as error:
        load_model(factory)

    assert words in str(error.value)


def with_attributes(**attributes: object) -> nn.Module:
    module = nn.Identity()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (with_attributes(example_input_array=torch.zeros(1, 5)), (1, 5)),
        (with_attributes(default_cfg={"input_size": (3, 240, 240)}), (1, 3, 240, 240)),
        (with_attributes(args={"imgsz": 320}, yaml={"ch": 1}), (1, 1, 320, 320)),
        (with_attributes(imgsz=[320, 640]), (1, 3, 320, 640)),
    ],
)
def test_the_models_own_input_shape(module, shape):
    (example,) = example_inputs(module)

    assert tuple(getattr(example, "shape", example)) == shape


def test_the_users_shape_comes_before_a_sample_and_a_sample_before_the_models():
    module = with_attributes(example_input_array=torch.zeros(1, 5))
    sample = np.zeros((1, 7), np.float32)

    assert example_inputs(module, ["2,9"], sample) == ((2, 9),)
    assert example_inputs(module, (), sample)[0].shape == (1, 7)
    assert example_inputs(module, ["x:2,9", "y:1x3"]) == {"x": (2, 9), "y": (1, 3)}


@pytest.mark.parametrize("text", ["1,3,", "a", "1,0,2", "x:", "1;2", "-1,3"])
def test_a_malformed_shape_is_a_usage_error(text):
    with pytest.raises(UsageError, match="--input-shape"):
        example_inputs(nn.Identity(), [text])


def test_an_unknown_shape_says_what_to_pass():
    with pytest.raises(UsageError, match="pass --input-shape 1,3,224,224"):
        example_inputs(nn.Identity())
