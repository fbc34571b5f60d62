"""Where the tiles of an op's operands lie: the buffers that allocation gave, cut into copies.

The buffers of one tensor lie side by side, in the order in which kpurun.buffers lists them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from formats.errors import FileError
from formats.program import Buffer, KPUOp, MemoryType, TileConfig
from kpurun.buffers import aligned, l1_buffers, l2_buffers
from kpurun.plan import plan_of
from kpurun.work import Work

L1, L2 = MemoryType.SRAM_L1, MemoryType.SRAM_L2


class Side(NamedTuple):
    """An operand of an op: the number of a read or of a write."""

    is_write: bool
    number: int


@dataclass(frozen=True)
class Slots:
    """The copies of one buffer: `copies` tiles, each `stride` bytes after the one before."""

    address: int
    stride: int
    copies: int

    def address_of(self, fill: int) -> int:
        """Where the fill of that number goes: the copies take turns."""
        return self.address + fill % self.copies * self.stride


@dataclass(frozen=True)
class Places:
    """Slots of every operand in L1 and L2, and those of partial sums, by number of the write."""

    slots: dict[tuple[Side, MemoryType], Slots]
    accumulators: dict[int, Slots]


def places_of(
    op: KPUOp, work: Work, tiling: TileConfig | None, buffers: Iterable[Buffer]
) -> Places:
    """buffers: of this op. FileError if one is missing or too small for its tiles."""
    given = {(buffer.tensor_id, buffer.memory_type): buffer for buffer in buffers}
    plan = plan_of(work)
    sides = [
        (Side(is_write, number), operand)
        for is_write, operands in ((False, plan.reads), (True, plan.writes))
        for number, operand in enumerate(operands)
        if operand in plan.moved
    ]
    staged = [side for side, operand in sides if operand.staged]
    slots: dict[tuple[Side, MemoryType], Slots] = {}
    accumulators: dict[int, Slots] = {}
    used: dict[tuple[str, MemoryType], int] = {}
    for memory, keys, needed in (
        (L1, [side for side, _ in sides], l1_buffers(work, tiling)),
        (L2, staged, l2_buffers(work, tiling)),
    ):
        for number, each in enumerate(needed):  # operands in their order, then accumulators
            key = (each.tensor_id, memory)
            offset = used.get(key, 0)
            used[key] = offset + each.size_bytes
            address = _buffer(op, given, key, used[key]).base_address + offset
            if each.is_accumulator:
                number_of_write = op.output_ids.index(each.tensor_id)
                accumulators[number_of_write] = Slots(address, each.tile_bytes, 1)
            else:
                slots[keys[number], memory] = Slots(address, aligned(each.tile_bytes), each.copies)
    return Places(slots, accumulators)


def _buffer(
    op: KPUOp, given: dict[tuple[str, MemoryType], Buffer], key: tuple[str, MemoryType], needed: int
) -> Buffer:
    tensor_id, memory = key
    buffer = given.get(key)
    if buffer is None:
        raise FileError(f"op {op.id!r} has no {memory.value} buffer for {tensor_id!r}")
    if buffer.size_bytes < needed:
        raise FileError(
            f"the {memory.value} buffer of {tensor_id!r} for op {op.id!r} has "
            f"{buffer.size_bytes:,} bytes, its tiles need {needed:,}"
        )
    return buffer
