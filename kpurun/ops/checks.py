"""What every record checks in the same words: attribute values, axes, element types, broadcasting.

A message names the op, the attribute and the value, so that a user can find it in the model.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from formats.precision import DType
from kpurun.ops.types import OpError, TensorType

INTEGER_DTYPES = frozenset({DType.INT8, DType.UINT8, DType.INT32, DType.INT64})

NUMPY_DTYPES: dict[DType, np.dtype[Any]] = {
    DType.FP32: np.dtype(np.float32),
    DType.INT8: np.dtype(np.int8),
    DType.UINT8: np.dtype(np.uint8),
    DType.INT32: np.dtype(np.int32),
    DType.INT64: np.dtype(np.int64),
    DType.BOOL: np.dtype(np.bool_),
}


def type_of(array: np.ndarray) -> TensorType:
    """Semantic type of an array; any floating dtype counts as FP32."""
    if np.issubdtype(array.dtype, np.floating):
        return TensorType(array.shape, DType.FP32)
    for dtype, numpy_dtype in NUMPY_DTYPES.items():
        if array.dtype == numpy_dtype:
            return TensorType(array.shape, dtype)
    raise OpError(f"no op takes arrays of dtype {array.dtype}")


def integer(op: str, name: str, value: Any) -> int:
    """`value` as an int, or OpError; a bool is not an integer here."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise OpError(f"{op}: {name} must be an integer, got {value!r}")


def integers(op: str, name: str, value: Any, length: int | None = None) -> tuple[int, ...]:
    """`value` as a tuple of ints, of the given length if there is one."""
    if not isinstance(value, (list, tuple)):
        raise OpError(f"{op}: {name} must be a list of integers, got {value!r}")
    numbers = tuple(integer(op, name, item) for item in value)
    if length is not None and len(numbers) != length:
        raise OpError(f"{op}: {name} must have {length} entries, got {list(numbers)}")
    return numbers


def real(op: str, name: str, value: Any) -> float:
    """`value` as a float that is not NaN, or OpError; "inf" and "-inf" because JSON has neither."""
    if value in ("inf", "-inf"):
        return float(value)
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    if is_number and not isinstance(value, bool) and not math.isnan(value):
        return float(value)
    raise OpError(f"{op}: {name} must be a number, got {value!r}")


def finite(op: str, name: str, value: Any) -> float:
    """`value` as a finite float, or OpError."""
    number = real(op, name, value)
    if math.isinf(number):
        raise OpError(f"{op}: {name} must be finite, got {value!r}")
    return number


def element(op: str, name: str, value: Any, dtype: DType) -> float:
    """`value` as an element of a tensor of `dtype`, or OpError; infinities are floats."""
    number = real(op, name, value)
    if dtype == DType.FP32:
        return number
    if dtype == DType.BOOL:
        least, most = 0, 1
    else:
        limits = np.iinfo(NUMPY_DTYPES[dtype])
        least, most = int(limits.min), int(limits.max)
    if number % 1 == 0 and least <= number <= most:
        return number
    raise OpError(f"{op}: {name} {value!r} is not a value of {dtype.value}")


def flag(op: str, name: str, value: Any) -> bool:
    """`value` as a bool; ONNX writes 0 and 1."""
    if value in (0, 1) and isinstance(value, (bool, int)):
        return bool(value)
    raise OpError(f"{op}: {name} must be true or false, got {value!r}")


def axis_of(op: str, value: Any, rank: int, name: str = "axis") -> int:
    """An axis as an index in [0, rank); negative ones count from the end."""
    number = integer(op, name, value)
    if not -rank <= number < rank:
        raise OpError(f"{op}: {name} {number} is out of range for {rank} dimensions")
    return number % rank


def axes_of(op: str, value: Any, rank: int, name: str = "axes") -> tuple[int, ...]:
    """Several distinct axes, each in [0, rank), in the order given."""
    axes = tuple(axis_of(op, item, rank, name) for item in integers(op, name, value))
    if len(set(axes)) != len(axes):
        raise OpError(f"{op}: {name} {list(value)} names an axis twice")
    return axes


def at_least(op: str, name: str, values: Sequence[int], least: int) -> None:
    """Every value is at least `least`, or OpError."""
    if any(value < least for value in values):
        raise OpError(f"{op}: {name} must be at least {least}, got {list(values)}")


def float_operands(op: str, types: Sequence[TensorType]) -> None:
    """Every operand is FP32 (the only semantic float type), or OpError."""
    for index, type_ in enumerate(types):
        if type_.dtype != DType.FP32:
            raise OpError(f"{op}: operand {index} must be floating-point, got {type_.dtype.value}")


def number_operands(op: str, types: Sequence[TensorType]) -> DType:
    """The one element type, FP32 or an integer type, that all operands share, or OpError."""
    dtype = one_dtype(op, types)
    if dtype != DType.FP32 and dtype not in INTEGER_DTYPES:
        raise OpError(f"{op}: operands must be numbers, got {dtype.value}")
    return dtype


def one_dtype(op: str, types: Sequence[TensorType]) -> DType:
    """The element type that all operands share, or OpError."""
    dtypes = {type_.dtype for type_ in types}
    if len(dtypes) > 1:
        names = ", ".join(type_.dtype.value for type_ in types)
        raise OpError(f"{op}: operands must have one element type, got {names}: add a cast")
    dtype = types[0].dtype
    if dtype not in NUMPY_DTYPES:
        raise OpError(f"{op}: {dtype.value} is a storage type; float values are fp32 here")
    return dtype


def broadcast(op: str, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that `shapes` broadcast to under numpy's rule, or OpError."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        names = " and ".join(str(list(shape)) for shape in shapes)
        raise OpError(f"{op}: shapes {names} do not broadcast") from None
