"""Number formats: what a tensor element is called and how many bits it takes.

`KPUPrecision` is what a user asks for (the host's enum, same names and values); `DType` is what one
tensor is stored as. Both are string enums, so members with the same value compare and hash equal.
"""

from enum import Enum


class KPUPrecision(str, Enum):
    """Arithmetic a program is compiled for."""

    INT8 = "int8"
    INT4 = "int4"
    FP16 = "fp16"
    BF16 = "bf16"
    POSIT8 = "posit8"
    POSIT16 = "posit16"


class DType(str, Enum):
    """Storage type of one tensor on the machine."""

    INT8 = "int8"
    INT4 = "int4"
    FP16 = "fp16"
    BF16 = "bf16"
    POSIT8 = "posit8"
    POSIT16 = "posit16"
    UINT8 = "uint8"
    FP32 = "fp32"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"


BITS: dict[DType, int] = {
    DType.INT8: 8,
    DType.INT4: 4,
    DType.FP16: 16,
    DType.BF16: 16,
    DType.POSIT8: 8,
    DType.POSIT16: 16,
    DType.UINT8: 8,
    DType.FP32: 32,
    DType.INT32: 32,
    DType.INT64: 64,
    DType.BOOL: 8,
}

FLOAT_DTYPES = frozenset({DType.FP16, DType.BF16, DType.POSIT8, DType.POSIT16, DType.FP32})


def size_in_bytes(elements: int, dtype: DType) -> int:
    """Bytes that `elements` packed elements take, rounded up to whole bytes."""
    return -(-elements * BITS[dtype] // 8)
