"""Second-order rounding of weights: each error is made up for by the weights still to be rounded.

The method of GPTQ (Frantar et al., 2022) after OBQ: with the covariance H of a kernel's inputs, the
weights of a row are rounded one after another; what rounding weight j leaves over, divided by the
diagonal of the inverse's Cholesky factor, is taken off the weights behind it, along that factor's
row. What is aimed at is the exact network's result (as in GPTAQ, Li et al., 2025): the weights of
least squares for the inputs that the kernel is given are rounded, not the trained ones. Means are
left to the bias.
"""

import math

import numpy as np
import torch
from torch import Tensor

from formats.precision import DType
from formats.quantized import CODE_RANGES
from kpuc.graph import Graph, Node
from kpurun.ops import OPS
from kpurun.ops.opdef import complete
from kpurun.ops.window import padded_for, taps, window_of

ROUNDING_VERSION = 1  # raise it with any change of the results: some are kept in files
DAMPING = 0.01  # of the mean diagonal: keeps directions that the samples do not show in their place
BLOCK = 128  # columns whose updates are gathered before they reach the columns behind the block
MOST_PRODUCTS = 4608  # of a sum, 512 channels · 3 · 3: the time grows with the cube
POSITIONS = 4096  # columns of inputs drawn over all samples: more gains less than 0.1 dB


def rounded(rows: Tensor, scales: Tensor, given: Tensor, exact: Tensor, dtype: DType) -> Tensor:
    """The weights on the grid: [groups, rows, products], with scales that broadcast to them.

    given, exact: inputs [groups, products, positions] of the kernel, and of it in the exact
    network. Where the samples say nothing (no finite covariance), weights go to the nearest codes.
    """
    highest = CODE_RANGES[dtype][1]
    unit = _unit(given)  # whose size is not theirs to say
    given, exact = _centred(given / unit), _centred(exact / unit)
    factor = _inverse_factor(_covariance(given))
    if factor is None or not bool(exact.isfinite().all()):
        return (rows / scales).round().clamp(-highest, highest) * scales
    lacking = (rows @ (exact - given)) @ given.transpose(1, 2) / given.shape[2]
    rows = rows + lacking @ factor.transpose(1, 2) @ factor
    weights = rows.clone()
    result = torch.empty_like(weights)
    steps = scales.expand_as(weights)
    products = weights.shape[2]
    for start in range(0, products, BLOCK):
        end = min(start + BLOCK, products)
        errors = torch.empty_like(weights[:, :, start:end])
        for column in range(start, end):
            step = steps[:, :, column]
            kept = (weights[:, :, column] / step).round().clamp(-highest, highest) * step
            result[:, :, column] = kept
            error = (weights[:, :, column] - kept) / factor[:, column, column, None]
            weights[:, :, column:end] -= error[:, :, None] * factor[:, None, column, column:end]
            errors[:, :, column - start] = error
        weights[:, :, end:] -= errors @ factor[:, start:end, end:]
    return result


def _centred(columns: Tensor) -> Tensor:
    return columns - columns.mean(dim=2, keepdim=True)


def _covariance(centred: Tensor) -> Tensor:
    """[groups, products, positions] -> [groups, products, products], with its damping."""
    found = centred @ centred.transpose(1, 2) / centred.shape[2]
    diagonal = found.diagonal(dim1=1, dim2=2)
    damping = DAMPING * diagonal.mean(dim=1, keepdim=True)
    diagonal += torch.where(damping > 0, damping, torch.ones_like(damping))
    return found


def _unit(values: Tensor) -> float:
    """A power of two near the largest of them: squares of what is divided by it stay in fp32."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return math.ldexp(1.0, math.frexp(largest)[1]) if 0 < largest < math.inf else 1.0


def _inverse_factor(matrices: Tensor) -> Tensor | None:
    """Upper U with Uᵀ·U the inverse of each matrix; None if one has no inverse.

    Turned end to end, the lower Cholesky factor of the turned matrix is an upper one with
    matrix = V·Vᵀ, and U = V⁻¹: one triangular inverse instead of a general one.
    """
    lower, failed = torch.linalg.cholesky_ex(matrices.flip(1, 2))
    if bool(failed.any()) or not bool(lower.isfinite().all()):
        return None
    turned = lower.flip(1, 2)
    unit = torch.eye(matrices.shape[1]).expand_as(matrices)
    found: Tensor = torch.linalg.solve_triangular(turned, unit, upper=True)
    return found


def columns_of(
    graph: Graph, node: Node, x: np.ndarray, limit: int, rng: np.random.Generator
) -> np.ndarray:
    """Inputs of a kernel as columns, [groups, products, positions], at most `limit` positions.

    x: real numbers of the first factor. The order of the products is that of the weight's.
    """
    attributes = complete(OPS[node.op_type], node.attributes)
    if node.op_type != "Conv":
        matrix = x.T if attributes.get("transA") else x
        lines = matrix.reshape(-1, matrix.shape[-1])
        return np.ascontiguousarray(lines[_drawn(len(lines), limit, rng)].T[None], np.float32)
    window = window_of("Conv", attributes, tuple(graph.types[node.inputs[1]].shape[2:]))
    outputs = tuple(graph.types[node.outputs[0]].shape[2:])
    padded = padded_for(x, window, outputs, 0.0)
    drawn = _drawn(math.prod((len(x), *outputs)), limit, rng)
    image, *places = np.unravel_index(drawn, (len(x), *outputs))
    # [channels, images, outputs…] of every tap, at the places drawn: [channels, positions].
    samples = (np.moveaxis(tap, 1, 0) for tap in taps(padded, window, outputs))
    index: tuple[slice | np.ndarray, ...] = (slice(None), image, *places)
    picked = [tap[index] for tap in samples]
    columns = np.stack(picked, axis=1).reshape(attributes["group"], -1, len(drawn))
    return np.ascontiguousarray(columns, np.float32)


def _drawn(count: int, limit: int, rng: np.random.Generator) -> np.ndarray:
    """`limit` of `count` positions in order, or all."""
    if count <= limit:
        return np.arange(count)
    return np.sort(rng.choice(count, limit, replace=False))
