"""The types that an op's functions speak: what a value is, before it has a place or a precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from formats.precision import FLOAT_DTYPES, DType

Attributes = Mapping[str, Any]


@dataclass(frozen=True)
class TensorType:
    """Shape and semantic element type. Every float value is FP32 here: precision comes later."""

    shape: tuple[int, ...]
    dtype: DType = DType.FP32

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_DTYPES


class OpError(ValueError):
    """An op's attributes or operand types do not fit; the text is what the user reads."""
