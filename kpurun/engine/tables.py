"""A function of one coded operand as a table of its 256 codes, filled in by the reference."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from formats.program import KPUOp, KPUTensor
from formats.quantized import CODE_RANGES, CODE_TYPES, reals
from kpurun.engine.kernel import look_up
from kpurun.engine.reference import accumulate
from kpurun.engine.storage import is_finite, keep


def prepare_table(
    op: KPUOp, source: KPUTensor, target: KPUTensor
) -> Callable[[Tensor], Tensor] | None:
    """What `op`, unary as all its stages are, stores for each code of `source`: exactly the
    reference's answer, one look-up an element. None where it makes infinities, which are told."""
    low, _ = CODE_RANGES[source.dtype]
    first = 0 if low == 0 else -128
    codes = np.arange(first, first + 256).astype(CODE_TYPES[source.dtype])
    (results,) = accumulate(op, (reals(codes, source),))
    if not is_finite(results):
        return None
    table = torch.from_numpy(np.ascontiguousarray(keep(results, target)))
    if first:
        return lambda x: look_up(table, x.to(torch.int32).sub_(first))
    return lambda x: look_up(table, x.to(torch.int32))
