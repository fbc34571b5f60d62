"""A whole program in tiles, op by op against the reference engine on the operands it really had.

Every op that is right makes the next one start from the same values, so a program whose ops all
agree computes what the reference engine computes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

import formats
from formats.errors import CheckError, UnsupportedOpError
from formats.precision import DType
from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.quantized import reals
from kpurun.engine.tiled.expected import Expected, expected_of
from kpurun.engine.tiled.kernels import KERNELS
from kpurun.engine.tiled.memory import RAW_TYPES, Held, Memories, first_of, hold, whole
from kpurun.engine.tiled.player import Commands, OpPlayer, Route, named
from kpurun.engine.tiled.tile import decoded, encoded, values_kept
from kpurun.ops import op_named
from kpurun.ops.loopnest import Unit
from kpurun.ops.opdef import complete
from kpurun.tiles import tile_commands
from kpurun.work import work_of

Arrays = Mapping[str, np.ndarray]


@dataclass
class TileReport:
    """What was executed and found equal. views: ops that move nothing. moved_bytes: by route.
    outputs: by tensor id, as the engines give them."""

    ops: int = 0
    views: int = 0
    tiles: int = 0
    moved_bytes: Counter[Route] = field(default_factory=Counter)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


def check_tiles(
    program: KPUProgram, inputs: Arrays, commands: Commands = tile_commands
) -> TileReport:
    """Execute a well-formed program in tiles; CheckError with the op, the tensor, the tile and the
    first element that differs.

    inputs: all inputs by tensor id. commands: what the machine is told to do for an op.
    """
    unknown = sorted({op.op_type for op in program.ops} - KERNELS.keys())
    if unknown:
        raise UnsupportedOpError(unknown, ["no tile of them can be executed"])
    return _Run(program, inputs).run(commands)


class _Run:
    def __init__(self, program: KPUProgram, inputs: Arrays) -> None:
        self._program = program
        self._memories = Memories(program)
        self._homes: dict[str, Held] = {}
        self._report = TileReport()
        self._ahead: dict[str, OpPlayer] = {}  # of ops for which something was loaded, by id
        for tensor in program.tensors.values():
            if tensor.is_weight or tensor.is_input:
                self._homes[tensor.id] = self._home(tensor)
        stored = formats.weights(program)
        for tensor_id, home in self._homes.items():
            tensor = home.tensor
            bits = _weight_bits(stored[tensor_id], tensor) if tensor.is_weight else None
            if bits is None:
                bits = encoded(np.asarray(inputs[tensor_id]), tensor)
            home.fill(whole(tensor.shape), bits)

    def run(self, commands: Commands) -> TileReport:
        ops = self._program.get_ops_in_order()
        last = {tensor_id: op.schedule_order for op in ops for tensor_id in op.input_ids}
        for op in ops:
            self._load_ahead(ops, op.schedule_order, commands)
            self._run_op(op, commands)
            for tensor_id in {*op.input_ids, *op.output_ids}:
                tensor = self._program.tensors[tensor_id]
                is_kept = tensor.is_weight or tensor.is_output
                if not is_kept and last.get(tensor_id, -1) <= op.schedule_order:
                    self._homes.pop(tensor_id, None)
        for tensor_id, home in self._homes.items():  # what outlives the program
            tensor = home.tensor
            if tensor.is_weight or tensor.is_output:
                bits = self._read(home, "after the last op")
            if tensor.is_output:
                self._report.outputs[tensor_id] = reals(decoded(bits, tensor), tensor)
        return self._report

    def _load_ahead(self, ops: Sequence[KPUOp], position: int, commands: Commands) -> None:
        """What the program wants in L2 from this op on for a later one."""
        order = {op.id: op for op in ops}
        for buffer in self._program.buffers:
            op = order[buffer.op_id]
            if buffer.prefetch_ops and op.schedule_order - buffer.prefetch_ops == position:
                if op.id not in self._ahead:
                    self._ahead[op.id] = OpPlayer(self._program, op, self._memories, self._homes)
                self._ahead[op.id].load_ahead(commands, buffer.tensor_id)

    def _run_op(self, op: KPUOp, commands: Commands) -> None:
        """In turn and, where there are copies of buffers, once more with loads running ahead."""
        expected = expected_of(self._program, op, self._operand_values(op))
        self._report.ops += 1
        if work_of(self._program, op).nest.unit is Unit.VIEW:
            self._report.views += 1
            self._view(op)
            self._compare(op, expected)
            return
        player = self._player(op)
        report = player.play(commands, runs_ahead=False)
        self._compare(op, expected, player)
        self._report.tiles += report.tiles
        self._report.moved_bytes += report.moved_bytes
        if player.can_run_ahead:
            for tensor_id in op.input_ids:  # a result may lie where an operand was
                home = self._homes[tensor_id]
                home.box.write((slice(None),) * len(home.box.shape), home.put)
            again = self._player(op)
            again.play(commands, runs_ahead=True)
            self._compare(op, expected, again)

    def _player(self, op: KPUOp) -> OpPlayer:
        for tensor_id in op.output_ids:
            self._homes[tensor_id] = self._home(self._program.tensors[tensor_id])
        ahead = self._ahead.pop(op.id, None)
        return ahead or OpPlayer(self._program, op, self._memories, self._homes)

    def _view(self, op: KPUOp) -> None:
        """Other names for bytes that are there already."""
        there = [self._homes[tensor_id].put for tensor_id in op.input_ids[: op.operand_count]]
        record = op_named(op.op_type)
        named = record.compute(complete(record, op.attributes), *there)
        for tensor_id, bits in zip(op.output_ids, named, strict=True):
            home = self._home(self._program.tensors[tensor_id])
            home.put[...] = bits
            home.filled[...] = True
            self._homes[tensor_id] = home

    def _compare(
        self, op: KPUOp, expected: tuple[Expected, ...], player: OpPlayer | None = None
    ) -> None:
        for tensor_id, each in zip(op.output_ids, expected, strict=True):
            home = self._homes[tensor_id]
            if player is not None and not home.filled.all():
                missing = first_of(~home.filled)
                raise CheckError(
                    f"{player.tile_for(tensor_id, missing)}: element {list(missing)} of "
                    f"{tensor_id!r} is stored by no tile"
                )
            found = values_kept(self._read(home, named(op)), home.tensor)
            element = each.first_difference(found)
            if element is not None:
                where = named(op) if player is None else player.tile_for(tensor_id, element)
                raise CheckError(
                    f"{where}: element {list(element)} of {tensor_id!r} is {found[element]}, "
                    f"the reference has {each.value[element]}"
                )

    def _operand_values(self, op: KPUOp) -> dict[str, np.ndarray]:
        """Operands as the engines keep them, from the bytes that are in memory."""
        values: dict[str, np.ndarray] = {}
        for tensor_id in reversed(op.input_ids):  # scales stand behind what they are for
            tensor = self._program.tensors[tensor_id]
            bits = self._read(self._homes[tensor_id], named(op))
            values[tensor_id] = values_kept(bits, tensor, values.get(tensor.scales or ""))
        return values

    def _read(self, home: Held, where: str) -> np.ndarray:
        try:
            return home.read(whole(home.tensor.shape))
        except CheckError as error:
            raise CheckError(f"{where}: {error}") from error

    def _home(self, tensor: KPUTensor) -> Held:
        return hold(tensor, self._memories.home(tensor), whole(tensor.shape))


def _weight_bits(stored: np.ndarray, tensor: KPUTensor) -> np.ndarray:
    """A weight's elements in its shape; 4-bit ones in a byte each."""
    if tensor.dtype is DType.INT4:
        halves = np.stack([stored & 0xF, stored >> 4], axis=-1).ravel()
        return halves[: int(np.prod(tensor.shape))].reshape(tensor.shape)
    return stored.view(RAW_TYPES[8 * stored.dtype.itemsize]).reshape(tensor.shape)
