"""What the fast engine's kernels are made from, and what preparing one gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from formats.program import EpilogueStage, KPUOp, KPUTensor

# Operands in, results out. Operands are the op's own; a kernel that takes over stages which have
# operands gets those too, after its own.
Kernel = Callable[[Sequence[Tensor]], Sequence[Tensor]]


@dataclass(frozen=True)
class Site:
    """One op of a program where a kernel is to be prepared: all that is known before any input.

    attributes: complete; shapes: of the op's own operands; constants: index of one -> value.
    inputs, outputs: all the tensors that the op names, in its order.
    in_order: its result is wanted in the order of its shape rather than channels-last.
    overwritable: operands that nothing reads after this op, and whose memory holds nothing else.
    place: where its result may lie in every run, nothing that is still needed being there.
    """

    op: KPUOp
    attributes: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    constants: Mapping[int, Tensor]
    inputs: tuple[KPUTensor, ...]
    outputs: tuple[KPUTensor, ...]
    in_order: bool = False
    overwritable: frozenset[int] = frozenset()
    place: Tensor | None = None

    @property
    def next_stage(self) -> EpilogueStage | None:
        """The first stage of the epilogue, which a kernel may take over."""
        return self.op.epilogue[0] if self.op.epilogue else None


@dataclass(frozen=True)
class Prepared:
    """A kernel ready to run.

    absorbed: constant operands that the kernel holds itself and does not read again.
    stages_done: how many of the epilogue's stages it applies itself.
    owns_results: its results are new memory, so that what follows may overwrite them.
    drops_nan: a NaN operand may leave no trace in the result (oneDNN's fused relu and clip).
    takes_codes: its coded operands come as codes: the op's own, and those of the stages it applies.
    gives_codes: its results are as the outputs store them, so it applies all stages.
    """

    kernel: Kernel
    absorbed: frozenset[int] = frozenset()
    stages_done: int = 0
    owns_results: bool = True
    drops_nan: bool = False
    takes_codes: bool = False
    gives_codes: bool = False


Prepare = Callable[[Site], Prepared]


def one(function: Callable[..., Tensor], owns_results: bool = True) -> Prepared:
    """A kernel of one operand and one result."""
    return Prepared(lambda operands: (function(operands[0]),), owns_results=owns_results)


def is_channels_last(x: Tensor) -> bool:
    """The elements of a 4-D tensor lie in NHWC order and in no other."""
    return (
        x.dim() == 4
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
    )


def in_order(x: Tensor) -> Tensor:
    """New memory that holds `x` in the order of its shape."""
    out = torch.empty(x.shape, dtype=x.dtype)
    fill(out, x)
    return out


def fill(target: Tensor, x: Tensor) -> None:
    """Copies `x` to `target`, a part of a tensor in the order of its shape. A channels-last map is
    turned over as a matrix, which torch does in blocks."""
    is_matrix = is_channels_last(x) and x.shape[0] == 1 and target[0].is_contiguous()
    if not is_matrix:
        target.copy_(x)
        return
    target[0].flatten(1).copy_(x[0].flatten(1))


def dense(x: Tensor) -> Tensor:
    """A channels-last map with its positions in one axis, [1, C, positions], in the order of its
    shape: torch turns a matrix over in blocks, but `cat` would do it element by element."""
    if x.dim() != 3 or x.shape[0] != 1 or x.is_contiguous():
        return x
    return x[0].contiguous().unsqueeze(0)


def look_up(table: Tensor, indices: Tensor) -> Tensor:
    """table[indices] in the memory order of the indices, which are int32."""
    if is_channels_last(indices):
        return look_up(table, indices.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return table.index_select(0, indices.reshape(-1)).view(indices.shape)
