"""The operands of one L1 tile as arrays along the dimensions of the loop nest.

A piece of a tensor holds what lies inside of the tensor; what a window reaches beyond is made here.
"""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kpurun.loops import Block
from kpurun.plan import AxisPlan, OperandPlan

Spans = tuple[tuple[int, int], ...]
Labels = tuple[int, ...]  # the dimension that each axis of an array follows


def touched(operand: OperandPlan, block: Block) -> Spans:
    """Half-open ranges of an operand's axes that a tile touches, inside of the tensor."""
    return tuple(operand.span(axis, *block) for axis in range(len(operand.axes)))


def unrolled(
    piece: np.ndarray, operand: OperandPlan, block: Block, padding: float
) -> tuple[np.ndarray, Labels]:
    """A view of a piece (of the spans that `touched` gives) with an axis for every dimension that
    the operand follows, and those dimensions.

    padding: the value outside of the tensor.
    """
    reaches = [_reach(axis, block) for axis in operand.axes]
    padded = piece
    if piece.shape != tuple(reach for _, reach in reaches):
        padded = np.full([reach for _, reach in reaches], padding, piece.dtype)
        spans = touched(operand, block)
        inside = tuple(
            slice(low - first, high - first)
            for (first, _), (low, high) in zip(reaches, spans, strict=True)
        )
        if piece.size:
            padded[inside] = piece
    shape, strides, labels = [], [], []
    for axis, stride in zip(operand.axes, padded.strides, strict=True):
        for dim, step in axis.terms:
            shape.append(block.sizes[dim])
            strides.append(step * stride)
            labels.append(dim)
    return as_strided(padded, shape, strides, writeable=False), tuple(labels)


def folded(
    values: np.ndarray, labels: Sequence[int], operand: OperandPlan, block: Block
) -> np.ndarray:
    """The reverse of `unrolled` for a result: each of its elements is one combination of the
    dimensions that it follows. In the shape of its spans."""
    order = [
        labels.index(dim)
        for axis in operand.axes
        for dim, _ in sorted(axis.terms, key=lambda term: -term[1])
    ]
    return values.transpose(order).reshape([high - low for low, high in touched(operand, block)])


def _reach(axis: AxisPlan, block: Block) -> tuple[int, int]:
    """The first position of an axis that a tile reaches for, inside of the tensor or not, and how
    many there are until the last."""
    if not axis.terms:
        return 0, axis.size
    first = axis.offset + sum(step * block.starts[dim] for dim, step in axis.terms)
    return first, 1 + sum(step * (block.sizes[dim] - 1) for dim, step in axis.terms)
