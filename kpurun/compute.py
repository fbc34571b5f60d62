"""What the compute tiles do with one L1 tile: systolic blocks or vector work, in cycles.

Output-stationary arrays with double-buffered accumulators: while one block of results drains over
the vector unit, the next one accumulates.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import NamedTuple

from formats.precision import KPUPrecision
from kpurun.loops import Loops
from kpurun.machine import Machine
from kpurun.ops.loopnest import Role, Unit
from kpurun.plan import Plan

ACCUMULATOR_BYTES = 4  # of an array: fp32 or int32


class Place(NamedTuple):
    """Where a tile stands in the reduction of its outputs."""

    is_first: bool
    is_last: bool


class TileShape(NamedTuple):
    """One L1 tile as the compute tiles see it.

    batch, rows, columns, depth: systolic products and their reduction length. points: vector work
    in points of the loop nest. outputs: elements that drain, `drain_lane_ops` lane operations each.
    drain_read_bytes: what the drain edge reads from L1 (partial sums, residuals, biases).
    """

    unit: Unit
    precision: KPUPrecision
    batch: int
    rows: int
    columns: int
    depth: int
    points: int
    lane_ops: int
    outputs: int
    drain_lane_ops: int
    drain_read_bytes: int
    reduction_split: int

    @property
    def vector_ops(self) -> int:
        """Lane operations, those of the drain edge included."""
        own = self.points * self.lane_ops if self.unit is Unit.VECTOR else 0
        return own + self.outputs * self.drain_lane_ops


def tile_shape(plan: Plan, sizes: tuple[int, ...], loops: Loops, place: Place) -> TileShape:
    """What a tile of these sizes is to the compute tiles.

    Where a reduction spans several tiles, each but the first adds to the accumulators in L1 (one
    lane operation per output), and only the last continues into the epilogue.
    """
    nest = plan.work.nest
    outputs = prod([sizes[dim] for dim in plan.output_dims])
    drain_lane_ops = drain_read_bytes = 0
    if not place.is_first:
        drain_lane_ops += 1
        drain_read_bytes += plan.accumulator_bytes * outputs
    if place.is_last:
        drain_lane_ops += plan.work.epilogue_lane_ops
        drain_read_bytes += sum(each.buffer_bytes(sizes) for each in plan.drain_reads)
    return TileShape(
        unit=nest.unit,
        precision=plan.work.precision,
        batch=prod([sizes[dim] for dim in plan.roles[Role.BATCH]]),
        rows=prod([sizes[dim] for dim in plan.roles[Role.ROW]]),
        columns=prod([sizes[dim] for dim in plan.roles[Role.COLUMN]]),
        depth=prod([sizes[dim] for dim in plan.roles[Role.DEPTH]]),
        points=prod(sizes),
        lane_ops=nest.lane_ops,
        outputs=outputs,
        drain_lane_ops=drain_lane_ops,
        drain_read_bytes=drain_read_bytes,
        reduction_split=loops.reduction_split,
    )


def compute_cycles(shape: TileShape, machine: Machine) -> int:
    """Cycles during which arrays or vector units work on the tile."""
    if shape.unit is Unit.SYSTOLIC:
        return systolic_cycles(shape, machine)
    if shape.unit is Unit.VECTOR:
        return -(-shape.vector_ops // machine.all_lanes)
    return 0


class ArrayWork(NamedTuple):
    """What a tile asks of the arrays: `parts` equal pieces, each on whichever array is free.

    A part occupies its array for `occupied_cycles`, until the next part can follow in its wake; its
    results are there `tail_cycles` after that. read_cycles: what the drain edge reads beside.
    """

    parts: int
    occupied_cycles: int
    tail_cycles: int
    drain_cycles: int
    read_cycles: int


def array_work(shape: TileShape, machine: Machine) -> ArrayWork:
    """Blocks of rows × columns outputs, or shares of their reduction, of a systolic tile.

    A part takes K' = ⌈K / rate⌉ cycles, the skew r + c - 2 until its last element ends, and the
    drain max(r, ⌈r·c·lane_ops / lanes⌉): results leave row by row through the vector unit while the
    next part accumulates. So parts follow each other every max(K', drain) cycles, and skew and the
    shorter of K' and drain show only at the end.

    Split over s arrays, each reduces ⌈K / s⌉, leaves its part in L1 (r cycles), then adds up and
    finishes 1/s of the block.

    While the arrays run, their streamers use all of the SRAM bandwidth, so what the drain edge
    reads from L1 beside them (parts of other arrays or tiles, residuals) takes cycles of its own.
    """
    rows, columns = min(machine.rows, shape.rows), min(machine.columns, shape.columns)
    blocks = shape.batch * -(-shape.rows // machine.rows) * -(-shape.columns // machine.columns)
    split = shape.reduction_split
    depth_cycles = machine.rates[shape.precision].cycles(-(-shape.depth // split))
    drain_ops = split - 1 + shape.drain_lane_ops
    drain = max(rows, -(-rows * columns * drain_ops // (split * machine.lanes)))
    if split > 1:
        drain += rows
    merged_bytes = ACCUMULATOR_BYTES * shape.outputs * (split - 1)
    return ArrayWork(
        parts=blocks * split,
        occupied_cycles=max(depth_cycles, drain),
        tail_cycles=rows + columns - 2 + min(depth_cycles, drain),
        drain_cycles=drain,
        read_cycles=machine.sram.cycles(shape.drain_read_bytes + merged_bytes),
    )


def systolic_cycles(shape: TileShape, machine: Machine) -> int:
    """A tile alone, its parts dealt over the arrays; the busiest array decides.

    Without overlap_folds: n·(K' + R + C - 2) - 1, SCALE-Sim v3's rule for an output-stationary
    array: folds follow one another, every fold costs a full array, nothing drains.
    """
    work = array_work(shape, machine)
    per_array = -(-work.parts // machine.tiles)
    if not machine.overlap_folds:
        depth_cycles = machine.rates[shape.precision].cycles(
            -(-shape.depth // shape.reduction_split)
        )
        return per_array * (depth_cycles + machine.rows + machine.columns - 2) - 1
    return per_array * work.occupied_cycles + work.tail_cycles + work.read_cycles


def tile_classes(plan: Plan, loops: Loops) -> Iterator[tuple[tuple[int, ...], Place, int]]:
    """(sizes, place, number) of equal L1 tiles; together every one of the loops."""
    split = tuple(dict.fromkeys((*loops.l2_order, *loops.l1_order)))
    split += tuple(dim for dim in plan.reduced if dim not in split and _is_part(plan, loops, dim))
    sizes = list(loops.sizes)
    for combination in product(*(_kinds(plan, loops, dim) for dim in split)):
        count = 1
        is_first = is_last = True
        for dim, (size, place, times) in zip(split, combination, strict=True):
            sizes[dim] = size
            count *= times
            is_first = is_first and place.is_first
            is_last = is_last and place.is_last
        yield tuple(sizes), Place(is_first, is_last), count


def _is_part(plan: Plan, loops: Loops, dim: int) -> bool:
    """Whether the loops run over a part of the dimension only."""
    return loops.sizes[dim] < plan.dims[dim].size


def _kinds(plan: Plan, loops: Loops, dim: int) -> list[tuple[int, Place, int]]:
    """(size, place, number) of a dimension's L1 tiles; first and last ones are told apart only
    along a reduced dimension."""
    start, size = loops.starts[dim], loops.sizes[dim]
    l2_size, l1_size = loops.l2_tile[dim], loops.l1_tile[dim]
    l2_count, l1_count = loops.l2_count(dim), loops.l1_count(dim)
    rest = size - (l2_count - 1) * l2_size  # the last L2 tile
    numbers: Counter[int] = Counter()
    for each, times in ((l2_size, l2_count - 1), (rest, 1)):
        whole, part = divmod(each, l1_size)
        numbers[l1_size] += times * whole
        numbers[part] += times
    middle = Place(dim in plan.output_dims, dim in plan.output_dims)
    ends = []
    if dim in plan.reduced:
        begins, completes = start == 0, start + size == plan.dims[dim].size
        last = (rest % l1_size or l1_size, Place(begins and l1_count == 1, completes), 1)
        first = (min(l1_size, size), Place(begins, completes and l1_count == 1), 1)
        ends = [first, last] if l1_count > 1 else [first]
        numbers.subtract(each for each, _, _ in ends)
    return [*ends, *((each, middle, times) for each, times in numbers.items() if each * times)]
