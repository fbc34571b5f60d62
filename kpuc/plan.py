"""Where every tensor lives and how every op is tiled: decided together, because what stays in L2
limits what can be staged there.

Each try places the activations, tiles every op with the L2 that is left, and looks for addresses.
Where that does not work out, the ops concerned must make do with less or activations must go, and
the next try begins. How much of L2 to keep for staging is tried too; the fewest cycles win.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.program import Buffer, MemoryType, TileConfig
from kpuc.allocate import Allocation, Interval, aligned, allocate
from kpuc.draft import Draft, Outline, drafted
from kpuc.placement import live_in_dram
from kpuc.prefetch import get_ahead
from kpuc.scheduled import Scheduled
from kpuc.staging import Tiled, Tiler, budget_for, l1_buffers_of

STAGING_SHARES = (0.25, 0.125, 0.0625, 0.5, 0.75)  # of L2, tried for ops that stage more than that
MAX_TRIES = 64
SHRINK = 0.9  # what is left of an op's staging budget when its buffers found no place


@dataclass(frozen=True)
class MemoryPlan:
    """Tiles by node id, memory by value, address by root value, buffers; peaks in bytes."""

    tiles: Mapping[str, TileConfig]
    memory: Mapping[str, MemoryType]
    addresses: Mapping[str, int]
    buffers: tuple[Buffer, ...]
    l2_peak_bytes: int
    l2_bound_bytes: int
    dram_peak_bytes: int
    alignment_bytes: int


def plan_memory(scheduled: Scheduled, config: KPUConfig) -> MemoryPlan:
    """MemoryError when no choice of places fits the memories."""
    best = get_ahead(min(_drafts(scheduled, config), key=lambda draft: draft.cycles))
    tiles, memory = best.outline.tiles, best.outline.memory
    dram = _allocate_dram(scheduled, memory, config)
    alignment = config.memory.cache_line_bytes
    return MemoryPlan(
        tiles={node_id: tiled.tiling for node_id, tiled in tiles.items()},
        memory=memory,
        addresses={**best.tensor_addresses(), **dram.addresses},
        buffers=(*best.l2_buffers(), *l1_buffers_of(scheduled.order, tiles, alignment)),
        l2_peak_bytes=best.l2.peak_bytes,
        l2_bound_bytes=best.l2.bound_bytes,
        dram_peak_bytes=dram.peak_bytes,
        alignment_bytes=alignment,
    )


def _drafts(scheduled: Scheduled, config: KPUConfig) -> list[Draft]:
    """At least one; a share that leads nowhere matters only when none leads anywhere."""
    tiler = Tiler(scheduled, config)
    drafts: dict[tuple[float, bool], Draft] = {}
    failures: list[MemoryError] = []

    def draft(share: float, loads_ahead: bool) -> None:
        try:
            drafts[share, loads_ahead] = _Planner(
                scheduled, config, tiler, share, loads_ahead
            ).draft()
        except MemoryError as error:
            failures.append(error)

    for share in STAGING_SHARES:
        draft(share, True)
    for share in (
        STAGING_SHARES if not drafts else [min(drafts, key=lambda each: drafts[each].cycles)[0]]
    ):
        draft(share, False)
    if not drafts:
        raise failures[0]
    return list(drafts.values())


class _Planner:
    """Tries for one share of staging, each knowing what the ones before found out."""

    def __init__(
        self,
        scheduled: Scheduled,
        config: KPUConfig,
        tiler: Tiler,
        staging_share: float,
        loads_ahead: bool,
    ) -> None:
        positions = len(scheduled.order)
        self._scheduled = scheduled
        self._config = config
        self._tiler = tiler
        self._loads_ahead = loads_ahead
        self._capacity = config.memory.sram_l2_bytes
        self._alignment = config.memory.cache_line_bytes
        self._staging = int(staging_share * self._capacity)
        self._least = [0] * positions  # staging that a position cannot do without
        self._most = [self._capacity] * positions  # staging that a position may use

    def draft(self) -> Draft:
        """A placement that works. MemoryError when none is found."""
        least_peak = 0
        for _ in range(MAX_TRIES):
            memory = self._placed()
            tiles = self._tiled(memory)
            if tiles is None:
                continue
            outline = self._outline(memory, tiles)
            intervals = outline.intervals()
            l2 = allocate(intervals, self._alignment)
            if l2.peak_bytes <= self._capacity:
                return drafted(outline, intervals, l2)
            least_peak = min(least_peak or l2.peak_bytes, l2.peak_bytes)
            self._tighten(outline, intervals, l2)
        raise MemoryError(max(least_peak, self._capacity + 1), self._capacity, "SRAM")

    def _outline(self, memory: Mapping[str, MemoryType], tiles: Mapping[str, Tiled]) -> Outline:
        outline = Outline(self._scheduled, self._config, memory, tiles)
        if not self._loads_ahead:
            return outline
        place = {node.id: position for position, node in enumerate(self._scheduled.order)}
        begins = {key: max(0, place[key[0]] - 1) for key in outline.weight_buffers()}
        return replace(outline, begins=begins)

    def _placed(self) -> dict[str, MemoryType]:
        """Memory of every value: that of its root."""
        scheduled = self._scheduled
        graph = scheduled.graph
        moved = live_in_dram(scheduled, self._capacity, self._staging, self._least, self._alignment)
        outside = {*graph.inputs, *graph.constants, *moved}
        return {
            value: MemoryType.DRAM if root in outside else MemoryType.SRAM_L2
            for value, root in scheduled.roots.items()
        }

    def _tiled(self, memory: Mapping[str, MemoryType]) -> dict[str, Tiled] | None:
        """Tiles by node id; None when an op needs more staging than is left, which is noted."""
        left = self._left_bytes(memory)
        tiles: dict[str, Tiled] = {}
        is_short = False
        for position, node in enumerate(self._scheduled.order):
            slack = self._alignment * (len(node.inputs) + len(node.outputs))
            share = left[position] - slack
            if self._loads_ahead:  # two ops at a time have buffers
                share = max(self._least[position], min(left[max(0, position - 1)], share) // 2)
            budget = min(share, self._most[position])
            found = self._tiler.tiled(node, memory, budget, self._loads_ahead)
            if isinstance(found, Tiled):
                tiles[node.id] = found
                continue
            is_short = True
            self._demand(position, max(budget_for(found.needed_bytes), 2 * budget) + slack)
        return None if is_short else tiles

    def _demand(self, position: int, needed_bytes: int) -> None:
        """From now on the op may use what it needs, and activations give way to that."""
        if self._least[position] >= self._capacity:  # it has L2 to itself and found no place
            raise MemoryError(needed_bytes, self._capacity, "SRAM")
        self._least[position] = min(needed_bytes, self._capacity)
        self._most[position] = max(self._most[position], needed_bytes)

    def _left_bytes(self, memory: Mapping[str, MemoryType]) -> list[int]:
        """L2 bytes beside the live activations at each position."""
        changes = [0] * (len(self._scheduled.order) + 2)
        for root, (first, last) in self._scheduled.ranges.items():
            if memory[root] is MemoryType.SRAM_L2:
                size = aligned(self._scheduled.size_bytes(root), self._alignment)
                changes[first] += size
                changes[last + 1] -= size
        live = accumulate(changes[: len(self._scheduled.order)])
        return [self._capacity - each for each in live]

    def _tighten(self, outline: Outline, intervals: Sequence[Interval], l2: Allocation) -> None:
        """Less staging for the ops that run while something lies beyond the end of L2; where there
        is none to take away, an activation must go."""
        beyond = [
            interval
            for interval in intervals
            if l2.addresses[interval.name] + interval.size > self._capacity
        ]
        for position in sorted({at for one in beyond for at in range(one.first, one.last + 1)}):
            if position >= len(self._scheduled.order):
                continue
            node = self._scheduled.order[position]
            staged = sum(each.size_bytes for each in outline.tiles[node.id].in_l2)
            if staged:
                self._most[position] = int(SHRINK * min(staged, self._most[position]))
            else:
                self._least[position] += l2.peak_bytes - self._capacity


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
