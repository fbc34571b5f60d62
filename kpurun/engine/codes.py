"""Multiply-accumulates on codes: exact integer sums, scaled once in float32.

accumulator = Σ (q_x - z_x) · (q_w - z_w), which 32 bits hold up to 66,311 products (255 · 127
each); float64 is exact far beyond. Padding adds zeros, as the code of zero is the zero point.
"""

from collections.abc import Mapping

import numpy as np

from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.quantized import spread_scales
from kpurun.engine.storage import real_value
from kpurun.ops import OPS
from kpurun.ops.opdef import complete


def accumulate_codes(
    program: KPUProgram, op: KPUOp, values: Mapping[str, np.ndarray]
) -> np.ndarray:
    """float32 result of a Conv, MatMul or Gemm of codes with its bias, before its epilogue.

    The integer sum becomes a float32, times the float32 product of the factors' scales, plus bias.
    Scales of groups enter within the sum, in float64.
    """
    tensors = [program.tensors[tensor_id] for tensor_id in op.input_ids[: op.operand_count]]
    attributes = complete(OPS[op.op_type], op.attributes)
    factors = [_factor(tensor, values) for tensor in tensors[:2]]
    (total,) = OPS[op.op_type].compute(attributes, *factors)
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values here
        result = np.asarray(total.astype(np.float32))
        result *= output_scales(op.op_type, tensors[:2], values)
        if op.operand_count < 3:
            return result
        bias = real_value(program, tensors[2].id, values) * np.float32(attributes.get("beta", 1))
        result += _over_channels(bias, result.ndim) if op.op_type == "Conv" else bias
    return result


def output_scales(
    op_type: str, factors: list[KPUTensor], values: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What one unit of the accumulator stands for: float32, one or one per output channel, in a
    shape that broadcasts to the result."""
    scale = np.ones((), np.float64)
    for tensor in factors:
        if tensor.scale is not None:
            scale = scale * np.float64(np.float32(tensor.scale))
        elif tensor.scales is not None and not tensor.group_size:
            scale = scale * values[tensor.scales].astype(np.float64)
    single = np.asarray(scale, np.float32)
    if single.ndim == 0 or op_type != "Conv":
        return single
    weight = factors[1]
    return _over_channels(single, len(weight.shape))


def _factor(tensor: KPUTensor, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Codes less their zero point, times the scales of their groups if they have any."""
    centred: np.ndarray = values[tensor.id].astype(np.float64) - (tensor.zero_point or 0)
    if tensor.scales is None or not tensor.group_size:
        return centred
    scales = values[tensor.scales].astype(np.float64)
    centred *= spread_scales(scales, tensor.shape, tensor.scale_axis, tensor.group_size)
    return centred


def _over_channels(vector: np.ndarray, rank: int) -> np.ndarray:
    return vector.reshape(-1, *(1,) * (rank - 2))
