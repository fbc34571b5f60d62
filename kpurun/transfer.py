"""A rectangular piece of a tensor as memory sees it: contiguous runs, and what moving them costs.

The order of the elements (NCHW or NHWC) and the cut of the tile decide how long the runs are; short
ones pay for whole lines, bursts and row activations. That is how layout shows in the cycles.
"""

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

from kpurun.machine import Machine

ALIGNMENT_BYTES = 64  # tensors and buffers start on a line
NHWC_ORDER = (0, 2, 3, 1)


class Transfer(NamedTuple):
    """`runs` contiguous runs of `run_bytes`, each starting at a multiple of `align_bytes`, within
    a range of `span_bytes`."""

    runs: int
    run_bytes: int
    align_bytes: int
    span_bytes: int

    @property
    def bytes(self) -> int:
        return self.runs * self.run_bytes

    def blocks(self, block_bytes: int) -> int:
        """Aligned blocks (lines, bursts) that must move, on average over the runs' alignments.

        A run of n bytes that starts at a multiple of a touches (n - a)/block + 1 blocks on average,
        n rounded up to a; neighbouring runs never need more blocks than the range they lie in.
        """
        align = gcd(self.align_bytes, block_bytes)
        padded_run = -(-self.run_bytes // align) * align
        padded_span = -(-self.span_bytes // align) * align
        by_run = -(-self.runs * (padded_run - align + block_bytes) // block_bytes)
        by_span = -(-(padded_span - align + block_bytes) // block_bytes)
        return min(by_run, by_span)


def physical_order(rank: int, layout_format: str) -> tuple[int, ...]:
    """Axes of the shape from the outermost to the innermost in memory."""
    return NHWC_ORDER if layout_format == "NHWC" and rank == 4 else tuple(range(rank))


def transfer_of(
    lengths: Sequence[int],
    container: Sequence[int],
    granules: Sequence[int],
    order: Sequence[int],
    bits: int,
    scattered: bool = False,
) -> Transfer:
    """The runs of a piece of `lengths` elements per axis, cut out of a tensor of shape `container`.

    granules: every piece of this cut starts at a multiple of this many elements on its axis (0:
    always at the start). order: axes from outermost to innermost in memory. bits: per element.
    scattered: positions on an axis that is not whole are picked one by one.
    """
    run = runs = stride = span = 1
    whole_so_far = True
    align = 8 * ALIGNMENT_BYTES
    for axis in reversed(order):
        length = lengths[axis]
        if whole_so_far and (length == container[axis] or not scattered):
            run *= length
        else:
            runs *= length
            if length > 1 or scattered:
                align = gcd(align, stride * bits)
        if length != container[axis]:
            whole_so_far = False
            align = gcd(align, stride * granules[axis] * bits)
        span += (length - 1) * stride
        stride *= container[axis]
    return Transfer(runs, -(-run * bits // 8), max(1, align // 8), -(-span * bits // 8))


def mover_cycles(transfer: Transfer, machine: Machine) -> int:
    """Block mover, L2 to L1 or back: whole lines at the SRAM rate, after decoding a descriptor."""
    lines = transfer.blocks(machine.line_bytes)
    return machine.mover_startup_cycles + machine.sram.cycles(lines * machine.line_bytes)


def dram_cycles(transfer: Transfer, machine: Machine) -> int:
    """DMA, DRAM to L2 or back: the open-page model in closed form.

    The bus is busy for whole bursts, the banks for the rows that must be opened (a run opens
    one, and one more for every row_bytes it crosses; runs that share a row share its activation);
    the longer of the two, stretched by refresh, after the start-up and latency of the first access.
    """
    bursts = transfer.blocks(machine.burst_bytes)
    opened = transfer.blocks(machine.row_bytes)
    busy_ticks = max(bursts * machine.burst_ticks, opened * machine.row_ticks)
    return machine.dma_startup_cycles - (-busy_ticks // machine.ticks_per_cycle)
