"""Where every tensor lives and how every op is tiled: decided together, because what stays in L2
limits what can be staged there.

Each try places the activations, tiles every op with the L2 that is left, and looks for addresses.
Where that does not work out, the ops concerned must make do with less or activations must go, and
the next try begins. How much of L2 to keep for staging is tried too; the fewest cycles win.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.program import MemoryType
from kpuc.allocate import Allocation, Interval, aligned, allocate
from kpuc.arrange import arrangements
from kpuc.draft import Draft
from kpuc.emit import skeleton
from kpuc.memory_plan import MemoryPlan
from kpuc.placement import live_in_dram
from kpuc.scheduled import Scheduled
from kpuc.staging import Tiled, Tiler, budget_for
from kpurun.sim.timeline import simulate

STAGING_SHARES = (0.25, 0.125, 0.0625, 0.5, 0.75)  # of L2, tried for ops that stage more than that
MAX_TRIES = 64
WORTH_LESS_L2 = 0.005  # of the cycles: so many more are taken for a lower peak
NEEDS_L2 = 0.05  # of the cycles: a tight arrangement that takes so many more is far from good
SHRINK = 0.9  # what is left of an op's staging budget when its buffers found no place


def plan_tightly(scheduled: Scheduled, config: KPUConfig) -> MemoryPlan:
    """The fastest draft as tight in L2 as can be. MemoryError when no choice of places fits."""
    return next(arrangements(_draft(scheduled, config)))


def plan_memory(scheduled: Scheduled, config: KPUConfig) -> MemoryPlan:
    """Of the fastest draft, the arrangement that needs least L2 of those that cost few cycles.
    MemoryError when no choice of places fits the memories."""
    tried: list[tuple[int, MemoryPlan]] = []
    for plan in arrangements(_draft(scheduled, config)):
        tried.append((played_cycles(scheduled, config, plan), plan))
        tight_cycles, fewest = tried[0][0], min(cycles for cycles, _ in tried)
        if tight_cycles > fewest * (1 + NEEDS_L2):
            break  # what lies between the tight and the loose one is no better
    return min(
        (plan for cycles, plan in tried if cycles <= fewest * (1 + WORTH_LESS_L2)),
        key=lambda plan: plan.l2_peak_bytes,
    )


def played_cycles(scheduled: Scheduled, config: KPUConfig, plan: MemoryPlan) -> int:
    """Of the program that would be made."""
    return simulate(skeleton(scheduled, plan, config)).total_cycles


def _draft(scheduled: Scheduled, config: KPUConfig) -> Draft:
    """The one that takes fewest cycles, op after op; a share of L2 that leads nowhere matters only
    when none leads anywhere."""
    tiler = Tiler(scheduled, config)
    drafts: list[Draft] = []
    failures: list[MemoryError] = []
    for loads_ahead in (True, False):
        for share in STAGING_SHARES if not drafts else ():
            try:
                drafts.append(_Planner(scheduled, config, tiler, share, loads_ahead).draft())
            except MemoryError as error:
                failures.append(error)
    if not drafts:
        raise failures[0]
    return min(drafts, key=Draft.serial_cycles)


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
            draft = Draft(self._scheduled, self._config, memory, tiles)
            intervals = draft.intervals()
            l2 = allocate(intervals, self._alignment)
            if l2.peak_bytes <= self._capacity:
                return replace(draft, l2=l2)
            least_peak = min(least_peak or l2.peak_bytes, l2.peak_bytes)
            self._tighten(draft, intervals, l2)
        raise MemoryError(max(least_peak, self._capacity + 1), self._capacity, "SRAM")

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

    def _tighten(self, draft: Draft, intervals: Sequence[Interval], l2: Allocation) -> None:
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
            staged = sum(each.size_bytes for each in draft.tiles[node.id].in_l2)
            if staged:
                self._most[position] = int(SHRINK * min(staged, self._most[position]))
            else:
                self._least[position] += l2.peak_bytes - self._capacity
