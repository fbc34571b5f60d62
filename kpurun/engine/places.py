"""Where results of convolutions of codes lie in every run: memory that is bound once, at load.

A kernel whose operands are where they were in its last call need not be told.
"""

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from formats.precision import DType
from formats.program import KPUOp, KPUTensor


class Places:
    """What is needed at once lies apart; in order of the ops, `take` and then `release`."""

    def __init__(self) -> None:
        self._taken: dict[str, Tensor] = {}  # by the tensor that is there
        self._free: list[Tensor] = []

    def take(
        self, op: KPUOp, tensors: Mapping[str, KPUTensor], overwritable: frozenset[int]
    ) -> Tensor | None:
        """Memory for the op's result if that is a map of codes, channels-last. It is that of an
        addend which the result overwrites."""
        result = tensors[op.output_ids[0]]
        if len(result.shape) != 4 or result.dtype is not DType.UINT8 or not prod(result.shape):
            return None
        overwritten = _overwritten(op, tensors, overwritable)
        memory = self._taken.pop(overwritten, None) if overwritten else None
        if memory is None:
            memory = self._fitting(prod(result.shape))
        self._taken[result.id] = memory
        batch, channels, height, width = result.shape
        in_order = memory[: prod(result.shape)].view(batch, height, width, channels)
        return in_order.permute(0, 3, 1, 2)

    def release(self, tensor_ids: Sequence[str]) -> None:
        """Nothing reads these any more."""
        self._free += [self._taken.pop(each) for each in tensor_ids if each in self._taken]

    def _fitting(self, size: int) -> Tensor:
        """The least that is large enough, or new memory."""
        enough = [memory for memory in self._free if memory.numel() >= size]
        if not enough:
            return torch.empty(size, dtype=torch.uint8)
        best = min(enough, key=torch.Tensor.numel)
        self._free = [memory for memory in self._free if memory is not best]
        return best


def _overwritten(
    op: KPUOp, tensors: Mapping[str, KPUTensor], overwritable: frozenset[int]
) -> str | None:
    """The operand of an addition to the op's sum whose place the result may take."""
    added = [stage.operand for stage in op.epilogue[:1] if stage.op_type == "Add"]
    shape = tensors[op.output_ids[0]].shape
    ids = [op.input_ids[k] for k in added if k is not None and k in overwritable]
    return next((i for i in ids if tensors[i].shape == shape), None)
