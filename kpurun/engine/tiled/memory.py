"""DRAM, L2 and L1 as bytes: boxes of elements at addresses, and what was put into them.

Elements are handled as the bits that are stored, unsigned integers of their width (four-bit ones
in a byte each). Whoever reads a box is told if its bytes are no longer those that were put there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from operator import add
from typing import Any

import numpy as np

from formats.errors import CheckError, FileError
from formats.places import LABELS, capacities
from formats.precision import BITS
from formats.program import KPUProgram, KPUTensor, MemoryType
from kpurun.engine.tiled.log import Log
from kpurun.transfer import physical_order

RAW_TYPES = {4: "<u1", 8: "<u1", 16: "<u2", 32: "<u4", 64: "<u8"}  # by bits per element

Positions = tuple[range | np.ndarray, ...]  # per axis of a tensor: which of its positions
Where = tuple[Any, ...]  # per axis of a box: a slice, or an array of positions


class AbsentError(Exception):
    """A position of a tensor is wanted from a box that does not hold it."""

    def __init__(self, axis: int, position: int) -> None:
        super().__init__(f"position {position} of axis {axis}")


class Memories:
    """The bytes of a program's machine: all of L1 and L2, of DRAM as far as the program uses it."""

    def __init__(self, program: KPUProgram) -> None:
        sizes = capacities(program)
        ends = (
            tensor.layout.base_address + tensor.size_bytes
            for tensor in program.tensors.values()
            if tensor.layout.memory_type is MemoryType.DRAM
        )
        sizes[MemoryType.DRAM] = max(ends, default=0)
        self._tensors = program.tensors
        self._bytes = {memory: np.zeros(size, np.uint8) for memory, size in sizes.items()}
        self.log = Log()

    def box(
        self,
        memory: MemoryType,
        address: int,
        shape: tuple[int, ...],
        order: tuple[int, ...],
        bits: int,
    ) -> "Box":
        """Room for a tensor, or a piece of one, that is packed at an address. order: its axes from
        the outermost to the innermost. CheckError where the memory ends before it does."""
        size_bytes = -(-prod(shape) * bits // 8)
        if memory not in self._bytes:
            raise FileError(f"nothing can be executed in {memory.value}")
        available = self._bytes[memory]
        if not 0 <= address <= available.size - size_bytes:
            raise CheckError(
                f"{size_bytes:,} bytes at {address:#x} do not lie in {LABELS[memory]}, "
                f"of which {available.size:,} bytes are in use"
            )
        content = available[address : address + size_bytes]
        inside = (slice(None),) * len(shape)
        return Box(content, memory, address, shape, order, bits, self.log, shape, inside)

    def home(self, tensor: KPUTensor) -> "Box":
        """Where a whole tensor lives."""
        layout = tensor.layout
        order = physical_order(len(tensor.shape), layout.format)
        bits = BITS[tensor.dtype]
        root = self._tensors[tensor.alias_of or tensor.id] if tensor.starts else tensor
        box = self.box(layout.memory_type, layout.base_address, root.shape, order, bits)
        if not tensor.starts:
            return box
        ends = map(add, tensor.starts, tensor.shape)
        return replace(box, shape=tensor.shape, inside=tuple(map(slice, tensor.starts, ends)))


@dataclass(frozen=True, eq=False)
class Box:
    """Elements of `shape` in some bytes of a memory: `inside` of those of `container`, which are
    packed."""

    content: np.ndarray
    memory: MemoryType
    address: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    bits: int
    log: Log = field(repr=False)
    container: tuple[int, ...]
    inside: tuple[slice, ...]

    def read(self, where: Where) -> np.ndarray:
        """The bits of some elements."""
        if self.bits < 8:
            index = self._flat(where)
            nibbles: np.ndarray = (self.content[index >> 1] >> (4 * (index & 1))) & 0xF
            return nibbles.astype(np.uint8)
        return np.array(self._elements()[_selection(where, self.shape)])

    def write(self, where: Where, bits: np.ndarray) -> None:
        """Put elements there."""
        self.log.add(self.memory, self.bits, lambda: self._addresses(where))
        if self.bits >= 8:
            self._elements()[_selection(where, self.shape)] = bits
            return
        index, nibbles = self._flat(where), bits.astype(np.uint8)
        for half, kept in ((0, 0xF0), (1, 0x0F)):  # two elements of one byte are not put at once
            chosen = (index & 1) == half
            at = index[chosen] >> 1
            self.content[at] = (self.content[at] & kept) | (nibbles[chosen] << (4 * half))

    def spoil(self) -> None:
        """Make every byte another one: what was there is lost before anything is put there."""
        everything = (slice(None),) * len(self.shape)
        self.log.add(self.memory, self.bits, lambda: self._addresses(everything))
        if self.shape == self.container:
            np.invert(self.content, out=self.content)
        else:  # of whole bytes
            elements = self._elements()
            np.invert(elements, out=elements)

    def last_author(self, where: Where, index: tuple[int, ...]) -> str:
        """Who last wrote to an element, in this box or another one that shares its bytes."""
        start = int(self._addresses(where)[index])
        return self.log.last_author(self.memory, start, start + max(1, self.bits // 8))

    def _addresses(self, where: Where) -> np.ndarray:
        """Of the first byte of each of some elements."""
        return self.address + self._flat(where) * self.bits // 8

    @property
    def _part(self) -> Any:
        """Selects `inside`, also where there are no axes."""
        return (*self.inside, ...)

    def _elements(self) -> np.ndarray:
        """A view of the bytes with the axes of the shape."""
        physical = self.content.view(RAW_TYPES[self.bits])
        shaped = physical.reshape([self.container[axis] for axis in self.order])
        turned = shaped.transpose([self.order.index(axis) for axis in range(len(self.order))])
        return np.asarray(turned[self._part])

    def _flat(self, where: Where) -> np.ndarray:
        """Numbers of the elements in memory."""
        sizes = [self.container[axis] for axis in self.order]
        numbers = np.arange(prod(self.container)).reshape(sizes)
        turned = numbers.transpose([self.order.index(axis) for axis in range(len(self.order))])
        return np.asarray(turned[self._part][_selection(where, self.shape)])


def _selection(where: Where, shape: tuple[int, ...]) -> Where:
    if all(isinstance(each, slice) for each in where):
        return where
    return np.ix_(*(np.arange(size)[each] for size, each in zip(shape, where, strict=True)))


@dataclass(frozen=True, eq=False)
class Held:
    """A piece of a tensor in a memory.

    positions: which of the tensor it is. put: the bits that were put there. filled: where any were.
    """

    tensor: KPUTensor
    box: Box
    positions: Positions
    put: np.ndarray
    filled: np.ndarray = field(repr=False)

    def where(self, wanted: Positions) -> Where:
        """Which part of the box some positions of the tensor are; AbsentError if it lacks one."""
        return tuple(
            _part(axis, held, each)
            for axis, (held, each) in enumerate(zip(self.positions, wanted, strict=True))
        )

    def fill(self, wanted: Positions, bits: np.ndarray) -> None:
        """Put some positions there."""
        where = self.where(wanted)
        self.box.write(where, bits)
        selection = _selection(where, self.box.shape)
        self.put[selection] = bits
        self.filled[selection] = True

    def is_filled(self, wanted: Positions) -> bool:
        """Whether any of these positions was put there before."""
        return bool(self.filled[_selection(self.where(wanted), self.box.shape)].any())

    def read(self, wanted: Positions) -> np.ndarray:
        """The bits of some positions, as they are in memory; CheckError if they are not those that
        were put there."""
        where = self.where(wanted)
        found = self.box.read(where)
        selection = _selection(where, self.box.shape)
        if not self.filled[selection].all():
            index = first_of(~self.filled[selection])
            raise CheckError(f"{self._named(wanted, index)} was never put there")
        if not np.array_equal(found, self.put[selection]):
            index = first_of(found != self.put[selection])
            author = self.box.last_author(where, index)
            by = f", by {author}" if author else ""
            raise CheckError(f"{self._named(wanted, index)} was overwritten before it was read{by}")
        return found

    def _named(self, wanted: Positions, index: tuple[int, ...]) -> str:
        """An element of what was wanted, by its position in the tensor."""
        position = [int(each[at]) for each, at in zip(wanted, index, strict=True)]
        place = f"{LABELS[self.box.memory]} at {self.box.address:#x}"
        return f"element {position} of {self.tensor.id!r} in {place}"


def hold(tensor: KPUTensor, box: Box, positions: Positions) -> Held:
    """A box for a piece of a tensor into which nothing was put yet."""
    empty = np.zeros(box.shape, RAW_TYPES[box.bits])
    return Held(tensor, box, positions, empty, np.zeros(box.shape, np.bool_))


def whole(shape: Sequence[int]) -> Positions:
    """All positions of a tensor."""
    return tuple(range(size) for size in shape)


def lengths(positions: Positions) -> tuple[int, ...]:
    """How many positions there are on each axis."""
    return tuple(len(each) for each in positions)


def _part(axis: int, held: range | np.ndarray, wanted: range | np.ndarray) -> Any:
    if isinstance(held, range) and isinstance(wanted, range):
        for end in (wanted.start, wanted.stop - 1):
            if len(wanted) and end not in held:
                raise AbsentError(axis, end)
        return slice(wanted.start - held.start, wanted.stop - held.start)
    have, want = np.asarray(held), np.asarray(wanted)
    order = np.argsort(have, kind="stable")
    at = np.searchsorted(have, want, sorter=order)
    found = order[np.minimum(at, len(have) - 1)]
    for missing in want[have[found] != want][:1]:
        raise AbsentError(axis, int(missing))
    return found


def first_of(mask: np.ndarray) -> tuple[int, ...]:
    """Position of the first true element."""
    return tuple(int(each) for each in np.argwhere(mask)[0])


def ranges(spans: Sequence[tuple[int, int]]) -> Iterator[range]:
    """Half-open spans as positions."""
    return (range(low, high) for low, high in spans)
