"""A register-level model of one array, every element every cycle, against the closed form."""

from dataclasses import replace

import numpy as np
import pytest

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from kpurun.compute import TileShape, compute_cycles
from kpurun.machine import machine_of
from kpurun.ops.loopnest import Unit

SIZES = [(1, 1), (1, 4), (4, 1), (2, 3), (4, 4), (5, 2)]


def run_array(blocks: list[tuple[np.ndarray, np.ndarray]], drain_cycles: int):
    """Products A·B on an output-stationary array with registers between neighbours.

    Row i of A enters at the left of row i, i cycles late; column j of B at the top of column j, j
    cycles late. Every element multiplies what it holds, adds to the accumulator of the operands'
    block, and hands both on. A block whose last element is done queues for the drain edge; the
    next one is fed at once, or as soon as the drain will have taken the one before.
    Returns the products and the cycle after the last result has left.
    """
    rows, depth = blocks[0][0].shape
    columns = blocks[0][1].shape[1]
    left = np.zeros((rows, columns))
    top = np.zeros((rows, columns))
    owner = np.full((rows, columns), -1)  # block that the operands in an element belong to
    sums = np.zeros((len(blocks), rows, columns))
    steps = np.zeros((len(blocks), rows, columns), int)
    period = max(depth, drain_cycles)  # the drain must keep up
    cycle, drained, finished = 0, 0, 0
    while finished < len(blocks):
        left[:, 1:], top[1:, :] = left[:, :-1].copy(), top[:-1, :].copy()
        owner[:, 1:] = owner[:, :-1].copy()
        for i in range(rows):
            block, k = divmod(cycle - i, period)
            fed = 0 <= block < len(blocks) and k < depth
            left[i, 0] = blocks[block][0][i, k] if fed else 0
            owner[i, 0] = block if fed else -1
        for j in range(columns):
            block, k = divmod(cycle - j, period)
            fed = 0 <= block < len(blocks) and k < depth
            top[0, j] = blocks[block][1][k, j] if fed else 0
        for i, j in zip(*np.nonzero(owner >= 0), strict=True):
            sums[owner[i, j], i, j] += left[i, j] * top[i, j]
            steps[owner[i, j], i, j] += 1
        cycle += 1
        while finished < len(blocks) and (steps[finished] == depth).all():
            drained = max(drained, cycle) + drain_cycles
            finished += 1
    return sums, drained


@pytest.mark.parametrize(("rows", "columns"), SIZES)
@pytest.mark.parametrize("depth", [1, 2, 5, 9])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("lane_ops", [0, 1, 3])
def test_the_closed_form_counts_every_cycle(rows, columns, depth, count, lane_ops):
    rng = np.random.default_rng(rows * 1000 + columns * 100 + depth * 10 + count)
    blocks = [
        (rng.standard_normal((rows, depth)), rng.standard_normal((depth, columns)))
        for _ in range(count)
    ]
    lanes = 2
    drain = max(rows, -(-rows * columns * lane_ops // lanes))
    products, last = run_array(blocks, drain)
    for product, (a, b) in zip(products, blocks, strict=True):
        np.testing.assert_allclose(product, a @ b)

    one_array = replace(
        KPUConfig().compute,
        systolic_rows=rows,
        systolic_cols=columns,
        vector_lanes=lanes,
        compute_tiles=1,
    )
    machine = machine_of(replace(KPUConfig(), compute=one_array))
    shape = TileShape(
        unit=Unit.SYSTOLIC,
        precision=KPUPrecision.INT8,
        batch=count,
        rows=rows,
        columns=columns,
        depth=depth,
        points=count * rows * columns * depth,
        lane_ops=0,
        outputs=count * rows * columns,
        drain_lane_ops=lane_ops,
        drain_read_bytes=0,
        reduction_split=1,
    )
    assert compute_cycles(shape, machine) == last
