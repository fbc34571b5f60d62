"""The closed form of a systolic tile against a register-level model of one array."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from kpurun.compute import TileShape, compute_cycles
from kpurun.machine import Machine, machine_of
from kpurun.ops.loopnest import Unit
from tests.kpurun.systolic_array import Block, run_array

LANES = 2


def one_array(rows: int, columns: int) -> Machine:
    compute = replace(
        KPUConfig().compute,
        systolic_rows=rows,
        systolic_cols=columns,
        vector_lanes=LANES,
        compute_tiles=1,
    )
    return machine_of(replace(KPUConfig(), compute=compute))


def tile_of(batch: int, rows: int, columns: int, depth: int, lane_ops: int) -> TileShape:
    return TileShape(
        unit=Unit.SYSTOLIC,
        precision=KPUPrecision.INT8,
        batch=batch,
        rows=rows,
        columns=columns,
        depth=depth,
        points=batch * rows * columns * depth,
        lane_ops=0,
        outputs=batch * rows * columns,
        drain_lane_ops=lane_ops,
        drain_read_bytes=0,
        reduction_split=1,
    )


def drain_of(lane_ops: int):
    """A row leaves per cycle, or as fast as the lanes are done with the block."""
    return lambda rows, columns: max(rows, -(-rows * columns * lane_ops // LANES))


def random_block(rows: int, depth: int, columns: int) -> Block:
    random = np.random.default_rng(rows * 1000 + columns * 100 + depth)
    return random.standard_normal((rows, depth)), random.standard_normal((depth, columns))


def played(size: tuple[int, int], blocks: list[Block], lane_ops: int) -> int:
    """Cycles of the model, whose products are right."""
    products, cycles = run_array(size, blocks, drain_of(lane_ops))
    for found, (a, b) in zip(products, blocks, strict=True):
        np.testing.assert_allclose(found, a @ b)
    return cycles


@pytest.mark.parametrize("size", list(product(range(1, 6), repeat=2)), ids=str)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_closed_form_counts_every_cycle_of_full_blocks(size, count):
    for depth, lane_ops in product([1, 2, 3, 5, 8], [0, 1, 3]):
        blocks = [random_block(size[0], depth, size[1])] * count
        expected = compute_cycles(tile_of(count, *size, depth, lane_ops), one_array(*size))
        assert played(size, blocks, lane_ops) == expected, (depth, lane_ops)


@pytest.mark.parametrize("shape", list(product(range(1, 5), repeat=2)), ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_the_closed_form_counts_every_cycle_of_blocks_at_the_edge(shape, count):
    """Of an array of 4×4 only some rows and columns are fed."""
    for depth, lane_ops in product([1, 2, 5], [0, 3]):
        blocks = [random_block(shape[0], depth, shape[1])] * count
        expected = compute_cycles(tile_of(count, *shape, depth, lane_ops), one_array(4, 4))
        assert played((4, 4), blocks, lane_ops) == expected, (depth, lane_ops)


@pytest.mark.parametrize("rows", [5, 7, 8])
@pytest.mark.parametrize("columns", [3, 4, 9])
def test_a_product_of_several_blocks_ends_by_the_closed_form_and_not_before_its_macs(rows, columns):
    """The closed form takes every block for as large as the first: the last may be smaller."""
    for depth, lane_ops in product([1, 4, 9], [0, 3]):
        a, b = random_block(rows, depth, columns)
        blocks = [
            (a[i : i + 4], b[:, j : j + 4]) for i in range(0, rows, 4) for j in range(0, columns, 4)
        ]
        found = played((4, 4), blocks, lane_ops)
        expected = compute_cycles(tile_of(1, rows, columns, depth, lane_ops), one_array(4, 4))
        last = blocks[-1][0].shape[0], blocks[-1][1].shape[1]
        assert rows * columns * depth / 16 <= found <= expected
        if last == (4, min(4, columns)):
            assert found == expected


def test_a_full_block_of_the_machines_own_array():
    """16×16, K = 64: 64 + 30 to the last MAC, 16 rows drain."""
    assert played((16, 16), [random_block(16, 64, 16)], 0) == 94 + 16
