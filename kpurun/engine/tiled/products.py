"""Convolutions and matrix products of one tile: a sum over the dimensions that no output follows.

Nothing but the loop nest says which elements meet, so that a wrong nest gives a wrong result.
"""

import numpy as np

from kpurun.engine.codes import output_scales
from kpurun.engine.tiled.operands import Labels, folded, unrolled
from kpurun.engine.tiled.tile import Tile


def partial_products(tile: Tile) -> np.ndarray:
    """The sums of the tile, in the shape of its output: float64 of codes (whole numbers, unless
    groups have scales), else float32."""
    factors = [_factor(tile, number) for number in (0, 1)]
    (left, left_dims), (right, right_dims) = (
        unrolled(factor, tile.plan.reads[number], tile.block, padding=0)
        for number, factor in enumerate(factors)
    )
    with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN are values here
        total, dims = _contracted(left, left_dims, right, right_dims, tile.plan.output_dims)
    return folded(total, dims, tile.plan.writes[0], tile.block)


def drained(tile: Tile, total: np.ndarray) -> np.ndarray:
    """float32 result from the complete sums: scales, alpha, bias."""
    attributes = tile.attributes
    with np.errstate(over="ignore", invalid="ignore"):
        if attributes.get("alpha", 1) != 1:
            total = total * np.float32(attributes["alpha"])
        result = np.asarray(total.astype(np.float32))
        if tile.multiplies_codes:
            result = result * _output_scales(tile, result.ndim)
        if tile.op.operand_count < 3:
            return result
        bias = tile.real(2)
        if attributes.get("beta", 1) != 1 or tile.multiplies_codes:
            bias = bias * np.float32(attributes.get("beta", 1))
        return np.asarray(result + (_over_channels(tile, bias, result.ndim)))


def _factor(tile: Tile, number: int) -> np.ndarray:
    """Codes less their zero point, times the scales of their groups; or real numbers."""
    if not tile.multiplies_codes:
        return tile.real(number)
    tensor = tile.tensor(number)
    centred = tile.stored(number).astype(np.float64) - (tensor.zero_point or 0)
    return centred * tile.scales(number) if tensor.group_size else centred


def _contracted(
    left: np.ndarray,
    left_dims: Labels,
    right: np.ndarray,
    right_dims: Labels,
    output_dims: frozenset[int],
) -> tuple[np.ndarray, Labels]:
    """Σ left · right over the dimensions outside of the output, as one batched matrix product."""
    shared = [dim for dim in left_dims if dim in right_dims]
    batch = [dim for dim in shared if dim in output_dims]
    depth = [dim for dim in shared if dim not in output_dims]
    rows = [dim for dim in left_dims if dim not in shared]
    columns = [dim for dim in right_dims if dim not in shared]
    sizes = dict(zip((*left_dims, *right_dims), (*left.shape, *right.shape), strict=True))

    def matrix(array: np.ndarray, dims: Labels, *groups: list[int]) -> np.ndarray:
        order = [dims.index(dim) for group in groups for dim in group]
        lengths = [int(np.prod([sizes[dim] for dim in group])) for group in groups]
        return array.transpose(order).reshape(lengths)

    product = np.matmul(
        matrix(left, left_dims, batch, rows, depth),
        matrix(right, right_dims, batch, depth, columns),
    )
    dims = (*batch, *rows, *columns)
    return product.reshape([sizes[dim] for dim in dims]), dims


def _output_scales(tile: Tile, rank: int) -> np.ndarray:
    """What one unit of a sum of codes stands for, of the tile's channels."""
    factors = [tile.tensor(0), tile.tensor(1)]
    values = {
        tensor.scales: tile.scales(number).ravel()
        for number, tensor in enumerate(factors)
        if tensor.scales is not None and not tensor.group_size
    }
    return output_scales(tile.op.op_type, factors, values)


def _over_channels(tile: Tile, vector: np.ndarray, rank: int) -> np.ndarray:
    """The bias of a Conv along its channels; that of a Gemm broadcasts by itself."""
    return vector.reshape(-1, *(1,) * (rank - 2)) if tile.op.op_type == "Conv" else vector
