"""Values between ops, shared by the engines: what storage keeps of an unrounded result.

Floats are float32 arrays that hold only values of their storage type; integers are themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import formats
from formats.codec import decode, round_to
from formats.errors import ConfigurationError, FileError
from formats.precision import FLOAT_DTYPES, DType, KPUPrecision
from formats.program import KPUOp, KPUProgram
from kpurun.ops.checks import NUMPY_DTYPES

EXECUTABLE_PRECISIONS = (KPUPrecision.FP16, KPUPrecision.BF16)
EXECUTABLE_FLOATS = frozenset({DType.FP16, DType.BF16, DType.FP32})


@dataclass(frozen=True)
class EngineResult:
    """Outputs by tensor id (float32 or exact integers), and the first op, if any, that made an
    infinity or a NaN from finite operands."""

    outputs: Mapping[str, np.ndarray]
    overflowed: KPUOp | None = None


def require_executable(program: KPUProgram) -> None:
    """ConfigurationError for a precision or a storage type that the engines do not execute."""
    if program.precision not in EXECUTABLE_PRECISIONS:
        names = " and ".join(precision.value for precision in EXECUTABLE_PRECISIONS)
        raise ConfigurationError(
            f"{program.name}: this version executes {names}, not {program.precision.value}"
        )
    for tensor in program.tensors.values():
        if tensor.dtype not in EXECUTABLE_FLOATS and tensor.dtype not in NUMPY_DTYPES:
            raise ConfigurationError(
                f"{program.name}: tensor {tensor.id} is stored as {tensor.dtype.value}, "
                "which this version does not execute"
            )


def weight_values(program: KPUProgram) -> dict[str, np.ndarray]:
    """Constants of the program by tensor id, decoded: float32 or integers, in their shape."""
    stored = formats.weights(program)
    constants = [tensor for tensor in program.tensors.values() if tensor.is_weight]
    missing = sorted(tensor.id for tensor in constants if tensor.id not in stored)
    if missing:
        raise FileError(f"{program.name}: the program lacks the weights of {', '.join(missing)}")
    return {t.id: decode(stored[t.id], t.dtype, t.shape) for t in constants}


def keep(value: np.ndarray, dtype: DType) -> np.ndarray:
    """`value` as its storage type keeps it: a float rounded once to nearest even, an integer as is.

    fp32 keeps the accumulator unrounded.
    """
    if dtype in FLOAT_DTYPES:
        return round_to(value, dtype)
    return value.astype(NUMPY_DTYPES[dtype], casting="safe", copy=False)


def is_finite(value: np.ndarray) -> bool:
    """No infinity and no NaN; integers and bools are always finite."""
    return not np.issubdtype(value.dtype, np.floating) or bool(np.isfinite(value).all())
