"""The tile of every op, and the buffers that its operands pass through on their way to L1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.precision import size_in_bytes
from formats.program import MemoryType, TileConfig
from kpuc.allocate import aligned
from kpuc.graph import Node
from kpuc.scheduled import Scheduled
from kpuc.tile import tile
from kpurun.buffers import StagingBuffer, l1_buffers, l2_buffers
from kpurun.ops.loopnest import Unit
from kpurun.transfer import ALIGNMENT_BYTES
from kpurun.work import Operand, Work

BUDGET_BITS = 5  # of a budget, rounded down so that equal ops share a search


class Staged(NamedTuple):
    """The buffers of one operand of one op, all copies together."""

    tensor_id: str
    size_bytes: int
    copies: int


class Tiled(NamedTuple):
    """One op in tiles: its buffers in L2 and in L1."""

    tiling: TileConfig
    in_l2: tuple[Staged, ...]
    in_l1: tuple[Staged, ...]


@dataclass(frozen=True)
class TooTight:
    """An op that no tile fits into its L2 budget; `needed_bytes` is the least it takes."""

    needed_bytes: int


class Tiler:
    """Tiles the ops of one schedule, remembering what it has searched."""

    def __init__(self, scheduled: Scheduled, config: KPUConfig) -> None:
        self._scheduled = scheduled
        self._config = config
        self._found: dict[tuple[Work, int, bool, bool], Tiled | TooTight] = {}

    def tiled(
        self,
        node: Node,
        memory: Mapping[str, MemoryType],
        budget_bytes: int,
        loads_ahead: bool,
    ) -> Tiled | TooTight:
        """The op's best tile when it may use `budget_bytes` of L2 for staging.

        MemoryError for an op that does not fit even when it has L2 to itself.
        """
        work = self._scheduled.work(node, memory)
        budget = _rounded(min(budget_bytes, _most_useful(work)))
        hands_over = node.id in self._scheduled.handing_over
        key = (_anonymous(work), budget, loads_ahead, hands_over)
        if key not in self._found:
            self._found[key] = self._search(*key)
        found = self._found[key]
        return found if isinstance(found, TooTight) else _named(found, work)

    def _search(
        self, work: Work, budget_bytes: int, loads_ahead: bool, hands_over: bool
    ) -> Tiled | TooTight:
        try:
            tiling = tile(work, self._config, budget_bytes, loads_ahead, hands_over)
        except MemoryError as error:
            tile(work, self._config, self._config.memory.sram_l2_bytes)
            return TooTight(error.required)
        if not hands_over:
            tiling = self._with_third_copy(work, tiling)
        return Tiled(
            tiling=tiling,
            in_l2=_staged(l2_buffers(work, tiling)),
            in_l1=_staged(l1_buffers(work, tiling)),
        )

    def _with_third_copy(self, work: Work, tiling: TileConfig) -> TileConfig:
        """One more tile in L1 where there is room: arrays that have done their parts of one tile
        need not wait for a copy that others still read."""
        if not tiling.double_buffer or work.nest.unit is not Unit.SYSTOLIC:
            return tiling
        more = replace(tiling, prefetch_distance=tiling.prefetch_distance + 1)
        needed = sum(each.size_bytes for each in l1_buffers(work, more))
        return more if needed <= self._config.memory.sram_l1_bytes else tiling


def budget_for(needed_bytes: int) -> int:
    """A budget that is still enough when it is rounded down."""
    return needed_bytes + (needed_bytes >> (BUDGET_BITS - 1)) + 1


def _rounded(budget_bytes: int) -> int:
    """Down to a number of few binary digits."""
    if budget_bytes <= 0:
        return 0
    shift = max(0, budget_bytes.bit_length() - BUDGET_BITS)
    return budget_bytes >> shift << shift


def _most_useful(work: Work) -> int:
    """No op gains from more staging than four copies of everything that it stages."""
    return 4 * sum(
        aligned(size_in_bytes(prod(operand.shape), operand.dtype), ALIGNMENT_BYTES)
        for operand in (*work.reads, *work.writes)
        if operand.memory_type is MemoryType.DRAM
    )


def _anonymous(work: Work) -> Work:
    """The work with numbers for tensor ids, so that equal ops are equal."""
    numbers = {tensor_id: str(number) for number, tensor_id in enumerate(_tensor_ids(work))}

    def numbered(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return tuple(replace(each, tensor_id=numbers[each.tensor_id]) for each in operands)

    return replace(work, reads=numbered(work.reads), writes=numbered(work.writes))


def _named(tiled: Tiled, work: Work) -> Tiled:
    """The op's own tensor ids in place of the numbers."""
    names = _tensor_ids(work)

    def named(buffers: tuple[Staged, ...]) -> tuple[Staged, ...]:
        return tuple(each._replace(tensor_id=names[int(each.tensor_id)]) for each in buffers)

    return tiled._replace(in_l2=named(tiled.in_l2), in_l1=named(tiled.in_l1))


def _tensor_ids(work: Work) -> list[str]:
    return list(dict.fromkeys(operand.tensor_id for operand in (*work.reads, *work.writes)))


def _staged(buffers: Sequence[StagingBuffer]) -> tuple[Staged, ...]:
    """One entry per tensor: an operand's buffers and its accumulators lie side by side."""
    merged: dict[str, Staged] = {}
    for each in buffers:
        before = merged.get(each.tensor_id, Staged(each.tensor_id, 0, 1))
        merged[each.tensor_id] = Staged(
            each.tensor_id, before.size_bytes + each.size_bytes, max(before.copies, each.copies)
        )
    return tuple(merged.values())
