"""A register-level model of one array: every element, every cycle.

Output-stationary: row i of A enters at the left of row i, i cycles late; column j of B at the top
of column j, j cycles late. Every element multiplies what it holds, adds to the accumulator of the
block that the operands belong to, and hands both on to its neighbours.
"""

from collections.abc import Callable, Sequence

import numpy as np

Block = tuple[np.ndarray, np.ndarray]  # A [r, K] and B [K, c]


def run_array(
    size: tuple[int, int], blocks: Sequence[Block], drain_of: Callable[[int, int], int]
) -> tuple[list[np.ndarray], int]:
    """Products of blocks of one depth that are at most `size` (rows, columns).

    drain_of: cycles in which the drain edge takes a block of so many rows and columns. A block
    whose last element is done queues for it; the next one is fed at once, or so late that the
    drain of the first (the largest) keeps up. Returns the products and the cycle after the last
    result has left.
    """
    depth = blocks[0][0].shape[1]
    shapes = [(a.shape[0], b.shape[1]) for a, b in blocks]
    period = max(depth, drain_of(*shapes[0]))
    left, top = np.zeros(size), np.zeros(size)
    owner = np.full((2, *size), -1)  # block that the operand from the left, from above belongs to
    sums, steps = np.zeros((len(blocks), *size)), np.zeros((len(blocks), *size), int)
    cycle = drained = finished = 0
    while finished < len(blocks):
        left[:, 1:], top[1:, :] = left[:, :-1].copy(), top[:-1, :].copy()
        owner[0, :, 1:], owner[1, 1:, :] = owner[0, :, :-1].copy(), owner[1, :-1, :].copy()
        for i in range(size[0]):
            left[i, 0], owner[0, i, 0] = _fed([a for a, _ in blocks], cycle - i, period, i)
        for j in range(size[1]):
            top[0, j], owner[1, 0, j] = _fed([b.T for _, b in blocks], cycle - j, period, j)
        rows, columns = np.nonzero((owner[0] == owner[1]) & (owner[0] >= 0))
        owners = owner[0, rows, columns]
        sums[owners, rows, columns] += left[rows, columns] * top[rows, columns]
        steps[owners, rows, columns] += 1
        cycle += 1
        while finished < len(blocks) and _is_done(steps[finished], shapes[finished], depth):
            drained = max(drained, cycle) + drain_of(*shapes[finished])
            finished += 1
    return [one[:r, :c] for one, (r, c) in zip(sums, shapes, strict=True)], drained


def _fed(operands: list[np.ndarray], cycle: int, period: int, lane: int) -> tuple[float, int]:
    """What enters a lane in a cycle since its first: the number, and its block (-1: nothing)."""
    number, k = divmod(cycle, period)
    if not 0 <= number < len(operands):
        return 0.0, -1
    lanes, depth = operands[number].shape
    if lane >= lanes or k >= depth:
        return 0.0, -1
    return float(operands[number][lane, k]), number


def _is_done(steps: np.ndarray, shape: tuple[int, int], depth: int) -> bool:
    rows, columns = shape
    return bool((steps[:rows, :columns] == depth).all())
