"""Number formats as bytes: float32 to storage, storage back, and what storage keeps of a value.

Rounding is to nearest, ties to even, in every float format. Integers are stored exactly or
refused: clamping is the quantiser's decision, never the storage's.
"""

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from formats.posit import posit_codes, posit_values
from formats.precision import FLOAT_DTYPES, DType

STORAGE: dict[DType, np.dtype[Any]] = {
    DType.INT8: np.dtype(np.int8),
    DType.INT4: np.dtype(np.uint8),  # two values to a byte, low half first
    DType.FP16: np.dtype("<f2"),
    DType.BF16: np.dtype("<u2"),  # numpy has no bfloat16: its bits
    DType.POSIT8: np.dtype(np.uint8),
    DType.POSIT16: np.dtype("<u2"),
    DType.UINT8: np.dtype(np.uint8),
    DType.FP32: np.dtype("<f4"),
    DType.INT32: np.dtype("<i4"),
    DType.INT64: np.dtype("<i8"),
    DType.BOOL: np.dtype(np.bool_),
}

INTEGER_RANGES: dict[DType, tuple[int, int]] = {
    DType.INT4: (-8, 7),
    DType.INT8: (-128, 127),
    DType.UINT8: (0, 255),
    DType.INT32: (-(2**31), 2**31 - 1),
    DType.INT64: (-(2**63), 2**63 - 1),
    DType.BOOL: (0, 1),
}

POSITS = {DType.POSIT8: (8, 0), DType.POSIT16: (16, 1)}  # width, exponent bits


def encode(values: npt.ArrayLike, dtype: DType) -> np.ndarray:
    """Storage array of float32 or integer `values`, of their shape; INT4 is flat and packed.

    Overflow gives infinity in fp16 and bf16, the largest number in a posit, ValueError in an
    integer type.
    """
    if dtype in INTEGER_RANGES:
        return _integers(np.asarray(values), dtype)
    singles = np.asarray(values, np.float32)
    if dtype in POSITS:
        return posit_codes(singles, *POSITS[dtype])
    if dtype is DType.BF16:
        return _bf16_bits(singles).astype(STORAGE[dtype])
    with np.errstate(over="ignore"):
        return singles.astype(STORAGE[dtype])


def decode(storage: np.ndarray, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """Array of `shape` from a storage array: float32 for a float format, else the integers."""
    if dtype in POSITS:
        values: np.ndarray = posit_values(*POSITS[dtype])[storage]
        return values.reshape(shape)
    if dtype is DType.BF16:
        bits: np.ndarray = storage.astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    if dtype is DType.INT4:
        return _unpacked_nibbles(storage, prod(shape)).reshape(shape)
    if dtype in FLOAT_DTYPES:
        return storage.astype(np.float32).reshape(shape)
    return storage.reshape(shape)


def round_to(values: npt.ArrayLike, dtype: DType) -> np.ndarray:
    """float32 array of what storage as `dtype` keeps of float32 `values`."""
    singles = np.asarray(values, np.float32)
    if dtype is DType.FP32:
        return singles
    if dtype is DType.BF16:
        return (_bf16_bits(singles) << 16).view(np.float32).reshape(singles.shape)
    return decode(encode(singles, dtype), dtype, singles.shape)


def _bf16_bits(singles: np.ndarray) -> np.ndarray:
    """Upper half of each float32 as uint32, rounded; a NaN stays one."""
    bits = np.ascontiguousarray(singles).view(np.uint32)
    rounded: np.ndarray = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    if is_nan.any():
        rounded[is_nan] = (bits[is_nan] >> 16) | 0x40
    return rounded.reshape(singles.shape)


def _integers(values: np.ndarray, dtype: DType) -> np.ndarray:
    """`values` exactly, or ValueError."""
    low, high = INTEGER_RANGES[dtype]
    if values.size and not (low <= values.min().item() and values.max().item() <= high):
        raise ValueError(f"values from {values.min()} to {values.max()} do not fit {dtype.value}")
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise ValueError(f"{dtype.value} stores whole numbers only")
    if dtype is DType.INT4:
        return _packed_nibbles(values)
    return values.astype(STORAGE[dtype])


def _packed_nibbles(values: np.ndarray) -> np.ndarray:
    flat = values.astype(np.int8).ravel()
    padded = np.append(flat, np.int8(0)) if flat.size % 2 else flat
    nibbles = padded.view(np.uint8) & 0x0F
    return nibbles[0::2] | (nibbles[1::2] << 4)


def _unpacked_nibbles(storage: np.ndarray, count: int) -> np.ndarray:
    halves = np.stack([storage & 0x0F, storage >> 4], axis=-1).ravel().astype(np.int8)
    signed: np.ndarray = (halves ^ 8) - 8
    return signed[:count]
