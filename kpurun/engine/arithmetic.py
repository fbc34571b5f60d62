"""How torch computes for the fast engine: in IEEE fp32 whatever the process chose, then rounded."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from formats.precision import DType

HALF_DTYPES = {DType.FP16: torch.float16, DType.BF16: torch.bfloat16}

# Stands in a slot whose value is not there: not yet made, freed, or held by a kernel.
ABSENT = torch.empty(0)


@contextmanager
def ieee_fp32() -> Iterator[None]:
    """No autograd, no autocast, no reduced-precision products inside fp32 kernels.

    torch.set_float32_matmul_precision("medium") or an enclosing autocast of the process would
    otherwise change results silently.
    """
    onednn: Any = torch.backends.mkldnn  # mypy does not see the attributes of this lazy module
    before = onednn.conv.fp32_precision, onednn.matmul.fp32_precision
    onednn.conv.fp32_precision = onednn.matmul.fp32_precision = "ieee"
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            yield
    finally:
        onednn.conv.fp32_precision, onednn.matmul.fp32_precision = before


def round_in_place(x: Tensor, dtype: DType) -> Tensor:
    """`x` (fp32) holding the nearest values of `dtype`, ties to even; fp32 is left unrounded."""
    if dtype not in HALF_DTYPES:
        return x
    return x.copy_(x.to(HALF_DTYPES[dtype]))


def rounded(x: Tensor, dtype: DType) -> Tensor:
    """As `round_in_place`, in new memory if anything is to be rounded."""
    if dtype not in HALF_DTYPES:
        return x
    return x.to(HALF_DTYPES[dtype]).to(torch.float32)


def owned_tensor(array: np.ndarray) -> Tensor:
    """A copy of `array` as a tensor: never the caller's memory, whatever its strides and flags."""
    return torch.from_numpy(np.array(array, order="C", copy=True))
