"""What an op's tiles occupy in L1 and L2: the buffers that allocation must find room for."""

from dataclasses import dataclass

from formats.program import MemoryType, TileConfig
from kpurun.loops import Loops, resolve
from kpurun.ops.loopnest import Unit
from kpurun.plan import OperandPlan, Plan, plan_of
from kpurun.transfer import ALIGNMENT_BYTES
from kpurun.work import Work

L1, L2 = MemoryType.SRAM_L1, MemoryType.SRAM_L2


@dataclass(frozen=True)
class StagingBuffer:
    """What one op needs in L1 or L2 for the tiles of one operand, all copies on full lines.

    operand: its number among the op's reads, then its results; a tensor that is read twice has
    two. An accumulator buffer holds the partial sums of an output whose reduction is split.
    """

    operand: int
    tensor_id: str
    memory_type: MemoryType
    tile_bytes: int
    copies: int
    is_accumulator: bool = False

    @property
    def size_bytes(self) -> int:
        return self.copies * aligned(self.tile_bytes)


def l1_buffers(work: Work, tiling: TileConfig | None) -> tuple[StagingBuffer, ...]:
    """L1 tile buffers of one op: of its reads, its results and its accumulators; none of a view."""
    plan, loops = plan_of(work), resolve(work.nest, tiling)
    if work.nest.unit is Unit.VIEW:
        return ()
    buffers = [_buffer(plan, operand, loops, L1) for operand in plan.moved]
    accumulators = [
        StagingBuffer(number, write.operand.tensor_id, L1, size, 1, is_accumulator=True)
        for number, write in enumerate(plan.writes, len(plan.reads))
        if (size := _accumulator_bytes(plan, write, loops))
    ]
    return (*buffers, *accumulators)


def l2_buffers(work: Work, tiling: TileConfig | None) -> tuple[StagingBuffer, ...]:
    """L2 staging buffers of one op: of the operands that live in DRAM; none of a view."""
    plan, loops = plan_of(work), resolve(work.nest, tiling)
    if work.nest.unit is Unit.VIEW:
        return ()
    return tuple(_buffer(plan, operand, loops, L2) for operand in plan.moved if operand.staged)


def l1_bytes(plan: Plan, loops: Loops) -> int:
    """All L1 buffers of an op together."""
    tiles = sum(
        _copies(plan, each, loops, L1) * _copy_bytes(each, loops.l1_tile) for each in plan.moved
    )
    return tiles + sum(aligned(_accumulator_bytes(plan, each, loops)) for each in plan.writes)


def l2_bytes(plan: Plan, loops: Loops) -> int:
    """All L2 staging buffers of an op together."""
    return sum(
        _copies(plan, each, loops, L2) * _copy_bytes(each, loops.l2_tile)
        for each in plan.moved
        if each.staged
    )


def aligned(size_bytes: int) -> int:
    """Whole lines."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _buffer(
    plan: Plan, operand: OperandPlan, loops: Loops, memory_type: MemoryType
) -> StagingBuffer:
    tile = loops.l1_tile if memory_type is L1 else loops.l2_tile
    return StagingBuffer(
        operand=(*plan.reads, *plan.writes).index(operand),
        tensor_id=operand.operand.tensor_id,
        memory_type=memory_type,
        tile_bytes=operand.buffer_bytes(tile),
        copies=_copies(plan, operand, loops, memory_type),
    )


def _copies(plan: Plan, operand: OperandPlan, loops: Loops, memory_type: MemoryType) -> int:
    """An operand that stays the same for the whole op needs no second copy; nor does a result
    in L1 that several tiles add up to, for it has left long before the next one is complete."""
    if memory_type is L1:
        waits = operand in plan.writes and plan.splits_reduction(loops)
        return loops.copies if operand.changes(loops.l1_tile, loops.sizes) and not waits else 1
    return loops.l2_copies if operand.changes(loops.l2_tile, loops.sizes) else 1


def _copy_bytes(operand: OperandPlan, tile: tuple[int, ...]) -> int:
    return aligned(operand.buffer_bytes(tile))


def _accumulator_bytes(plan: Plan, write: OperandPlan, loops: Loops) -> int:
    """Partial sums stay in L1 while a reduction is spread over tiles."""
    if plan.work.nest.unit is Unit.MOVE or not plan.splits_reduction(loops):
        return 0
    return plan.accumulator_bytes * write.elements(loops.l1_tile)
