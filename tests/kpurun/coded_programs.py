"""Programs of codes made from programs of fp16, so that engines are tested without a quantiser."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from formats.codec import encode
from formats.precision import FLOAT_DTYPES, DType, KPUPrecision
from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.quantized import CODE_RANGES, quantize, spread_scales
from formats.tensors import pack
from kpurun.engine import reference
from kpurun.engine.storage import weight_values
from kpurun.ops import OPS
from kpurun.ops.opdef import Int8Rule

Arrays = Mapping[str, np.ndarray]


def coded(
    program: KPUProgram,
    inputs: Arrays,
    *,
    floats: Collection[str] = (),
    weights: DType = DType.INT8,
    group_size: int = 0,
) -> KPUProgram:
    """`program` with uint8 activations, whose ranges are those of one run, and coded weights.

    floats: tensors that stay as they are. group_size: of weights; 0 is a scale per channel.
    """
    activations = _ranges(program, inputs)
    tensors = {
        key: _coded_activation(tensor, *activations[key])
        if key in activations and key not in floats
        else tensor
        for key, tensor in program.tensors.items()
    }
    stored, ops = dict(weight_values(program)), []
    for op in program.get_ops_in_order():
        if _weight(op, stored) is None or tensors[op.input_ids[0]].scale is None:
            ops.append(op)
            continue
        key = op.input_ids[1]
        if tensors[key].scales is None:
            axis = _channel_axis(op, tensors[key])
            tensor, scales = _coded_weight(tensors[key], stored[key], axis, weights, group_size)
            spread = spread_scales(scales, tensor.shape, axis, group_size)
            stored |= {key: quantize(stored[key], weights, spread), f"{key}_scales": scales}
            tensors |= {key: tensor, f"{key}_scales": _constant(f"{key}_scales", scales)}
        ops.append(replace(op, input_ids=(*op.input_ids, f"{key}_scales")))
    return replace(
        program,
        precision=KPUPrecision.INT8,
        ops=tuple(ops),
        tensors=tensors,
        weights_blob=_blob(stored, tensors),
    )


def in_posits(program: KPUProgram, dtype: DType, scale: float | None) -> KPUProgram:
    """`program` with all that was fp16, and its results, as posits."""
    stored = weight_values(program)
    tensors = {
        key: replace(tensor, dtype=dtype, scale=scale)
        if tensor.dtype is DType.FP16 or (tensor.is_output and tensor.dtype is DType.FP32)
        else tensor
        for key, tensor in program.tensors.items()
    }
    scaled = {
        key: value / (scale or 1) if tensors[key].dtype is dtype else value
        for key, value in stored.items()
    }
    return replace(
        program,
        precision=KPUPrecision(dtype.value),
        tensors=tensors,
        weights_blob=_blob(scaled, tensors),
    )


def every_value(program: KPUProgram) -> KPUProgram:
    """`program` with the result of every op as an output."""
    return replace(program, output_ids=tuple(i for op in program.ops for i in op.output_ids))


def _ranges(program: KPUProgram, inputs: Arrays) -> dict[str, tuple[float, float]]:
    """Least and largest value of every float activation, zero included."""
    values = {**inputs, **reference.run(every_value(program), inputs)}
    finite = {
        key: value[np.isfinite(value)]
        for key, value in values.items()
        if program.tensors[key].dtype in FLOAT_DTYPES
    }
    return {
        key: (float(value.min(initial=0)), float(value.max(initial=0)))
        for key, value in finite.items()
    }


def _coded_activation(tensor: KPUTensor, least: float, largest: float) -> KPUTensor:
    scale = float(np.float32(max(largest - least, 1e-3) / 255))
    zero_point = min(255, round(-least / scale))
    return replace(tensor, dtype=DType.UINT8, scale=scale, zero_point=zero_point)


def _weight(op: KPUOp, stored: Arrays) -> str | None:
    """The constant factor of a product, if it has one with channels."""
    if OPS[op.op_type].int8 is not Int8Rule.KERNEL:
        return None
    weight = op.input_ids[1]
    return weight if weight in stored and stored[weight].ndim > 1 else None


def _channel_axis(op: KPUOp, weight: KPUTensor) -> int:
    is_turned = op.op_type == "MatMul" or not op.attributes.get("transB", op.op_type == "Conv")
    return len(weight.shape) - 1 if is_turned else 0


def _coded_weight(
    tensor: KPUTensor, value: np.ndarray, axis: int, dtype: DType, group_size: int
) -> tuple[KPUTensor, np.ndarray]:
    """The tensor and its scales: [channels], or [channels, groups]."""
    rows = np.abs(np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1))
    size = group_size or rows.shape[1]
    groups = math.ceil(rows.shape[1] / size)
    padded = np.pad(rows, ((0, 0), (0, groups * size - rows.shape[1])))
    largest = padded.reshape(len(rows), groups, size).max(2)
    scales = np.maximum(largest / CODE_RANGES[dtype][1], 1e-6).astype(np.float32)
    name = f"{tensor.id}_scales"
    coded_tensor = replace(tensor, dtype=dtype, scales=name, scale_axis=axis, group_size=group_size)
    return coded_tensor, scales if group_size else scales[:, 0]


def _constant(name: str, value: np.ndarray) -> KPUTensor:
    return KPUTensor(id=name, name=name, shape=value.shape, dtype=DType.FP32, is_weight=True)


def _blob(stored: Arrays, tensors: Mapping[str, KPUTensor]) -> bytes | None:
    arrays = {name: encode(value, tensors[name].dtype) for name, value in stored.items()}
    return pack(arrays, {name: tensors[name].dtype for name in arrays}) if arrays else None
