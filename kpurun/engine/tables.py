"""A function of one coded operand as a table of its 256 codes, filled in by the reference."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from formats.program import KPUOp, KPUTensor
from formats.quantized import CODE_RANGES, CODE_TYPES, reals
from kpurun.engine.kernel import is_channels_last
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
    return lambda x: _looked_up(table, x, first)


def _looked_up(table: Tensor, codes: Tensor, first: int) -> Tensor:
    """table[codes - first] in the memory order of the codes."""
    if is_channels_last(codes):
        return _looked_up(table, codes.permute(0, 2, 3, 1), first).permute(0, 3, 1, 2)
    positions = codes.to(torch.int32)
    if first:
        positions -= first
    return table.index_select(0, positions.reshape(-1)).view(codes.shape)
