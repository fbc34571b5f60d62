"""Values between ops, shared by the engines: what storage keeps of an unrounded result.

A coded tensor (8- and 4-bit) is its integer codes, any other float is a float32 array that holds
only values of its storage type; integers are themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import formats
from formats.codec import decode
from formats.errors import FileError
from formats.precision import FLOAT_DTYPES
from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.quantized import is_coded, kept, reals
from kpurun.ops import OPS
from kpurun.ops.checks import NUMPY_DTYPES
from kpurun.ops.opdef import Int8Rule


@dataclass(frozen=True)
class EngineResult:
    """Outputs by tensor id (float32 or exact integers), and the first op, if any, that made an
    infinity or a NaN from finite operands."""

    outputs: Mapping[str, np.ndarray]
    overflowed: KPUOp | None = None


def weight_values(program: KPUProgram) -> dict[str, np.ndarray]:
    """Constants of the program by tensor id, in their shape: codes, float32 or integers."""
    stored = formats.weights(program)
    constants = [tensor for tensor in program.tensors.values() if tensor.is_weight]
    missing = sorted(tensor.id for tensor in constants if tensor.id not in stored)
    if missing:
        raise FileError(f"{program.name}: the program lacks the weights of {', '.join(missing)}")
    values = {t.id: decode(stored[t.id], t.dtype, t.shape) for t in constants}
    posits = (t for t in constants if t.is_quantized and not is_coded(t))
    return values | {t.id: reals(values[t.id], t, values.get(t.scales or "")) for t in posits}


def keep(value: np.ndarray, tensor: KPUTensor) -> np.ndarray:
    """`value` as the tensor's storage keeps it: a float rounded once to nearest even or turned into
    its code, an integer as is.

    fp32 keeps the accumulator unrounded.
    """
    if tensor.dtype in FLOAT_DTYPES or tensor.is_quantized:
        return kept(value, tensor)
    return value.astype(NUMPY_DTYPES[tensor.dtype], casting="safe", copy=False)


def real_value(program: KPUProgram, tensor_id: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """float32 values of a coded tensor; of any other what is kept of it."""
    tensor = program.tensors[tensor_id]
    if not is_coded(tensor):
        return values[tensor_id]
    scales = None if tensor.scales is None else values[tensor.scales]
    return reals(values[tensor_id], tensor, scales)


def multiplies_codes(program: KPUProgram, op: KPUOp) -> bool:
    """Whether the op's products are of integers: it has an integer kernel and both factors are
    coded."""
    factors = [program.tensors[tensor_id] for tensor_id in op.input_ids[:2]]
    return OPS[op.op_type].int8 is Int8Rule.KERNEL and all(map(is_coded, factors))


def is_finite(value: np.ndarray) -> bool:
    """No infinity and no NaN; integers, codes and bools are always finite."""
    return not np.issubdtype(value.dtype, np.floating) or bool(np.isfinite(value).all())
