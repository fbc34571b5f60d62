"""A row of tests/op_cases.py: an op, its operands and attributes, and its twin in PyTorch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from formats.precision import DType
from kpurun.ops.checks import NUMPY_DTYPES
from kpurun.ops.types import TensorType


@dataclass(frozen=True)
class Values:
    """An operand: its shape and type, and the range its random values are drawn from."""

    shape: tuple[int, ...]
    dtype: DType = DType.FP32
    low: float = -3.0
    high: float = 3.0

    @property
    def type(self) -> TensorType:
        return TensorType(self.shape, self.dtype)

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Uniform values; integers and bools from the whole numbers of the range."""
        numpy_dtype = NUMPY_DTYPES[self.dtype]
        if self.dtype == DType.FP32:
            return random.uniform(self.low, self.high, self.shape).astype(numpy_dtype)
        whole = random.integers(int(self.low), int(self.high), self.shape, endpoint=True)
        return np.asarray(whole).astype(numpy_dtype)


@dataclass(frozen=True)
class OpCase:
    """`torch` takes the operands as tensors and returns a tensor or a tuple of them."""

    name: str
    op: str
    operands: tuple[Values, ...]
    torch: Callable[..., Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 2e-6  # absolute and relative: a few units in the last place of fp32

    def arrays(self, seed: int = 0) -> tuple[np.ndarray, ...]:
        random = np.random.default_rng(seed)
        return tuple(operand.draw(random) for operand in self.operands)

    def expected(self, arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """What eager PyTorch gives for these operands."""
        result = self.torch(*(torch.from_numpy(array) for array in arrays))
        results = result if isinstance(result, tuple) else (result,)
        return tuple(tensor.numpy() for tensor in results)


def of(*shapes: tuple[int, ...], dtype: DType = DType.FP32) -> tuple[Values, ...]:
    return tuple(Values(shape, dtype) for shape in shapes)


def unary(
    name: str,
    op: str,
    function: Callable[..., Any],
    operand: Values = Values((2, 3, 4, 5), low=-8.0, high=8.0),
    **attributes: Any,
) -> OpCase:
    return OpCase(name, op, (operand,), function, attributes)


WHOLE_NUMBERS = Values((2, 9), DType.INT32, -9, 9)
