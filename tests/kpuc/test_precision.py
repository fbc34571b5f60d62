"""What each value is stored as."""

import numpy as np
import pytest

from formats.config import KPUConfig
from formats.errors import CompilationError, ConfigurationError
from formats.precision import DType, KPUPrecision
from formats.program import EpilogueStage
from formats.schema import load_config
from kpuc.graph import Graph, Node
from kpuc.precision import float_storage, require_precision
from kpurun.ops.types import TensorType

FP16 = KPUPrecision.FP16


def conv_graph(weight: np.ndarray) -> Graph:
    conv = Node(
        id="conv",
        op_type="Conv",
        inputs=("x", "w", "b", "scale"),
        outputs=("y",),
        epilogue=(EpilogueStage("Mul", operand=3),),
        operand_count=3,
    )
    relu = Node(id="relu", op_type="Relu", inputs=("y",), outputs=("z",))
    return Graph(
        name="conv",
        inputs=("x",),
        outputs=("z",),
        nodes=(conv, relu),
        types={
            "x": TensorType((1, 2, 4, 4)),
            "w": TensorType((3, 2, 1, 1)),
            "b": TensorType((3,)),
            "scale": TensorType((3, 1, 1)),
            "y": TensorType((1, 3, 4, 4)),
            "z": TensorType((1, 3, 4, 4)),
        },
        constants={
            "w": weight,
            "b": np.full(3, 1e6, np.float32),
            "scale": np.ones((3, 1, 1), np.float32),
        },
    )


def ones() -> np.ndarray:
    return np.ones((3, 2, 1, 1), np.float32)


def test_activations_and_weights_take_the_precision():
    dtypes = float_storage(conv_graph(ones()), FP16).dtypes
    assert (dtypes["x"], dtypes["w"], dtypes["y"]) == (DType.FP16, DType.FP16, DType.FP16)


def test_what_meets_the_accumulator_stays_fp32():
    dtypes = float_storage(conv_graph(ones()), FP16).dtypes
    assert (dtypes["b"], dtypes["scale"]) == (DType.FP32, DType.FP32)


def test_outputs_leave_the_accumulator_unrounded():
    assert float_storage(conv_graph(ones()), FP16).dtypes["z"] is DType.FP32


def test_a_weight_that_fp16_cannot_hold_is_refused_by_name():
    with pytest.raises(CompilationError, match=r"constant w holds 1e\+05.*bf16"):
        float_storage(conv_graph(ones() * 1e5), FP16)


def test_the_largest_value_that_rounds_to_a_half_is_accepted():
    below, at = np.nextafter(np.float32(65520), np.float32(0)), np.float32(65520)
    assert float_storage(conv_graph(ones() * below), FP16).dtypes["w"] is DType.FP16
    with pytest.raises(CompilationError):
        float_storage(conv_graph(ones() * at), FP16)


def test_what_even_bf16_cannot_hold_is_refused_too():
    with pytest.raises(CompilationError, match=r"holds 3\.4e\+38, which bf16 cannot$"):
        float_storage(conv_graph(ones() * np.float32(3.4e38)), KPUPrecision.BF16)


def test_infinite_weights_are_what_they_are():
    assert float_storage(conv_graph(ones() * np.float32(np.inf)), FP16).dtypes["w"] is DType.FP16


def test_bf16_holds_what_fp16_cannot():
    assert float_storage(conv_graph(ones() * 1e5), KPUPrecision.BF16).dtypes["w"] is DType.BF16


def test_the_documents_machine_computes_in_int8():
    assert require_precision(KPUConfig(), KPUPrecision.INT8) is None


@pytest.mark.parametrize("name", ["bf16", "int4", "posit8", "posit16"])
def test_a_precision_the_machine_lacks_names_a_preset_that_has_it(name):
    with pytest.raises(ConfigurationError, match="--config swkpu-v2"):
        require_precision(KPUConfig(), KPUPrecision(name))


def test_the_preset_that_is_named_computes_in_that_precision():
    assert require_precision(load_config("swkpu-v2"), KPUPrecision.BF16) is None
