"""Walking over the tiles of a loop nest, and poisoning what a tile does not read."""

from collections.abc import Iterator
from itertools import product
from math import prod

import numpy as np

from kpurun.ops import OPS, evaluate
from kpurun.ops.loopnest import Access, LoopNest
from kpurun.ops.opdef import complete, infer_types
from kpurun.ops.types import TensorType
from tests.op_case import OpCase

TILINGS_PER_CASE = 3

Sizes = dict[str, int]


def nest_of(case: OpCase) -> LoopNest:
    op = OPS[case.op]
    operands = tuple(operand.type for operand in case.operands)
    return op.loop_nest(
        complete(op, case.attributes), operands, infer_types(op, case.attributes, operands)
    )


def output_types(case: OpCase) -> tuple[TensorType, ...]:
    return infer_types(OPS[case.op], case.attributes, tuple(v.type for v in case.operands))


def legal_tilings(nest: LoopNest) -> Iterator[Sizes]:
    """Random tile sizes of the dimensions that may be split, ragged ones included."""
    random = np.random.default_rng(len(nest.dims))
    found = 0
    while found < TILINGS_PER_CASE:
        tile = {
            dim.name: int(random.integers(1, dim.size + 1)) if dim.splittable else dim.size
            for dim in nest.dims
        }
        if nest.writes_once(tile):
            found += 1
            yield tile


def written_dims(nest: LoopNest) -> set[str]:
    return {dim for access in nest.writes for axis in access.axes for dim, _ in axis.terms}


def output_tiles(nest: LoopNest, tile: Sizes) -> Iterator[tuple[Sizes, Sizes]]:
    """(start, size) of every tile of the results; reductions run over their whole range."""
    written = written_dims(nest)
    starts = [
        range(0, dim.size, tile[dim.name]) if dim.name in written else (0,) for dim in nest.dims
    ]
    for corner in product(*starts):
        start = {dim.name: low for dim, low in zip(nest.dims, corner, strict=True)}
        size = {
            dim.name: min(tile[dim.name], dim.size - start[dim.name])
            if dim.name in written
            else dim.size
            for dim in nest.dims
        }
        yield start, size


def region(access: Access, start: Sizes, size: Sizes) -> tuple[slice, ...]:
    return tuple(slice(*axis.span(start, size)) for axis in access.axes)


def elements(part: tuple[slice, ...]) -> int:
    return prod(bounds.stop - bounds.start for bounds in part)


def poison(
    array: np.ndarray, other: np.ndarray, access: Access, start: Sizes, size: Sizes
) -> np.ndarray:
    """`array` with NaN, or other integers, everywhere that the tile does not read."""
    if access.scattered:
        return array
    part = region(access, start, size)
    poisoned = np.full_like(array, np.nan) if array.dtype == np.float32 else other.copy()
    poisoned[part] = array[part]
    return poisoned


def assert_tiles_depend_only_on_what_they_read(case: OpCase) -> None:
    """Every tile of some tilings computes the same with all that it does not read poisoned."""
    nest = nest_of(case)
    arrays, others = case.arrays(), case.arrays(seed=1)
    results = evaluate(case.op, case.attributes, arrays)
    for tile in legal_tilings(nest):
        for start, size in output_tiles(nest, tile):
            poisoned = tuple(
                poison(array, other, access, start, size)
                for array, other, access in zip(arrays, others, nest.reads, strict=True)
            )
            from_poisoned = evaluate(case.op, case.attributes, poisoned)
            for access, whole, partial in zip(nest.writes, results, from_poisoned, strict=True):
                part = region(access, start, size)
                np.testing.assert_allclose(partial[part], whole[part], 1e-5, 1e-5)
