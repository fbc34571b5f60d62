"""One op's tile commands, executed: bytes between memories, tiles computed from bytes in L1."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from math import prod

import numpy as np

from formats.errors import CheckError, UnsupportedOpError
from formats.program import KPUOp, KPUProgram, KPUTensor, MemoryType, TileConfig
from kpurun.engine.reference import staged
from kpurun.engine.tiled.kernels import KERNELS, kernel_of
from kpurun.engine.tiled.memory import (
    AbsentError,
    Held,
    Memories,
    Positions,
    hold,
    lengths,
    ranges,
)
from kpurun.engine.tiled.moves import picked_positions
from kpurun.engine.tiled.operands import touched
from kpurun.engine.tiled.order import Fill, Step, Task, played, tasks_of
from kpurun.engine.tiled.partial_sums import PartialSums
from kpurun.engine.tiled.tile import Tile, encoded
from kpurun.loops import Block, all_tiles, resolve
from kpurun.ops import OPS
from kpurun.ops.loopnest import Unit
from kpurun.ops.opdef import complete
from kpurun.plan import OperandPlan, plan_of
from kpurun.slots import Side, places_of
from kpurun.tiles import Command, Load, Store
from kpurun.transfer import physical_order
from kpurun.work import Work, work_of

L1, L2, DRAM = MemoryType.SRAM_L1, MemoryType.SRAM_L2, MemoryType.DRAM

Commands = Callable[[Work, TileConfig | None], Iterable[Command]]
Route = tuple[MemoryType, MemoryType]


@dataclass
class Played:
    """What was executed of one op."""

    tiles: int = 0
    moved_bytes: Counter[Route] = field(default_factory=Counter)


class OpPlayer:
    """One op that moves something. Its results must have homes into which nothing was put yet."""

    def __init__(
        self, program: KPUProgram, op: KPUOp, memories: Memories, homes: Mapping[str, Held]
    ) -> None:
        if op.op_type not in KERNELS:
            raise UnsupportedOpError([op.op_type], [f"op {op.id} cannot be executed in tiles"])
        self._program = program
        self._op = op
        self._memories = memories
        self._homes = homes
        self._work = work_of(program, op)
        self._plan = plan_of(self._work)
        self._loops = resolve(self._work.nest, op.tiling)
        buffers = [buffer for buffer in program.buffers if buffer.op_id == op.id]
        self._places = places_of(op, self._work, op.tiling, buffers)
        self._blocks = list(all_tiles(self._loops))
        self._attributes = complete(OPS[op.op_type], op.attributes)
        self._held: dict[Fill, Held] = {}
        self._is_there: set[Fill] = set()  # loaded ahead of the op
        slots = self._places.accumulators.get(0)
        self._sums = PartialSums(program, op, memories, slots)
        self.report = Played()

    @property
    def can_run_ahead(self) -> bool:
        """Whether there are copies to load into while others are used."""
        return self._loops.copies > 1

    def load_ahead(self, commands: Commands, tensor_id: str) -> None:
        """Fill the copies of a tensor's buffer in L2, as an op before this one runs."""
        loads = (
            command
            for command in commands(self._work, self._op.tiling)
            if isinstance(command, Load) and (command.tensor_id, command.target) == (tensor_id, L2)
        )
        first = next(loads, None)
        if first is None:
            return
        side = Side(False, first.operand)
        copies = self._places.slots[side, L2].copies
        for number, command in enumerate(islice(chain([first], loads), copies)):
            fill = Fill(side, L2, number)
            self._execute(Task(command, target=fill))
            self._is_there.add(fill)

    def play(self, commands: Commands, runs_ahead: bool) -> Played:
        """Execute everything; CheckError where a command cannot find what it needs."""
        given = commands(self._work, self._op.tiling)
        tasks = tasks_of(given, self._plan, self._loops, self._places, runs_ahead)
        for task in played(tasks):
            if task.target not in self._is_there:
                self._execute(task)
        return self.report

    def _execute(self, task: Task) -> None:
        command = task.command
        self._memories.log.author = partial(self._where, command)
        try:
            if isinstance(command, Step):
                self._compute(command)
            elif isinstance(command, Load):
                self._load(command, task)
            else:
                self._store(command, task)
        except (CheckError, AbsentError) as error:
            raise CheckError(f"{self._where(command)}: {error}") from error

    def tile_for(self, tensor_id: str, element: tuple[int, ...]) -> str:
        """The last tile whose result an element of a tensor is."""
        operand = self._plan.writes[self._op.output_ids.index(tensor_id)]
        steps = [
            step
            for step, (_, block) in enumerate(self._blocks)
            if all(
                low <= at < high
                for (low, high), at in zip(touched(operand, block), element, strict=True)
            )
        ]
        return self._tile_named(steps[-1]) if steps else named(self._op)

    def _load(self, command: Load, task: Task) -> None:
        operand = self._plan.reads[command.operand]
        tensor = self._program.tensors[command.tensor_id]
        positions: Positions = tuple(ranges(command.spans))
        if operand.scattered:
            l2_block, l1_block = self._blocks[command.step]
            block = l2_block if command.source is DRAM else l1_block
            positions = self._fetched(operand, block)
        bits = self._read(self._source(tensor, task), positions, tensor)
        assert task.target is not None, "a load has a fill"
        self._begin(task.target, tensor, positions).fill(positions, bits)
        self._count(command, bits, operand)

    def _store(self, command: Store, task: Task) -> None:
        operand = self._plan.writes[command.operand]
        tensor = self._program.tensors[command.tensor_id]
        positions = tuple(ranges(command.spans))
        assert task.source is not None, "a store has a fill"
        if task.source not in self._held:
            raise CheckError(f"there is no result of {tensor.id!r} to store")
        bits = self._read(self._held[task.source], positions, tensor)
        target = self._homes[tensor.id]
        if task.target is not None:
            if task.target not in self._held:
                l2_block, _ = self._blocks[command.step]
                staged_positions = tuple(ranges(touched(operand, l2_block)))
                self._begin(task.target, tensor, staged_positions)
            target = self._held[task.target]
        if target.is_filled(positions):
            raise CheckError(f"a part of {tensor.id!r} is stored twice")
        target.fill(positions, bits)
        self._count(command, bits, operand)

    def _compute(self, step: Step) -> None:
        tile = self._tile(step.block, lambda number: self._operand(step, number))
        kernel = kernel_of(tile)
        self.report.tiles += 1
        if step.is_last:
            self._begin_results(step)
        results = kernel.partial(tile)
        positions = tuple(ranges(touched(self._plan.writes[0], step.block)))
        if not step.is_first:
            results = (self._sums.total(results[0], positions, kernel.join),)
        if not step.is_last:
            self._sums.keep(results[0], positions)
            return
        if kernel.finish is not None:
            results = (kernel.finish(tile, results[0]),)
        if self._op.epilogue:
            operands = {
                stage.operand: tile.real(stage.operand)
                for stage in self._op.epilogue
                if stage.operand is not None
            }
            results = (staged(self._op, results[0], operands),)
        for number, result in enumerate(results):
            self._keep(step, number, result)

    def _begin_results(self, step: Step) -> None:
        """Results drain while operands are still read: their bytes change before anything is."""
        for number, operand in enumerate(self._plan.writes):
            positions = tuple(ranges(touched(operand, step.block)))
            if prod(lengths(positions)):
                tensor = self._program.tensors[self._op.output_ids[number]]
                self._begin(step.writes[number], tensor, positions).box.spoil()

    def _keep(self, step: Step, number: int, result: np.ndarray) -> None:
        """A complete result goes to L1, rounded unless its bits were only moved."""
        if not result.size:
            return
        held = self._held[step.writes[number]]
        is_raw = self._work.nest.unit is Unit.MOVE and self._op.op_type != "Shape"
        held.fill(held.positions, result if is_raw else encoded(result, held.tensor))

    def _tile(self, block: Block, bits: Callable[[int], np.ndarray]) -> Tile:
        return Tile(self._program, self._op, self._attributes, self._plan, block, bits)

    def _operand(self, step: Step, number: int) -> np.ndarray:
        """What L1 holds of a read, as much of it as the step touches."""
        operand, tensor = self._plan.reads[number], self._tensor(number)
        wanted: Positions = tuple(ranges(touched(operand, step.block)))
        if operand.scattered:
            indices = None
            if self._op.op_type == "Gather":
                indices = self._tile(step.block, lambda n: self._operand(step, n)).stored(1)
            wanted = picked_positions(self._tile(step.block, lambda _: np.empty(0)), indices)
        if not prod(lengths(wanted)):
            return np.zeros(lengths(wanted), self._homes[tensor.id].put.dtype)
        fill = step.reads.get(number)
        if fill is None or fill not in self._held:
            raise CheckError(f"nothing of {tensor.id!r} was loaded into L1")
        return self._read(self._held[fill], wanted, tensor)

    def _fetched(self, operand: OperandPlan, block: Block) -> Positions:
        """What a load of a scattered operand brings: each position that the block asks for, or all
        of an axis that has no more than that. DMA and mover look indices up where they live."""
        indices = None
        if self._op.op_type == "Gather":
            tensor = self._tensor(1)
            wanted = tuple(ranges(touched(self._plan.reads[1], block)))
            tile = self._tile(block, lambda _: self._homes[tensor.id].read(wanted))
            indices = tile.stored(1)
        picked = picked_positions(self._tile(block, lambda _: np.empty(0)), indices)
        return tuple(
            range(axis.size) if operand.extent(number, block.sizes) == axis.size else positions
            for number, (axis, positions) in enumerate(zip(operand.axes, picked, strict=True))
        )

    def _source(self, tensor: KPUTensor, task: Task) -> Held:
        if task.source is None:
            return self._homes[tensor.id]
        if task.source not in self._held:
            raise CheckError(f"nothing of {tensor.id!r} was loaded into L2")
        return self._held[task.source]

    def _read(self, held: Held, positions: Positions, tensor: KPUTensor) -> np.ndarray:
        try:
            return held.read(positions)
        except AbsentError as error:
            raise CheckError(
                f"{error} of {tensor.id!r} is not in the piece that {held.box.memory.value} holds"
            ) from error

    def _begin(self, fill: Fill, tensor: KPUTensor, positions: Positions) -> Held:
        """Room for a tile in the copy of its buffer whose turn it is."""
        slots = self._places.slots[fill.side, fill.memory]
        operands = self._plan.writes if fill.side.is_write else self._plan.reads
        operand = operands[fill.side.number]
        order = physical_order(len(positions), operand.operand.format)
        address = slots.address_of(fill.number)
        box = self._memories.box(fill.memory, address, lengths(positions), order, operand.bits)
        self._held.pop(fill._replace(number=fill.number - 2 * slots.copies), None)
        self._held[fill] = hold(tensor, box, positions)
        return self._held[fill]

    def _tensor(self, number: int) -> KPUTensor:
        return self._program.tensors[self._op.input_ids[number]]

    def _count(self, command: Load | Store, bits: np.ndarray, operand: OperandPlan) -> None:
        moved = -(-bits.size * operand.bits // 8)
        self.report.moved_bytes[command.source, command.target] += moved

    def _where(self, command: Load | Store | Step) -> str:
        return self._tile_named(command.step)

    def _tile_named(self, step: int) -> str:
        """The op and the tile, as a person finds them."""
        block = self._blocks[step][1]
        parts = [
            f"{dim.name} {start}:{start + size}"
            for dim, start, size in zip(self._plan.dims, *block, strict=True)
            if size < dim.size
        ]
        return f"{named(self._op)}, tile {step} ({', '.join(parts) or 'all of it'})"


def named(op: KPUOp) -> str:
    return f"op {op.id!r} ({op.op_type})"
