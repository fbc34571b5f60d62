"""What one tile of each op computes: an explicit row per op type, in three parts.

`partial` makes sums (or whatever is reduced) of one tile, `join` adds those of another tile of the
same outputs, `finish` makes numbers of the complete ones. The epilogue and the rounding follow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kpurun.engine.tiled import moves, products, reductions
from kpurun.engine.tiled.tile import Tile
from kpurun.ops import OPS
from kpurun.ops.loopnest import Unit

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Kernel:
    """join: None for what one tile must make alone."""

    partial: Callable[[Tile], Arrays]
    join: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    finish: Callable[[Tile, np.ndarray], np.ndarray] | None = None


def kernel_of(tile: Tile) -> Kernel:
    """The kernel of an op; KeyError if there is none."""
    if tile.plan.reads and tile.plan.reads[0].scattered:
        return Kernel(moves.picked)
    if tile.plan.work.nest.unit is Unit.MOVE and tile.op.op_type == "Cast":
        return RENAMED  # to the type that it has: a copy
    return KERNELS[tile.op.op_type]


def _reduction(
    partial: Callable[[Tile], np.ndarray],
    join: Callable[[np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[Tile, np.ndarray], np.ndarray] | None = None,
) -> Kernel:
    return Kernel(lambda tile: (partial(tile),), join, finish)


def _by_record(tile: Tile) -> Arrays:
    """Elementwise ops, and those whose rows are whole in every tile: the record's own meaning."""
    operands = [tile.real(number) for number in range(tile.op.operand_count)]
    return OPS[tile.op.op_type].compute(tile.attributes, *operands)


def _added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values, integers wrap
        return np.asarray(one + other)


PRODUCT = _reduction(products.partial_products, _added, products.drained)
SUM = _reduction(reductions.partial_sum, _added)
MEAN = _reduction(reductions.partial_sum, _added, reductions.mean)
BY_RECORD = Kernel(_by_record)
RENAMED = Kernel(moves.renamed)
JOINED = Kernel(moves.joined)

KERNELS: dict[str, Kernel] = {
    "Conv": PRODUCT,
    "MatMul": PRODUCT,
    "Gemm": PRODUCT,
    "MaxPool": _reduction(reductions.partial_maximum, np.maximum),
    "AveragePool": _reduction(reductions.partial_window_sum, _added, reductions.window_mean),
    "GlobalAveragePool": MEAN,
    "ReduceMean": MEAN,
    "ReduceSum": SUM,
    "Softmax": BY_RECORD,
    "BatchNormalization": BY_RECORD,
    "Add": BY_RECORD,
    "Sub": BY_RECORD,
    "Mul": BY_RECORD,
    "Div": BY_RECORD,
    "Relu": BY_RECORD,
    "Clip": BY_RECORD,
    "Sigmoid": BY_RECORD,
    "Tanh": BY_RECORD,
    "Swish": BY_RECORD,
    "HardSigmoid": BY_RECORD,
    "HardSwish": BY_RECORD,
    "LeakyRelu": BY_RECORD,
    "Cast": BY_RECORD,
    "Reshape": RENAMED,
    "Flatten": RENAMED,
    "Squeeze": RENAMED,
    "Unsqueeze": RENAMED,
    "Identity": RENAMED,
    "Transpose": JOINED,
    "Concat": JOINED,
    "Split": JOINED,
    "Slice": JOINED,
    "Pad": JOINED,
    "Gather": Kernel(moves.picked),
    "Shape": Kernel(moves.shape_of),
}
