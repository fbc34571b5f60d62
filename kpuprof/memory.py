"""L2 use over the time of a run: how much is live when, and what lies where."""

from dataclasses import dataclass

from formats.overlap import Placement
from formats.places import placements
from formats.profile import Profile
from formats.program import Buffer, KPUProgram, KPUTensor, MemoryType


@dataclass(frozen=True)
class MemoryStep:
    """L2 bytes in use while one op runs; the cycles are a half-open range."""

    start_cycle: int
    end_cycle: int
    l2_bytes: int


@dataclass(frozen=True)
class MemoryUse:
    """One step per op, in time order."""

    steps: tuple[MemoryStep, ...]
    capacity_bytes: int
    total_cycles: int

    def peaks(self, columns: int) -> list[int]:
        """The largest use within each of `columns` equal shares of the run."""
        width = max(1.0, self.total_cycles / columns)
        peaks = [0] * columns
        for step in self.steps:
            first = min(columns - 1, int(step.start_cycle / width))
            last = min(columns - 1, int(max(step.start_cycle, step.end_cycle - 1) / width))
            for column in range(first, last + 1):
                peaks[column] = max(peaks[column], step.l2_bytes)
        return peaks


def memory_use(profile: Profile) -> MemoryUse:
    """L2 bytes in use while each op runs, from the profile's event columns."""
    events = profile.events
    columns = ("op.start_cycle", "op.end_cycle", "op.l2_live_bytes")
    steps = zip(*(events[column].tolist() for column in columns), strict=True)
    return MemoryUse(
        steps=tuple(MemoryStep(*step) for step in steps),
        capacity_bytes=profile.program.target_config.memory.sram_l2_bytes,
        total_cycles=profile.metrics.total_cycles,
    )


@dataclass(frozen=True)
class MemoryBlock:
    """Bytes of L2 from `address` that one tensor or staging buffer holds while ops `first` to
    `last` (indices in scheduled order) run; the cycles are a half-open range."""

    name: str
    kind: str  # "activation", "constant", "input", "output" or "buffer"
    address: int
    size_bytes: int
    first: int
    last: int
    start_cycle: int
    end_cycle: int


@dataclass(frozen=True)
class MemoryMap:
    """What lies where in L2 and when; `peak_op` is the first op during which most is in use."""

    blocks: tuple[MemoryBlock, ...]
    capacity_bytes: int
    total_cycles: int
    peak_op: int
    peak_bytes: int

    @property
    def live_at_peak(self) -> list[MemoryBlock]:
        """The largest first."""
        live = (block for block in self.blocks if block.first <= self.peak_op <= block.last)
        return sorted(live, key=lambda block: (-block.size_bytes, block.address))


def memory_map(profile: Profile) -> MemoryMap:
    """The L2 part of the program's placements, over the cycles of this run."""
    program, used = profile.program, profile.events["op.l2_live_bytes"].tolist()
    tensors = {f"tensor {tensor.id!r}": tensor for tensor in program.tensors.values()}
    buffers = iter(program.buffers)
    peak_bytes = max(used, default=0)
    blocks = []
    for place in placements(program):
        tensor = tensors.get(place.name)  # else the next buffer: they follow in order
        name, kind = _described(tensor) if tensor else _staged(program, next(buffers))
        if place.memory_type is MemoryType.SRAM_L2:
            blocks.append(_block(profile, name, kind, place))
    return MemoryMap(
        blocks=tuple(blocks),
        capacity_bytes=program.target_config.memory.sram_l2_bytes,
        total_cycles=profile.metrics.total_cycles,
        peak_op=used.index(peak_bytes) if used else 0,
        peak_bytes=peak_bytes,
    )


def _described(tensor: KPUTensor) -> tuple[str, str]:
    kinds = {"constant": tensor.is_weight, "input": tensor.is_input, "output": tensor.is_output}
    kind = next((kind for kind, holds in kinds.items() if holds), "activation")
    return tensor.name or tensor.id, kind


def _staged(program: KPUProgram, buffer: Buffer) -> tuple[str, str]:
    tensor = program.tensors[buffer.tensor_id]
    copies = "" if buffer.copies == 1 else f", {buffer.copies} tiles"
    return f"{tensor.name or tensor.id} (staged{copies})", "buffer"


def _block(profile: Profile, name: str, kind: str, place: Placement) -> MemoryBlock:
    starts, ends = profile.events["op.start_cycle"], profile.events["op.end_cycle"]
    first, last = max(0, place.first), min(place.last, len(starts) - 1)
    cycles = (int(starts[first]), int(ends[last])) if len(starts) else (0, 0)
    return MemoryBlock(name, kind, place.start, place.size, first, last, *cycles)
