"""A plan of L2 that works: what lives there from when to when, at which address, and what the
program costs with it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from formats.config import KPUConfig
from formats.program import Buffer, MemoryType
from kpuc.allocate import Allocation, Interval, allocate, largest_live_set
from kpuc.graph import Node
from kpuc.scheduled import Scheduled
from kpuc.staging import Tiled
from kpurun.pipeline import Flow
from kpurun.timing import Planned, cycles_in_turn, planned_flow
from kpurun.work import Work

Key = tuple[str, str]  # of a staging buffer: node id, tensor id

MOST_OPS_AHEAD = 16


@dataclass(frozen=True)
class Outline:
    """What is decided before addresses: memory by value, tiles by node id, and the position from
    which a buffer is there, where that is before its op.

    memo: what outlines that differ in few ops share.
    """

    scheduled: Scheduled
    config: KPUConfig
    memory: Mapping[str, MemoryType]
    tiles: Mapping[str, Tiled]
    begins: Mapping[Key, int] = field(default_factory=dict)
    memo: dict[tuple[str, str, frozenset[str]], Flow | None] = field(
        default_factory=dict, repr=False, compare=False
    )
    works: dict[str, Work] = field(default_factory=dict, repr=False, compare=False)

    def work(self, node: Node) -> Work:
        """Of an op with everything where the outline puts it."""
        if node.id not in self.works:
            self.works[node.id] = self.scheduled.work(node, self.memory)
        return self.works[node.id]

    def flow(self, node: Node, ahead: Mapping[str, int]) -> Flow | None:
        """An op in its tiles, with what is loaded ahead for it."""
        tiled = self.tiles[node.id]
        key = node.id, repr(tiled.tiling), frozenset(ahead)
        if key not in self.memo:
            planned = Planned(self.work(node), tiled.tiling, ahead)
            self.memo[key] = planned_flow(planned, self.config)
        return self.memo[key]

    def intervals(self) -> list[Interval]:
        """Everything that needs a place in L2."""
        scheduled = self.scheduled
        activations = [
            Interval(tensor_name(root), scheduled.size_bytes(root), *span)
            for root, span in scheduled.ranges.items()
            if self.memory[root] is MemoryType.SRAM_L2
        ]
        staged = [
            Interval(
                buffer_name(node.id, each.tensor_id),
                each.size_bytes,
                self.begins.get((node.id, each.tensor_id), position),
                position,
            )
            for position, node in enumerate(scheduled.order)
            for each in self.tiles[node.id].in_l2
        ]
        return activations + staged

    def weight_buffers(self) -> list[Key]:
        """Those that may be filled before their op begins."""
        constants = self.scheduled.graph.constants
        return [
            (node.id, each.tensor_id)
            for node in self.scheduled.order
            for each in self.tiles[node.id].in_l2
            if each.tensor_id in constants
        ]


@dataclass(frozen=True)
class Draft:
    """An outline with addresses. ahead: of buffers, how many ops before their own they are there;
    stalls: of the ops in order, cycles in which nothing computes."""

    outline: Outline
    l2: Allocation
    ahead: Mapping[Key, int]
    cycles: int
    stalls: Sequence[int]

    def tensor_addresses(self) -> dict[str, int]:
        """By root value."""
        prefix = tensor_name("")
        return {
            name.removeprefix(prefix): address
            for name, address in self.l2.addresses.items()
            if name.startswith(prefix)
        }

    def l2_buffers(self) -> list[Buffer]:
        """As the program lists them."""
        return [
            Buffer(
                op_id=node_id,
                tensor_id=each.tensor_id,
                memory_type=MemoryType.SRAM_L2,
                base_address=self.l2.addresses[buffer_name(node_id, each.tensor_id)],
                size_bytes=each.size_bytes,
                copies=each.copies,
                prefetch_ops=self.ahead.get((node_id, each.tensor_id), 0),
            )
            for node_id, tiled in self.outline.tiles.items()
            for each in tiled.in_l2
        ]


def placed(outline: Outline) -> Draft | None:
    """Addresses for an outline and its costs; None if L2 cannot hold it."""
    memory = outline.config.memory
    intervals = outline.intervals()
    if largest_live_set(intervals, memory.cache_line_bytes) > memory.sram_l2_bytes:
        return None
    l2 = allocate(intervals, memory.cache_line_bytes)
    return drafted(outline, intervals, l2) if l2.peak_bytes <= memory.sram_l2_bytes else None


def drafted(outline: Outline, intervals: Sequence[Interval], l2: Allocation) -> Draft:
    """The draft with these addresses; buffers of weights are there as early as their bytes are
    free."""
    ahead = _ops_ahead(outline, intervals, l2)
    by_node: dict[str, dict[str, int]] = defaultdict(dict)
    for (node_id, tensor_id), ops in ahead.items():
        by_node[node_id][tensor_id] = ops
    order = outline.scheduled.order
    of_nodes = [by_node[node.id] for node in order]
    flows = [outline.flow(node, of) for node, of in zip(order, of_nodes, strict=True)]
    totals = cycles_in_turn(flows, of_nodes, outline.config)
    stalls = [
        total - flow.compute_cycles if flow and flow.dma_cycles else 0
        for total, flow in zip(totals, flows, strict=True)
    ]
    return Draft(outline, l2, ahead, sum(totals), stalls)


def _ops_ahead(outline: Outline, intervals: Sequence[Interval], l2: Allocation) -> dict[Key, int]:
    first = {each.name: each.first for each in intervals}
    spans = {
        each.name: (l2.addresses[each.name], l2.addresses[each.name] + each.size)
        for each in intervals
    }
    live: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for each in intervals:
        for position in range(each.first, each.last + 1):
            live[position].append(spans[each.name])
    place = {node.id: position for position, node in enumerate(outline.scheduled.order)}
    ahead = {}
    for key in outline.weight_buffers():
        own = spans[buffer_name(*key)]
        begin = first[buffer_name(*key)]
        earliest = max(0, place[key[0]] - MOST_OPS_AHEAD)
        while begin > earliest and not any(_overlap(own, other) for other in live[begin - 1]):
            begin -= 1
            live[begin].append(own)
        if begin < place[key[0]]:
            ahead[key] = place[key[0]] - begin
    return ahead


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def tensor_name(root: str) -> str:
    """Of an activation's interval."""
    return f"tensor {root}"


def buffer_name(node_id: str, tensor_id: str) -> str:
    """Of a staging buffer's interval."""
    return f"buffer {node_id} {tensor_id}"
