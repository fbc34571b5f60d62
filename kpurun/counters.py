"""What one op moves and does, counted from the same tile classes that its cycles come from."""

from math import prod

from kpurun.compute import TileShape, tile_classes, tile_shape
from kpurun.loops import Loops
from kpurun.machine import Machine
from kpurun.ops.loopnest import Unit
from kpurun.pipeline import Flow
from kpurun.plan import OperandPlan, Plan


def counts(plan: Plan, loops: Loops, flow: Flow, machine: Machine) -> dict[str, int]:
    """The counters of OpEstimate, by field name."""
    work = plan.work
    shapes = [
        (tile_shape(plan, sizes, loops, place), count)
        for sizes, place, count in tile_classes(plan, loops)
    ]
    outputs = sum(write.elements(loops.sizes) for write in plan.writes)
    rounds = prod(loops.l1_count(dim) for dim in plan.reduced)
    computes = work.nest.unit is not Unit.MOVE
    accumulations = outputs * (rounds * loops.reduction_split - 1) if computes else 0
    partial_bytes = plan.accumulator_bytes * accumulations
    stream_bytes = _stream_bytes(plan, loops, flow, shapes, machine)
    into_l1 = sum(l1.moved.bytes for _, l1 in flow.reads)
    out_of_l1 = sum(l1.moved.bytes for _, l1 in flow.writes)
    from_dram = sum(l2.moved.bytes for l2, _ in flow.reads)
    to_dram = sum(l2.moved.bytes for l2, _ in flow.writes)
    bursts = sum(l2.moved.blocks for l2, _ in (*flow.reads, *flow.writes))
    l1_misses = sum(l1.moved.blocks for _, l1 in flow.reads)
    l2_misses = min(l1_misses, sum(l2.moved.blocks for l2, _ in flow.reads))
    touched = sum(
        l1.once.blocks * _rounds(operand, loops)
        for operand, (_, l1) in zip(plan.reads, flow.reads, strict=True)
    )
    lanes_multiply = plan.multiplies and work.nest.unit is Unit.VECTOR
    return {
        "macs": work.nest.points if plan.multiplies else 0,
        "lane_macs": work.nest.points if lanes_multiply else 0,
        "lane_ops": sum(count * shape.vector_ops for shape, count in shapes),
        "accumulations": accumulations,
        "steps": sum(count for _, count in shapes),
        "dram_read_bytes": from_dram,
        "dram_write_bytes": to_dram,
        "dram_burst_bytes": bursts * machine.burst_bytes,
        "l2_read_bytes": into_l1 + to_dram,
        "l2_write_bytes": from_dram + out_of_l1,
        "l1_read_bytes": stream_bytes + partial_bytes + out_of_l1,
        "l1_write_bytes": into_l1 + partial_bytes + out_of_l1,
        "stream_bytes": stream_bytes,
        "l1_hits": touched - l1_misses,
        "l1_misses": l1_misses,
        "l2_hits": l1_misses - l2_misses,
        "l2_misses": l2_misses,
    }


def _rounds(operand: OperandPlan, loops: Loops) -> int:
    """How many steps work on each tile of an operand."""
    others = {*loops.l2_order, *loops.l1_order} - operand.dims
    return prod(loops.l1_count(dim) for dim in others)


def _stream_bytes(
    plan: Plan, loops: Loops, flow: Flow, shapes: list[tuple[TileShape, int]], machine: Machine
) -> int:
    """Bytes that the streamers feed from L1 to arrays and lanes.

    Arrays: every block is fed its rows and its columns, over its whole depth. Lanes: the first
    operand once per point; others once per tile, where they are kept.
    """
    unit = plan.work.nest.unit
    if unit is Unit.MOVE:
        return 0
    fed_by_point = 2 if unit is Unit.SYSTOLIC else 1
    kept = sum(
        l1.once.bytes * _rounds(operand, loops)
        for operand, (_, l1) in list(zip(plan.reads, flow.reads, strict=True))[fed_by_point:]
    )
    if unit is Unit.VECTOR:
        points = sum(count * shape.points for shape, count in shapes)
        return kept + points * plan.reads[0].bits // 8
    row_bits, column_bits = plan.reads[0].bits, plan.reads[1].bits
    fed_bits = sum(
        count * _block_bits(shape, machine, row_bits, column_bits) for shape, count in shapes
    )
    return kept + fed_bits // 8


def _block_bits(shape: TileShape, machine: Machine, row_bits: int, column_bits: int) -> int:
    row_blocks = -(-shape.rows // machine.rows)
    column_blocks = -(-shape.columns // machine.columns)
    fed = shape.rows * column_blocks * row_bits + shape.columns * row_blocks * column_bits
    return shape.batch * shape.depth * fed
