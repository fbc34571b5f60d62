"""Mistakes planted in places, tiles, nests and commands: tiled execution sees each of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import pytest

from formats.errors import CheckError
from formats.program import KPUProgram, MemoryType
from kpurun.compute import Place
from kpurun.engine.tiled import check_tiles
from kpurun.ops import OPS
from kpurun.ops.loopnest import Access, Axis
from kpurun.slots import Slots
from kpurun.tiles import Command, Compute, Load, Store, tile_commands
from tests.kpurun.tiled_programs import INPUTS, residual_block, tiled

DRAM, L2, L1 = MemoryType.DRAM, MemoryType.SRAM_L2, MemoryType.SRAM_L1
Change = Callable[[list[Command]], Sequence[Command]]


def told(change: Change, tensor_id: str = "w"):
    """Commands of the machine, changed for the op that reads a tensor."""

    def commands(work, tiling):
        given = list(tile_commands(work, tiling))
        is_meant = any(read.tensor_id == tensor_id for read in work.reads)
        return change(given) if is_meant else given

    return commands


def every(kind: type, change: Callable[[Command], Command | None], **fields: object) -> Change:
    """Changes each command of a kind with these fields; None drops it."""

    def changed(commands: list[Command]) -> list[Command]:
        made = [
            change(each)
            if isinstance(each, kind) and all(getattr(each, f) == v for f, v in fields.items())
            else each
            for each in commands
        ]
        return [each for each in made if each is not None]

    return changed


def shifted(axis: int, low: int, high: int) -> Callable[[Command], Command]:
    """Spans whose ends are moved along an axis, inside of the tensor."""

    def change(command: Command) -> Command:
        spans = list(command.spans)
        first, last = spans[axis]
        spans[axis] = (max(0, first + low), min(12, last + high))
        return replace(command, spans=tuple(spans))

    return change


def shorter(command: Command) -> Command:
    """A tile with a row less than it has."""
    sizes = list(command.sizes)
    sizes[2] -= 1
    return replace(command, sizes=tuple(sizes))


def swapped(kind: type, content: str, **fields: object) -> Change:
    """The first two commands of a kind with these fields whose content differs change places."""

    def changed(commands: list[Command]) -> list[Command]:
        numbers = [
            number
            for number, each in enumerate(commands)
            if isinstance(each, kind) and all(getattr(each, f) == v for f, v in fields.items())
        ]
        first, second = next(
            (one, other)
            for one, other in combinations(numbers, 2)
            if getattr(commands[one], content) != getattr(commands[other], content)
        )
        made = list(commands)
        made[first], made[second] = commands[second], commands[first]
        return made

    return changed


def moved(kind: type, where: Callable[[Command], bool], by: int) -> Change:
    """The first command of a kind that fits, so many places later."""

    def changed(commands: list[Command]) -> list[Command]:
        at = next(n for n, each in enumerate(commands) if isinstance(each, kind) and where(each))
        rest = commands[:at] + commands[at + 1 :]
        return [*rest[: at + by], commands[at], *rest[at + by :]]

    return changed


@pytest.mark.parametrize("double_buffer", [False, True])
def test_without_a_mistake_all_is_well(double_buffer):
    assert check_tiles(residual_block(double_buffer), INPUTS).tiles > 8


X = {"tensor_id": "pool_out"}
HALOS = {
    "one row late into L1": every(Load, shifted(2, 1, 1), target=L1, **X),
    "one row early into L1": every(Load, shifted(2, -1, -1), target=L1, **X),
    "without its last row": every(Load, shifted(2, 0, -1), target=L1, **X),
    "without its first row": every(Load, shifted(2, 1, 0), target=L1, **X),
    "without its last column": every(Load, shifted(3, 0, -1), target=L1, **X),
    "one row late into L2": every(Load, shifted(2, 1, 1), target=L2, **X),
    "without its last row in L2": every(Load, shifted(2, 0, -1), target=L2, **X),
}


@pytest.mark.parametrize("mistake", HALOS)
def test_a_halo_that_is_loaded_wrongly_is_seen(mistake):
    with pytest.raises(CheckError, match=r"op 'conv' \(Conv\), tile \d+ .*'pool_out'.* piece"):
        check_tiles(residual_block(), INPUTS, told(HALOS[mistake]))


def with_axis(axis: int, change: Callable[[Axis], Axis]):
    """The record of Conv, an axis of whose first operand follows the loops in another way."""
    record = OPS["Conv"]

    def loop_nest(attributes, ins, outs):
        nest = record.loop_nest(attributes, ins, outs)
        axes = list(nest.reads[0].axes)
        axes[axis] = change(axes[axis])
        return replace(nest, reads=(Access(tuple(axes)), *nest.reads[1:]))

    return replace(record, loop_nest=loop_nest)


NESTS = {
    "padding one row short": (2, lambda axis: replace(axis, offset=axis.offset + 1)),
    "padding one column more": (3, lambda axis: replace(axis, offset=axis.offset - 1)),
    "taps two apart": (2, lambda axis: replace(axis, terms=(axis.terms[0], ("KH", 2)))),
    "a stride of two": (3, lambda axis: replace(axis, terms=(("OW", 2), axis.terms[1]))),
}


@pytest.mark.parametrize("mistake", NESTS)
def test_a_loop_nest_that_is_off_by_one_gives_elements_that_differ(mistake, monkeypatch):
    program = residual_block()
    monkeypatch.setitem(OPS, "Conv", with_axis(*NESTS[mistake]))
    said = r"op 'conv' \(Conv\), tile \d+ .*element \[0, .*\] of 'conv_out' is \d+, the reference"
    with pytest.raises(CheckError, match=said):
        check_tiles(tiled(program, {op.id: op.tiling for op in program.ops}), INPUTS)


def l1_pairs() -> list[tuple[str, str]]:
    """Two buffers of the convolution in L1."""
    names = [b.tensor_id for b in residual_block().buffers if (b.op_id, b.memory_type) == C1]
    return list(combinations(names, 2))


C1 = ("conv", L1)


@pytest.mark.parametrize("pair", l1_pairs(), ids=" and ".join)
@pytest.mark.parametrize("double_buffer", [False, True])
def test_two_buffers_at_one_address_in_l1_are_seen(pair, double_buffer):
    program = residual_block(double_buffer)
    place = {b.tensor_id: b.base_address for b in program.buffers if (b.op_id, b.memory_type) == C1}
    buffers = tuple(
        replace(b, base_address=place[pair[0]])
        if (b.op_id, b.memory_type, b.tensor_id) == (*C1, pair[1])
        else b
        for b in program.buffers
    )
    with pytest.raises(CheckError, match=r"op 'conv' \(Conv\), tile \d+ \(OH .*\): "):
        check_tiles(replace(program, buffers=buffers), INPUTS)


def at(program: KPUProgram, tensor_id: str, other_id: str) -> KPUProgram:
    """A tensor at the address of another one."""
    layout = replace(
        program.tensors[tensor_id].layout,
        base_address=program.tensors[other_id].layout.base_address,
    )
    changed = replace(program.tensors[tensor_id], layout=layout)
    return replace(program, tensors=program.tensors | {tensor_id: changed})


@pytest.mark.parametrize(
    ("tensor_id", "other_id", "said"),
    [
        ("w2", "w", r"op 'conv' .* of 'w' in DRAM .*, by what is loaded at the start"),
        ("pool_out", "w", r"op 'conv' .* of '\w' in DRAM .*, by op 'pool' \(MaxPool\), tile \d"),
        ("b", "w", r"op 'conv' .* of '\w' in DRAM .*, by what is loaded at the start"),
        ("out_out", "w2", r"the last op: .* of 'w2' in DRAM .*, by op 'out' \(Identity\), tile 0"),
    ],
)
def test_two_tensors_at_one_address_are_seen_and_whose_tile_it_was(tensor_id, other_id, said):
    with pytest.raises(CheckError, match=said):
        check_tiles(at(residual_block(), tensor_id, other_id), INPUTS)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_result_over_rows_of_an_operand_that_are_still_needed_is_seen(rows):
    program = residual_block()
    moved_up = replace(
        program.tensors["conv_out"].layout,
        base_address=program.tensors["copy_out"].layout.base_address + rows * 12 * 8,
    )
    changed = replace(program.tensors["conv_out"], layout=moved_up)
    with pytest.raises(CheckError, match=r"op 'conv' .*'copy_out' in L2 SRAM .*overwritten"):
        check_tiles(replace(program, tensors=program.tensors | {"conv_out": changed}), INPUTS)


def test_bytes_that_nobody_needs_any_more_may_be_used_again():
    check_tiles(at(residual_block(), "pool_out", "x"), INPUTS)


def test_a_residual_may_be_overwritten_by_the_result_that_it_is_added_to():
    """Each tile of it is read before the same tile of the result is stored."""
    check_tiles(at(residual_block(), "conv_out", "copy_out"), INPUTS)


@pytest.mark.parametrize("op_id", ["pool", "conv"])
def test_a_staging_buffer_over_a_tensor_that_is_still_needed_is_seen(op_id):
    program = residual_block()
    lives = program.tensors["copy_out"].layout.base_address
    buffers = tuple(
        replace(b, base_address=lives) if (b.op_id, b.memory_type) == (op_id, L2) else b
        for b in program.buffers
    )
    with pytest.raises(CheckError, match=r"element .* of 'copy_out' in L2 SRAM .* overwritten"):
        check_tiles(replace(program, buffers=buffers), INPUTS)


def test_a_buffer_beyond_the_end_of_its_memory_is_seen():
    program = residual_block()
    end = program.target_config.memory.sram_l1_bytes
    buffers = tuple(replace(b, base_address=b.base_address + end) for b in program.buffers)
    with pytest.raises(CheckError, match="do not lie in L"):
        check_tiles(replace(program, buffers=buffers), INPUTS)


def test_a_second_buffer_that_is_the_first_is_overwritten_too_early(monkeypatch):
    monkeypatch.setattr(Slots, "address_of", lambda slots, fill: slots.address)
    with pytest.raises(
        CheckError, match=r"op 'pool' .*tile 0 .*'copy_out' in L1 .*overwritten .* tile 1 "
    ):
        check_tiles(residual_block(), INPUTS)


def test_one_buffer_is_enough_where_nothing_is_loaded_ahead(monkeypatch):
    monkeypatch.setattr(Slots, "address_of", lambda slots, fill: slots.address)
    check_tiles(residual_block(double_buffer=False), INPUTS)


ORDERS = {
    "a tile is loaded before the one in its buffer is used": moved(
        Load, lambda c: c.step == 1 and c.target is L1, -1 - 5
    ),
    "a result is stored after the next one is made": moved(Store, lambda c: c.target is L2, 6),
    "a load changes places with the tile that it is for": moved(
        Load, lambda c: c.step == 1 and c.target is L1 and c.tensor_id == "pool_out", 2
    ),
    "two tiles are computed in reverse order": swapped(Compute, "starts"),
    "two loads come in reverse order": swapped(Load, "spans", target=L1, tensor_id="pool_out"),
    "two results are stored in reverse order": swapped(Store, "spans", target=L2),
    "a load is left out": every(Load, lambda c: None if c.step == 2 else c, target=L1),
    "a load into L2 is left out": every(Load, lambda _: None, source=DRAM, tensor_id="w"),
    "a result is not stored": every(Store, lambda c: None if c.step < 2 else c),
    "a result is stored twice": lambda commands: [
        again for c in commands for again in ([c, c] if isinstance(c, Store) else [c])
    ],
    "partial sums are dropped": every(
        Compute, lambda c: replace(c, place=Place(True, c.place.is_last))
    ),
    "partial sums are never complete": every(
        Compute, lambda c: replace(c, place=Place(c.place.is_first, False))
    ),
    "a tile is computed in the place of another": every(
        Compute, lambda c: replace(c, starts=(*c.starts[:2], 9 - c.starts[2], *c.starts[3:]))
    ),
    "a tile is computed with a size too small": every(Compute, shorter),
    "a tile is stored without its last row": every(Store, shifted(2, 0, -1), target=L2),
    "a tile is stored with a row too many": every(Store, shifted(2, 0, 1), target=L2),
}


@pytest.mark.parametrize("mistake", ORDERS)
@pytest.mark.parametrize("double_buffer", [False, True])
def test_commands_that_are_missing_or_out_of_order_are_seen(mistake, double_buffer):
    with pytest.raises(CheckError, match=r"op 'conv' \(Conv\), tile \d+ \(OH .*\): "):
        check_tiles(residual_block(double_buffer), INPUTS, told(ORDERS[mistake]))


def ahead(address: int | None = None):
    """The residual block with the second weight loaded two ops ahead: to a place of its own above
    all others, or to an address."""
    program = residual_block()
    order = [op.id for op in program.get_ops_in_order()]
    top = program.target_config.memory.sram_l2_bytes
    buffers = tuple(
        replace(b, base_address=top if address is None else address, prefetch_ops=2)
        if (b.op_id, b.tensor_id, b.memory_type) == ("last", "w2", L2)
        else b
        for b in program.buffers
    )
    assert order.index("last") == 3
    memory = replace(program.target_config.memory, sram_l2_bytes=top + 4096)
    return replace(
        program, buffers=buffers, target_config=replace(program.target_config, memory=memory)
    )


def test_a_weight_may_come_before_its_op():
    assert check_tiles(ahead(), INPUTS).ops == 5


def test_a_weight_that_came_early_and_is_overwritten_is_seen():
    staged = next(b for b in residual_block().buffers if (b.op_id, b.memory_type) == ("conv", L2))
    with pytest.raises(CheckError, match=r"overwritten before it was read, by op 'conv'"):
        check_tiles(ahead(staged.base_address), INPUTS)
