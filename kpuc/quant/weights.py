"""Scales and codes of constant weights: per output channel, per group of one, or one for all."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from formats.precision import DType
from formats.quantized import CODE_RANGES
from kpuc.graph import Graph, Node

# Candidates of a scale as shares of the one that just reaches the largest weight.
SHARES = {
    DType.INT8: np.linspace(0.80, 1.0, 21),
    DType.INT4: np.linspace(0.30, 1.0, 71),
}
LEAST_SCALE = np.float32(1e-12)  # of a channel of zeros, and far above what underflows


@dataclass(frozen=True)
class Rows:
    """A weight as rows, one per channel with a scale: [channels, products]."""

    array: np.ndarray
    axis: int
    shape: tuple[int, ...]

    def restored(self, rows: np.ndarray) -> np.ndarray:
        """Rows in the shape of the weight."""
        moved = (self.shape[self.axis], *np.delete(self.shape, self.axis))
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, self.axis))


def scale_axis(node: Node, weight_rank: int) -> int | None:
    """The axis of a kernel's constant second factor that its output channels follow.

    None where the scale cannot follow channels: a weight on the left, or one per matrix.
    """
    if node.op_type == "Conv":
        return 0
    if weight_rank != 2:
        return None
    return 0 if node.op_type == "Gemm" and node.attributes.get("transB", 0) else 1


def rows_of(weight: np.ndarray, axis: int) -> Rows:
    """The weight by output channel."""
    moved = np.moveaxis(weight, axis, 0)
    return Rows(np.ascontiguousarray(moved.reshape(len(moved), -1)), axis, weight.shape)


def channel_scales(rows: np.ndarray, dtype: DType, group_size: int = 0) -> np.ndarray:
    """float32 scales [channels] or [channels, groups] of least squared rounding error.

    Among the candidates is the power of two that reaches the largest weight: weights that are small
    multiples of one step (as a detector's distribution weights 0 … 15 are) stay exact.
    """
    if group_size:
        count, products = rows.shape
        groups = -(-products // group_size)
        padded = np.zeros((count, groups * group_size), np.float32)
        padded[:, :products] = rows
        return channel_scales(padded.reshape(-1, group_size), dtype).reshape(count, groups)
    highest = CODE_RANGES[dtype][1]
    reach = np.abs(rows).max(axis=1) / highest
    best: np.ndarray = np.maximum(reach, LEAST_SCALE).astype(np.float32)
    powers = np.exp2(np.ceil(np.log2(best))).astype(np.float32)
    least = _errors(rows, best, highest)
    for candidate in (powers, *(best * np.float32(share) for share in SHARES[dtype][::-1])):
        scales = np.maximum(candidate, LEAST_SCALE)
        errors = _errors(rows, scales, highest)
        best = np.where(errors < least, scales, best)
        least = np.minimum(errors, least)
    return best


def _errors(rows: np.ndarray, scales: np.ndarray, highest: int) -> np.ndarray:
    column = scales[:, None]
    rounded = np.rint(rows / column)
    np.clip(rounded, -highest, highest, out=rounded)
    rounded *= column
    rounded -= rows
    return np.asarray(np.einsum("rk,rk->r", rounded, rounded))


def on_grid(weight: np.ndarray, spread: np.ndarray, dtype: DType) -> np.ndarray:
    """The nearest weights that codes of these scales stand for."""
    highest = CODE_RANGES[dtype][1]
    return np.asarray(np.clip(np.rint(weight / spread), -highest, highest) * spread, np.float32)


def constant_factor(graph: Graph, node: Node) -> int | None:
    """Which of a kernel's two factors is a constant; None where both are activations."""
    return next((index for index in (1, 0) if node.inputs[index] in graph.constants), None)


def is_shared(readers: Mapping[str, tuple[Node, ...]], value: str) -> bool:
    """Whether several nodes read a constant."""
    return len(readers.get(value, ())) > 1
