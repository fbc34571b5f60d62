"""The addresses of a draft: as tight as can be, and with room for ops to overlap.

Two things that share bytes make one op wait for the other. So activations stay a little longer in
their place than they are needed, and what ops stage goes round.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.program import Buffer, MemoryType
from kpuc.allocate import Allocation, Interval, aligned, allocate
from kpuc.draft import Draft, buffer_name, tensor_name
from kpuc.memory_plan import MemoryPlan
from kpuc.rotate import Rotation, rotated
from kpuc.scheduled import Scheduled

LINGERING_OPS = (1, 0)  # for which an activation keeps its place after its last use, if it can
L1, L2 = MemoryType.SRAM_L1, MemoryType.SRAM_L2


def arrangements(draft: Draft) -> Iterator[MemoryPlan]:
    """The tight one, then looser ones if there are any: in all of L2, and in as much of it as the
    tight one needs. MemoryError where DRAM is too small."""
    memory = draft.config.memory
    lines = memory.cache_line_bytes
    nodes = [node.id for node in draft.scheduled.order]
    staged = [draft.tiles[node].in_l1 for node in nodes]
    in_l1 = rotated(nodes, staged, L1, Rotation([], memory.sram_l1_bytes, lines))
    assert in_l1 is not None, "the tiles of an op fit L1"
    dram = _allocate_dram(draft.scheduled, draft.memory, draft.config)
    for activations, in_l2 in _in_l2(draft, nodes):
        tops = [at + aligned(each.size, lines) for each, at in activations]
        tops += [each.base_address + aligned(each.size_bytes, lines) for each in in_l2]
        addresses = {each.name.removeprefix(tensor_name("")): at for each, at in activations}
        yield MemoryPlan(
            tiles={node: tiled.tiling for node, tiled in draft.tiles.items()},
            memory=draft.memory,
            addresses=addresses | dram.addresses,
            buffers=(*in_l2, *in_l1),
            l2_peak_bytes=max(tops, default=0),
            l2_bound_bytes=draft.l2.bound_bytes,
            dram_peak_bytes=dram.peak_bytes,
            alignment_bytes=lines,
        )


InL2 = tuple[list[tuple[Interval, int]], list[Buffer]]  # activations with addresses, buffers


def _in_l2(draft: Draft, nodes: list[str]) -> Iterator[InL2]:
    yield _tight(draft, nodes)
    for capacity_bytes in (draft.config.memory.sram_l2_bytes, draft.l2.peak_bytes):
        if (found := _loose(draft, nodes, capacity_bytes)) is not None:
            yield found


def _tight(draft: Draft, nodes: list[str]) -> InL2:
    """Everything at the addresses with which it was found to fit."""
    at = draft.l2.addresses
    buffers = [
        Buffer(
            node,
            each.tensor_id,
            L2,
            at[buffer_name(node, each.tensor_id)],
            each.size_bytes,
            each.copies,
        )
        for node in nodes
        for each in draft.tiles[node].in_l2
    ]
    return [(each, at[each.name]) for each in draft.activations()], buffers


def _loose(draft: Draft, nodes: list[str], capacity_bytes: int) -> InL2 | None:
    """Activations that keep their place for a while, and buffers that go round between them; None
    where L2 has no room for that."""
    lines, activations = draft.config.memory.cache_line_bytes, draft.activations()
    staged = [draft.tiles[node].in_l2 for node in nodes]
    for ops in LINGERING_OPS:
        longer = [_lingering(each, ops, len(nodes)) for each in activations]
        found = allocate(longer, lines)
        placed = [(each, found.addresses[each.name]) for each in activations]
        if found.peak_bytes <= capacity_bytes:
            buffers = rotated(nodes, staged, L2, Rotation(placed, capacity_bytes, lines))
            if buffers is not None:
                return placed, buffers
    return None


def _lingering(interval: Interval, ops: int, count: int) -> Interval:
    """An interval that ends so many ops later, before the last one of all."""
    if interval.last >= count:
        return interval
    return replace(interval, last=min(count - 1, interval.last + ops))


def _allocate_dram(
    scheduled: Scheduled, memory: Mapping[str, MemoryType], config: KPUConfig
) -> Allocation:
    """Weights first, in the order of their use and for ever; then inputs, which are kept for the
    next run, and outputs and spilled activations, which share."""
    graph, alignment = scheduled.graph, config.memory.cache_line_bytes
    addresses: dict[str, int] = {}
    top = 0
    for value in dict.fromkeys(value for node in scheduled.order for value in node.inputs):
        if value in graph.constants:
            addresses[value] = top
            top += aligned(scheduled.size_bytes(value), alignment)
    end = len(scheduled.order)
    moving = [Interval(value, scheduled.size_bytes(value), -1, end) for value in graph.inputs]
    moving += [
        Interval(root, scheduled.size_bytes(root), *span)
        for root, span in scheduled.ranges.items()
        if memory[root] is MemoryType.DRAM
    ]
    allocation = allocate(moving, alignment)
    addresses |= {name: top + address for name, address in allocation.addresses.items()}
    peak = top + allocation.peak_bytes
    if peak > config.memory.dram_bytes:
        raise MemoryError(peak, config.memory.dram_bytes, "DRAM")
    return Allocation(addresses, peak, top + allocation.bound_bytes)
