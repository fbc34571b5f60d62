"""What a user feeds and gets: arrays checked against the program's inputs, outputs in host dtypes.

Nothing is converted silently unless every value survives it up to the rounding to storage.
"""

import math
from collections.abc import Mapping

import numpy as np

from formats.errors import InputError, shape_mismatch
from formats.precision import FLOAT_DTYPES, DType
from formats.program import KPUProgram, KPUTensor
from kpurun.ops.checks import NUMPY_DTYPES

# The smallest magnitude that rounds to infinity: the largest value and half a unit in the last
# place (the tie goes to the even neighbour, which is infinity). Codes and posits end at their
# largest value instead.
OVERFLOW_THRESHOLDS = {
    DType.FP16: 65520.0,
    DType.BF16: (2 - 2**-8) * 2.0**127,
    DType.FP32: (2 - 2**-24) * 2.0**127,
}


def checked_inputs(program: KPUProgram, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays by tensor id, float32 or the storage's integer type; InputError names the input.

    inputs: by input name or tensor id. Shapes must match exactly; any real type is accepted for a
    float input if its values are finite and within the precision's range, whole numbers for an
    integer input if they fit it.
    """
    tensors = program.get_input_tensors()
    by_key = {**{t.id: t for t in tensors}, **{t.name: t for t in tensors}}
    found: dict[str, np.ndarray] = {}
    for key, value in inputs.items():
        tensor = by_key.get(key)
        if tensor is None:
            raise InputError(f"unknown input {key!r}; the program takes {_described(tensors)}")
        if tensor.id in found:
            raise InputError(f"input {tensor.name!r} is given twice, as {key!r} too")
        found[tensor.id] = _checked(tensor, value, is_only_input=len(tensors) == 1)
    missing = [tensor for tensor in tensors if tensor.id not in found]
    if missing:
        raise InputError(f"missing input {_described(missing)}")
    return found


def host_dtype(tensor: KPUTensor) -> np.dtype[np.generic]:
    """The dtype a user feeds or gets. numpy has no bfloat16: its values come as float32."""
    return np.dtype("float32" if tensor.host_dtype == "bfloat16" else tensor.host_dtype)


def host_outputs(program: KPUProgram, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by name in the program's order, in the dtype that the model itself gives."""
    return {
        tensor.name: outputs[tensor.id].astype(host_dtype(tensor), copy=False)
        for tensor in program.get_output_tensors()
    }


def _described(tensors: list[KPUTensor]) -> str:
    return ", ".join(f"{t.name!r} {_shape_text(t.shape)} {t.host_dtype}" for t in tensors) or "none"


def _shape_text(shape: tuple[int, ...]) -> str:
    return "(" + ",".join(map(str, shape)) + ")"


def _checked(tensor: KPUTensor, value: np.ndarray, is_only_input: bool) -> np.ndarray:
    if not isinstance(value, np.ndarray | np.generic):
        raise InputError(f"input {tensor.name!r} must be a numpy array, got {type(value).__name__}")
    array = np.asarray(value)
    if array.shape != tensor.shape:
        raise shape_mismatch(tensor.shape, array.shape, "" if is_only_input else tensor.name)
    if tensor.dtype in FLOAT_DTYPES or tensor.is_quantized:
        return _as_float(tensor, array)
    if tensor.dtype is DType.BOOL:
        return _as_bool(tensor, array)
    return _as_integer(tensor, array)


def _wrong_dtype(tensor: KPUTensor, array: np.ndarray) -> InputError:
    return InputError(
        f"input {tensor.name!r} must be {tensor.host_dtype}, got an array of {array.dtype}"
    )


def _as_float(tensor: KPUTensor, array: np.ndarray) -> np.ndarray:
    """Floats of any width, and integers that float32 holds exactly."""
    is_float = np.issubdtype(array.dtype, np.floating)
    if not is_float and not (array.dtype.kind in "iu" and np.can_cast(array.dtype, np.float32)):
        raise _wrong_dtype(tensor, array)
    low, high = float(array.min()), float(array.max())  # NaN if any element is
    if not (math.isfinite(low) and math.isfinite(high)):
        position, what = _first_nonfinite(array)
        raise InputError(f"input {tensor.name!r} contains {what}, first at {position}")
    with np.errstate(over="ignore"):
        largest = np.float32(max(-low, high))
        if largest >= OVERFLOW_THRESHOLDS.get(tensor.dtype, np.inf):
            raise InputError(
                f"input {tensor.name!r} contains values beyond the range of {tensor.dtype.value} "
                f"(from {low:g} to {high:g})"
            )
    return array.astype(np.float32, copy=False)


def _first_nonfinite(array: np.ndarray) -> tuple[tuple[int, ...], str]:
    position = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
    return position, "NaN" if np.isnan(array[position]) else "infinity"


def _as_bool(tensor: KPUTensor, array: np.ndarray) -> np.ndarray:
    if array.dtype != np.bool_:
        raise _wrong_dtype(tensor, array)
    return array


def _as_integer(tensor: KPUTensor, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise _wrong_dtype(tensor, array)
    target = NUMPY_DTYPES[tensor.dtype]
    limits = np.iinfo(target)
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        worst = low if low < limits.min else high
        raise InputError(f"input {tensor.name!r} contains {worst}, beyond {tensor.dtype.value}")
    return array.astype(target, copy=False)
