"""The compiler from a module or a file to a program, and the host's interface to it."""

import hashlib
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import kpuc
from formats.config import ComputeConfig, KPUConfig, MemoryConfig
from formats.container import to_bytes
from formats.errors import (
    CompilationError,
    FileError,
    TrustError,
    UnsupportedOpError,
    UsageError,
)
from formats.precision import KPUPrecision
from formats.program import KPUProgram
from kpuc.compiler import KPUCompiler, compile_graph, pass_names
from kpuc.quant.quantize import QuantOptions
from kpurun.engine import reference
from tests.integration.models import SmallNet, norms, small
from tests.kpuc.passes.draft import Draft

SHAPE = (1, 3, 16, 16)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """The small network as torch.export saves it."""
    path = tmp_path_factory.mktemp("models") / "small.pt2"
    torch.export.save(torch.export.export(small(), (torch.zeros(SHAPE),)), path)
    return path


@pytest.fixture(scope="module")
def program(exported) -> KPUProgram:
    return KPUCompiler().compile(exported, KPUConfig(), KPUPrecision.FP16)


def outputs_of(program: KPUProgram, image: np.ndarray) -> np.ndarray:
    (output,) = reference.run(program, {program.input_ids[0]: image}).values()
    return output


def image() -> np.ndarray:
    return np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)


def assert_computes_the_small_network(program: KPUProgram, tolerance: float = 2e-3) -> None:
    with torch.no_grad():
        expected = small()(torch.from_numpy(image())).numpy()
    got = outputs_of(program, image())
    np.testing.assert_allclose(got, expected, atol=tolerance * np.abs(expected).max())


def test_a_module_compiles_and_computes_what_eager_does():
    assert_computes_the_small_network(kpuc.compile(small(), (torch.zeros(SHAPE),)))


def test_bf16_computes_it_to_eight_bits():
    compiled = kpuc.compile(small(), [torch.zeros(SHAPE)], config="swkpu-v2", precision="bf16")
    assert compiled.precision is KPUPrecision.BF16
    assert_computes_the_small_network(compiled, tolerance=2e-2)


def test_a_module_compiles_to_codes_with_samples():
    samples = np.random.default_rng(0).standard_normal((100, *SHAPE[1:])).astype(np.float32)

    compiled = kpuc.compile(small(), [SHAPE], precision="int8", calibration=iter(samples))

    assert compiled.precision is KPUPrecision.INT8
    assert (compiled.quantization.samples, compiled.quantization.held_out) == (90, 10)
    assert min(compiled.quantization.sqnr_db.values()) > 25


def test_codes_need_samples():
    with pytest.raises(UsageError, match="INT8 calibration requires at least 100 samples"):
        kpuc.compile(small(), [SHAPE], precision="int8")


def test_a_module_compiles_to_the_same_codes_with_a_saved_calibration(tmp_path):
    samples = np.random.default_rng(0).standard_normal((100, *SHAPE[1:])).astype(np.float32)
    saved = tmp_path / "small.cal"
    words = {"precision": "int8", "save_calibration": saved}
    compiled = kpuc.compile(small(), [SHAPE], calibration=samples, **words)

    again = kpuc.compile(small(), [SHAPE], precision="int8", load_calibration=saved)

    assert to_bytes(again) == to_bytes(compiled)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"load_calibration": "a", "precision": "fp16"}, "load_calibration: fp16 needs no calib"),
        ({"save_calibration": "a", "precision": "fp16"}, "save_calibration: fp16 needs no calib"),
        ({"load_calibration": "a", "calibration": [1]}, "samples or load_calibration, not both"),
        ({"precision": "fp16", "calibration": [1]}, "calibration: fp16 takes nothing from samples"),
        ({"precision": "fp16", "quantization": QuantOptions()}, "quantization: fp16 has no codes"),
        ({"calibration": [1], "quantization": {}}, "quantization is a QuantOptions, not dict"),
        ({"calibration": [1], "preprocess": "foo"}, "preprocess 'foo' is not one of imagenet"),
        ({"precision": "fp16", "preprocess": "foo"}, "preprocess 'foo' is not one of imagenet"),
    ],
)
def test_calibration_that_cannot_be_meant_is_refused(words, message):
    with pytest.raises(UsageError, match=message):
        kpuc.compile(small(), [SHAPE], **{"precision": "int8", **words})


def test_inputs_may_be_given_by_name_or_as_shapes():
    by_name = kpuc.compile(small(), {"image": torch.zeros(SHAPE)})
    by_shape = kpuc.compile(small(), [SHAPE])
    assert [t.shape for t in by_name.get_input_tensors()] == [SHAPE]
    assert by_shape == by_name


def test_a_tensor_alone_is_the_only_input_not_its_rows():
    alone = kpuc.compile(small(), torch.zeros(SHAPE))
    assert [tensor.shape for tensor in alone.get_input_tensors()] == [SHAPE]


def test_a_file_compiles_and_computes_what_eager_does(program):
    assert_computes_the_small_network(program)


def test_the_source_is_hashed(exported, program):
    assert program.source_hash == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert program.source_model == "small.pt2"


def test_a_modules_hash_follows_its_weights():
    def hash_of(module: nn.Module) -> str:
        return kpuc.compile(module, [SHAPE]).source_hash

    changed = small()
    with torch.no_grad():
        changed.classifier.bias[0] += 1
    assert hash_of(small()) == hash_of(small()) != hash_of(changed)


def test_compiling_does_not_change_the_module():
    module = small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    kpuc.compile(module, [SHAPE])
    assert all(torch.equal(before[name], now) for name, now in module.state_dict().items())


class HostPrecision(str, Enum):
    FP16 = "fp16"
    INT8 = "int8"


@dataclass
class HostMemory:
    """The host's own class: some of our fields, not a relative of ours."""

    sram_l1_bytes: int = 256 * 1024
    sram_l2_bytes: int = 1024 * 1024


@dataclass
class HostConfig:
    name: str = "swkpu-host"
    version: str = "1.0.0"
    memory: HostMemory = field(default_factory=HostMemory)
    compute: object = field(default_factory=lambda: SimpleNamespace(clock_mhz=400.0))
    supported_precisions: list[HostPrecision] = field(
        default_factory=lambda: [HostPrecision.INT8, HostPrecision.FP16]
    )
    max_batch_size: int = 4


def test_the_hosts_own_classes_are_converted(exported):
    compiled = KPUCompiler().compile(str(exported), HostConfig(), HostPrecision.FP16)
    config = compiled.target_config
    assert type(config) is KPUConfig
    assert type(config.memory) is MemoryConfig
    assert type(config.compute) is ComputeConfig
    assert (config.name, config.memory.sram_l2_bytes) == ("swkpu-host", 1024 * 1024)
    assert (config.compute.clock_mhz, config.max_batch_size) == (400.0, 4)
    assert type(compiled.precision) is KPUPrecision


def test_calibration_data_gives_the_shape_where_nothing_else_does(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    torch.save(module, tmp_path / "plain.pt")
    samples = (np.zeros((1, 12, 10, 3), np.float32).transpose(0, 3, 1, 2) for _ in range(100))
    compiled = KPUCompiler().compile(tmp_path / "plain.pt", KPUConfig(), "fp16", samples)
    assert compiled.get_input_tensors()[0].shape == (1, 3, 12, 10)


def test_without_any_shape_the_error_says_what_to_pass(tmp_path):
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), tmp_path / "plain.pt")
    with pytest.raises(UsageError, match="--input-shape 1,3,224,224"):
        KPUCompiler().compile(tmp_path / "plain.pt")


@pytest.mark.parametrize("keyword", ["model_path", "onnx_path"])
def test_onnx_is_refused_as_not_available(tmp_path, keyword):
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    with pytest.raises(CompilationError, match=r"ONNX models are not available in this version"):
        KPUCompiler().compile(**{keyword: tmp_path / "net.onnx"})


def test_the_path_is_given_once(exported):
    with pytest.raises(UsageError, match="once"):
        KPUCompiler().compile(exported, onnx_path=exported)


def test_codes_without_calibration_are_refused_before_the_model_is_read():
    with pytest.raises(UsageError, match="INT8 calibration requires at least 100 samples"):
        KPUCompiler().compile("no/such/model.pt2", KPUConfig(), HostPrecision.INT8)


def test_a_file_compiles_to_the_same_codes_with_a_saved_calibration(exported, tmp_path):
    samples = np.random.default_rng(0).standard_normal((100, *SHAPE)).astype(np.float32)
    saved = tmp_path / "small.cal"
    compiled = KPUCompiler().compile(exported, KPUConfig(), "int8", samples, save_calibration=saved)

    again = KPUCompiler().compile(exported, KPUConfig(), "int8", load_calibration=saved)

    assert to_bytes(again) == to_bytes(compiled)


def test_an_unknown_precision_lists_the_known_ones(exported):
    with pytest.raises(UsageError, match="'fp8' is not one of int8, int4, fp16"):
        KPUCompiler().compile(exported, KPUConfig(), "fp8")


def test_a_model_that_compiles_has_no_issues(exported):
    assert KPUCompiler().validate_model(exported, KPUConfig()) == []


def test_every_unsupported_op_is_an_issue_with_its_source_line():
    issues = KPUCompiler().validate_model("tests.integration.models:norms", KPUConfig())
    assert any("GroupNorm" in issue and "models.py:" in issue for issue in issues)
    assert any("InstanceNorm" in issue for issue in issues)


def test_what_does_not_fit_the_machine_is_an_issue(exported):
    tiny = replace(KPUConfig(), memory=replace(MemoryConfig(), dram_bytes=4096))
    (issue,) = KPUCompiler().validate_model(exported, tiny)
    assert issue.startswith("DRAM memory exceeded")


def test_a_missing_file_is_an_error_and_no_issue_of_the_model():
    with pytest.raises(FileError, match="no such file"):
        KPUCompiler().validate_model("no/such/model.pt2", KPUConfig())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # TorchScript is deprecated
def test_a_file_that_runs_code_needs_trust(tmp_path):
    torch.jit.save(torch.jit.trace(small(), torch.zeros(SHAPE)), tmp_path / "script.pt")
    with pytest.raises(TrustError):
        KPUCompiler().compile(tmp_path / "script.pt")


def test_unsupported_ops_are_raised_together():
    with pytest.raises(UnsupportedOpError) as caught:
        kpuc.compile(norms(), [(1, 8, 4, 4)])
    assert len(caught.value.ops) == 2


def test_the_memory_estimate_is_what_compiling_gives(exported, program):
    assert KPUCompiler().estimate_memory(exported, KPUConfig(), KPUPrecision.FP16) == {
        "weights": program.weight_bytes,
        "activations": program.activation_bytes,
        "peak_sram": program.peak_sram_bytes,
        "peak_dram": program.peak_dram_bytes,
    }


def test_supported_ops_cover_the_machines_native_ops():
    supported = KPUCompiler().get_supported_ops()
    assert set(KPUConfig().native_ops) <= set(supported)
    assert supported == sorted(supported)


def test_every_pass_is_reported_in_order():
    draft = Draft()
    graph = draft.graph(draft.op("y", "Relu", draft.conv("c", draft.input("x", 1, 3, 8, 8), 4)))
    seen: list[str] = []
    compile_graph(
        graph,
        KPUConfig(),
        KPUPrecision.FP16,
        observe=lambda stage, made, _: seen.append(stage) if made is not None else None,
    )
    assert ["lower", *seen] == pass_names(KPUConfig())


def test_an_output_that_is_an_input_is_copied():
    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x.flatten()

    compiled = kpuc.compile(Both(), [(2, 3)])
    given = np.arange(6, dtype=np.float32).reshape(2, 3)
    same, flat = reference.run(compiled, {compiled.input_ids[0]: given}).values()
    np.testing.assert_array_equal(same, given)
    np.testing.assert_array_equal(flat, given.reshape(-1))


def test_the_example_image_of_a_module_is_its_shape():
    assert SmallNet.example_input_array.shape == SHAPE
    compiled = KPUCompiler().compile("tests.integration.models:small")
    assert compiled.get_input_tensors()[0].shape == SHAPE
