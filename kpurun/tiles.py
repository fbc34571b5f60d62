"""An op's loop nest and its TileConfig as the commands the machine executes, in order.

Loads and stores move rectangular pieces between neighbouring memories, a Compute works on what L1
holds. An operand whose tile does not change from one step to the next is not loaded again; a result
is stored when the loops leave its tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from formats.errors import LimitError
from formats.program import MemoryType, TileConfig
from kpurun.buffers import StagingBuffer, l1_buffers, l2_buffers
from kpurun.compute import Place, TileShape, tile_shape
from kpurun.loops import (
    Block,
    Loops,
    all_tiles,
    interleaves_reductions,
    loop_problems,
    resolve,
    tile_count,
)
from kpurun.ops.loopnest import Unit
from kpurun.plan import OperandPlan, Plan, plan_of
from kpurun.traffic import granules_of
from kpurun.transfer import Transfer
from kpurun.work import Work

__all__ = [
    "Command",
    "Compute",
    "Load",
    "StagingBuffer",
    "Store",
    "l1_buffers",
    "l2_buffers",
    "tile_commands",
    "tiling_problems",
]

DRAM, L2, L1 = MemoryType.DRAM, MemoryType.SRAM_L2, MemoryType.SRAM_L1

MOST_TILES = 1 << 20  # of an op whose commands are made one by one

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Load:
    """A piece of `work.reads[operand]` moves one memory closer, before `step` computes.

    spans: half-open range of each axis of the tensor (of a scattered operand: how much, not where).
    """

    step: int
    operand: int
    tensor_id: str
    source: MemoryType
    target: MemoryType
    spans: Spans
    transfer: Transfer


@dataclass(frozen=True)
class Compute:
    """The compute tiles work on one L1 tile: `starts` and `sizes` along the nest's dimensions.

    place: where the tile stands in the reduction of its outputs; the last one completes them.
    """

    step: int
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    place: Place
    shape: TileShape


@dataclass(frozen=True)
class Store:
    """A piece of `work.writes[operand]` moves one memory away, after `step` has computed."""

    step: int
    operand: int
    tensor_id: str
    source: MemoryType
    target: MemoryType
    spans: Spans
    transfer: Transfer


Command = Load | Compute | Store


def tiling_problems(work: Work, tiling: TileConfig) -> Iterator[str]:
    """Why the op cannot be executed in these tiles, one sentence each."""
    found = list(loop_problems(work.nest, tiling))
    yield from found
    if found:
        return
    plan, loops = plan_of(work), resolve(work.nest, tiling)
    if interleaves_reductions(loops, plan.output_dims):
        yield "the loop order leaves an output tile before its reduction is complete"
    if not plan.writes_once(loops):
        yield "tiles of these sizes would write elements twice"


def tile_commands(work: Work, tiling: TileConfig | None) -> Iterator[Command]:
    """Every command of one op in program order; none for a view.

    Of one step: DRAM to L2 loads, L2 to L1 loads (what is in L2 already first), the Compute, then
    the stores of the results that are complete.
    """
    if work.nest.unit is Unit.VIEW:
        return
    if problems := list(tiling_problems(work, tiling or TileConfig())):
        raise ValueError(f"no legal tiling: {'; '.join(problems)}")
    plan, loops = plan_of(work), resolve(work.nest, tiling)
    if (count := tile_count(loops)) > MOST_TILES:
        raise LimitError(f"an op of {count:,} tiles is not played: {MOST_TILES:,} are the most")
    walk = _Walk(plan, loops)
    blocks = list(all_tiles(loops))
    for step, (l2_block, block) in enumerate(blocks):
        yield from walk.loads(step, l2_block, block)
        if work.nest.unit is not Unit.MOVE:
            yield walk.compute(step, block)
        following = blocks[step + 1] if step + 1 < len(blocks) else None
        yield from walk.stores(step, l2_block, block, following)


class _Walk:
    """What L1 and L2 hold of each operand while the loops run."""

    def __init__(self, plan: Plan, loops: Loops) -> None:
        self._plan = plan
        self._loops = loops
        self._held: dict[tuple[int, MemoryType], Block] = {}
        operands = (*plan.reads, *plan.writes)
        self._l1_granules = {op: granules_of(op, loops, staging=False) for op in operands}
        self._l2_granules = {
            op: granules_of(op, loops, staging=True) for op in operands if op.staged
        }

    def loads(self, step: int, l2_block: Block, block: Block) -> Iterator[Load]:
        reads = list(enumerate(self._plan.reads))
        for number, operand in reads:
            if operand.staged and self._is_new(number, operand, L2, l2_block):
                yield from self._load(step, number, operand, DRAM, L2, l2_block, l2_block)
        for number, operand in sorted(reads, key=lambda numbered: numbered[1].staged):
            if self._is_new(number, operand, L1, block):
                yield from self._load(step, number, operand, L2, L1, l2_block, block)

    def compute(self, step: int, block: Block) -> Compute:
        reduced = self._plan.reduced
        place = Place(
            is_first=all(block.starts[dim] == 0 for dim in reduced),
            is_last=all(
                block.starts[dim] + block.sizes[dim] == self._loops.sizes[dim] for dim in reduced
            ),
        )
        shape = tile_shape(self._plan, block.sizes, self._loops, place)
        return Compute(step, block.starts, block.sizes, place, shape)

    def stores(
        self, step: int, l2_block: Block, block: Block, following: tuple[Block, Block] | None
    ) -> Iterator[Store]:
        writes = list(enumerate(self._plan.writes))
        for number, operand in writes:
            if following is None or _differs(operand, block, following[1]):
                yield from self._store(step, number, operand, L1, L2, l2_block, block)
        for number, operand in writes:
            if operand.staged and (following is None or _differs(operand, l2_block, following[0])):
                yield from self._store(step, number, operand, L2, DRAM, l2_block, l2_block)

    def _is_new(self, number: int, operand: OperandPlan, memory: MemoryType, block: Block) -> bool:
        held = self._held.get((number, memory))
        self._held[number, memory] = block
        return held is None or _differs(operand, held, block)

    def _load(
        self,
        step: int,
        number: int,
        operand: OperandPlan,
        source: MemoryType,
        target: MemoryType,
        l2_block: Block,
        block: Block,
    ) -> Iterator[Load]:
        spans, transfer = self._piece(operand, l2_block, block, source is DRAM)
        if transfer is not None:
            tensor_id = operand.operand.tensor_id
            yield Load(step, number, tensor_id, source, target, spans, transfer)

    def _store(
        self,
        step: int,
        number: int,
        operand: OperandPlan,
        source: MemoryType,
        target: MemoryType,
        l2_block: Block,
        block: Block,
    ) -> Iterator[Store]:
        spans, transfer = self._piece(operand, l2_block, block, target is DRAM)
        if transfer is not None:
            tensor_id = operand.operand.tensor_id
            yield Store(step, number, tensor_id, source, target, spans, transfer)

    def _piece(
        self, operand: OperandPlan, l2_block: Block, block: Block, staging: bool
    ) -> tuple[Spans, Transfer | None]:
        """The ranges of a tile, and its runs in the memory farther from the compute tiles."""
        axes = range(len(operand.axes))
        spans = tuple(operand.span(axis, *block) for axis in axes)
        if staging or not operand.staged:
            container = list(operand.container)
        else:
            staged = [operand.span(axis, *l2_block) for axis in axes]
            container = [high - low for low, high in staged]
        lengths = [high - low for low, high in spans]
        granules = (self._l2_granules if staging else self._l1_granules)[operand]
        return spans, operand.transfer(lengths, container, granules)


def _differs(operand: OperandPlan, one: Block, other: Block) -> bool:
    """Whether two tiles are different tiles of the operand."""
    return any(one.starts[dim] != other.starts[dim] for dim in operand.dims)
