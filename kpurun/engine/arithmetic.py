"""How torch computes for the fast engine: in IEEE fp32 whatever the process chose, then rounded."""

import os
import threading
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


# Runs and calls, which all use every core: torch's precision is the process's, oneDNN's primitives
# share memory, and a program's results lie where those of its last run did.
_one_at_a_time = threading.RLock()


def one_at_a_time() -> threading.RLock:
    """The lock of this process, which a thread may take again."""
    return _one_at_a_time


def _unlock() -> None:
    """In a child process: another thread of the parent may have held it."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@contextmanager
def ieee_fp32() -> Iterator[None]:
    """No autograd, no autocast, no reduced-precision products inside fp32 kernels.

    torch.set_float32_matmul_precision("medium") or an enclosing autocast of the process would
    otherwise change results silently. One thread at a time.
    """
    inference, no_autocast = torch.inference_mode(), torch.autocast("cpu", enabled=False)
    with one_at_a_time(), _ieee_products(), inference, no_autocast:
        yield


@contextmanager
def _ieee_products() -> Iterator[None]:
    onednn: Any = torch.backends.mkldnn  # mypy does not see the attributes of this lazy module
    before = onednn.conv.fp32_precision, onednn.matmul.fp32_precision
    onednn.conv.fp32_precision = onednn.matmul.fp32_precision = "ieee"
    try:
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
