"""Real numbers as codes and back: what a quantised tensor keeps of a value.

An integer code q stands for (q - zero point) · scale, computed in float32. A posit code stands for
the posit's value times the scale, which is a power of two. Weights may have a scale per channel, or
per group of a channel.
"""

import math

import numpy as np

from formats.codec import round_to
from formats.precision import DType
from formats.program import KPUTensor

# Symmetric for weights: the machine's arrays multiply without a zero point on that side.
CODE_RANGES: dict[DType, tuple[int, int]] = {
    DType.UINT8: (0, 255),
    DType.INT8: (-127, 127),
    DType.INT4: (-7, 7),
}
CODE_TYPES = {DType.UINT8: np.uint8, DType.INT8: np.int8, DType.INT4: np.int8}


def is_coded(tensor: KPUTensor) -> bool:
    """Whether the tensor is stored as integer codes of real numbers."""
    return tensor.is_quantized and tensor.dtype in CODE_RANGES


def quantize(
    values: np.ndarray, dtype: DType, scale: float | np.ndarray, zero_point: int = 0
) -> np.ndarray:
    """Integer codes of float32 `values`: round half to even, then clamp; NaN becomes zero.

    scale: one, or an array that broadcasts to the values.
    """
    low, high = CODE_RANGES[dtype]
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are clamped
        codes = np.asarray(np.rint(values / np.asarray(scale, np.float32)))
        codes += np.float32(zero_point)
    np.nan_to_num(codes, copy=False, nan=zero_point, posinf=high, neginf=low)
    return np.clip(codes, low, high, out=codes).astype(CODE_TYPES[dtype])


def dequantize(codes: np.ndarray, scale: float | np.ndarray, zero_point: int = 0) -> np.ndarray:
    """float32 values that integer codes stand for."""
    centred = codes.astype(np.float32) - np.float32(zero_point)
    with np.errstate(over="ignore"):  # a scale near the end of float32
        return np.asarray(centred * np.asarray(scale, np.float32))


def spread_scales(
    scales: np.ndarray, shape: tuple[int, ...], axis: int, group_size: int = 0
) -> np.ndarray:
    """`scales`, [n] or [n, groups], so that they broadcast to a weight of `shape`."""
    others = tuple(size for index, size in enumerate(shape) if index != axis)
    if not group_size:
        return scales.reshape([-1 if index == axis else 1 for index in range(len(shape))])
    per_weight = np.repeat(scales, group_size, axis=1)[:, : math.prod(others)]
    return np.moveaxis(per_weight.reshape(shape[axis], *others), 0, axis)


def kept(values: np.ndarray, tensor: KPUTensor) -> np.ndarray:
    """What storage as `tensor` keeps of float32 `values`: codes if it is coded, else float32.

    Of a tensor with one scale or none; integers have no place here.
    """
    if tensor.scale is None:
        return round_to(values, tensor.dtype)
    if is_coded(tensor):
        return quantize(values, tensor.dtype, tensor.scale, tensor.zero_point or 0)
    scale = np.float32(tensor.scale)
    with np.errstate(over="ignore"):
        scaled = values / scale
        largest = np.finfo(np.float32).max  # a number becomes the largest posit, never NaR
        scaled = np.where(np.isfinite(values), np.clip(scaled, -largest, largest), scaled)
        return np.asarray(round_to(scaled, tensor.dtype) * scale)


def reals(stored: np.ndarray, tensor: KPUTensor, scales: np.ndarray | None = None) -> np.ndarray:
    """float32 values of what is stored of `tensor` (as `formats.codec.decode` gives it).

    scales: the tensor that `tensor.scales` names.
    """
    if scales is not None:
        spread = spread_scales(scales, tensor.shape, tensor.scale_axis, tensor.group_size)
        return dequantize(stored, spread)
    if tensor.scale is None:
        return stored
    return dequantize(stored, tensor.scale, tensor.zero_point or 0)
