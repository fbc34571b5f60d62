"""How an op is cut into tiles: searched by estimated cycles, not the first cut that fits.

An op whose operands fit L1 together is not cut. Otherwise L1 tiles are cut from what is in L2, and
operands that live in DRAM pass through L2 tiles.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from operator import truediv

from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.program import TileConfig
from kpuc.cuts import around, in_channel_parts, l1_tiles, orders_of, smallest, uncut
from kpurun.buffers import l1_bytes, l2_bytes
from kpurun.compute import Place
from kpurun.loops import Loops, interleaves_reductions
from kpurun.machine import Machine, machine_of
from kpurun.ops.loopnest import Unit
from kpurun.pipeline import busy_cycles, flow_of, tile_times
from kpurun.plan import Plan, plan_of
from kpurun.work import Work

MOST_L1_TILES = 6  # how many, in order of promise, are tried with every L2 tile and loop order
CLOSE_TO_IDEAL = 1.02  # nothing better is looked for
CHANNEL_PARTS = 6  # of an op whose neighbours work on another unit,
SHARE_OF_L1 = 0.4  # and what such an op may take of L1


def tile(
    work: Work,
    config: KPUConfig,
    l2_budget_bytes: int,
    loads_ahead: bool = False,
    hands_over: bool = False,
) -> TileConfig:
    """The tiling with the fewest estimated cycles whose buffers fit L1 and `l2_budget_bytes`.

    loads_ahead: the first tiles of weights come before the op begins. hands_over: its neighbours
    work on another unit, so it is cut into small tiles that leave them room in L1. Deterministic.
    MemoryError when even the smallest tiles do not fit.
    """
    if work.nest.unit is Unit.VIEW:
        return TileConfig()
    anonymous = _anonymous(work)
    if hands_over:
        found = _small_tiles(anonymous, config, l2_budget_bytes, loads_ahead)
        if found is not None:
            return found
    return _tile(anonymous, config, l2_budget_bytes, loads_ahead)


@lru_cache(maxsize=4096)
def _small_tiles(
    work: Work, config: KPUConfig, l2_budget_bytes: int, loads_ahead: bool
) -> TileConfig | None:
    """Of what fits L1, parts of its channels; of the rest, what is best in a share of L1. None
    where neither is possible."""
    judge = _Judge(plan_of(work), machine_of(config), loads_ahead)
    plan, l1_budget_bytes = judge.plan, config.memory.sram_l1_bytes
    if l1_bytes(plan, uncut(plan)) <= l1_budget_bytes:
        loops = judge.on_idle_arrays(in_channel_parts(plan, judge.machine, CHANNEL_PARTS))
        if loops.is_split and l1_bytes(plan, loops) <= l1_budget_bytes:
            return _tile_config(plan, loops) if l2_bytes(plan, loops) <= l2_budget_bytes else None
    memory = replace(config.memory, sram_l1_bytes=int(SHARE_OF_L1 * l1_budget_bytes))
    try:
        return _tile(work, replace(config, memory=memory), l2_budget_bytes, loads_ahead)
    except MemoryError:
        return None


def _anonymous(work: Work) -> Work:
    """The work with numbers for tensor names, so that equal layers share one search."""
    reads = tuple(replace(each, tensor_id=str(i)) for i, each in enumerate(work.reads))
    writes = tuple(replace(each, tensor_id=str(-1 - i)) for i, each in enumerate(work.writes))
    return replace(work, reads=reads, writes=writes)


@lru_cache(maxsize=4096)
def _tile(work: Work, config: KPUConfig, l2_budget_bytes: int, loads_ahead: bool) -> TileConfig:
    judge = _Judge(plan_of(work), machine_of(config), loads_ahead)
    plan, machine = judge.plan, judge.machine
    l1_budget_bytes = config.memory.sram_l1_bytes
    in_one = uncut(plan)
    if l1_bytes(plan, in_one) <= l1_budget_bytes and l2_bytes(plan, in_one) <= l2_budget_bytes:
        return _tile_config(plan, judge.on_idle_arrays(in_one))
    for batch in l1_tiles(plan, machine, l1_budget_bytes):
        if best := _fastest(judge, batch, l2_budget_bytes):
            return _tile_config(plan, judge.on_idle_arrays(best))
    return _tile_config(plan, _last_resort(plan, l1_budget_bytes, l2_budget_bytes))


def forget() -> None:
    """Drop what searches have found out: whoever tries many machines would keep it of all."""
    for memory in (_tile, _small_tiles, plan_of, orders_of):
        memory.cache_clear()


@dataclass(frozen=True)
class _Judge:
    """What the loops of an op are worth."""

    plan: Plan
    machine: Machine
    loads_ahead: bool

    @cached_property
    def _ahead(self) -> frozenset[str]:
        weights = (each for each in self.plan.reads if each.staged and each.operand.is_weight)
        return frozenset(each.operand.tensor_id for each in weights if self.loads_ahead)

    def cycles(self, loops: Loops, limit: int | None = None) -> int:
        """Of the op, but no less than the DRAM bus takes: what it loads ahead for this op, it does
        not load for others."""
        flow = flow_of(self.plan, loops, self.machine, limit, self._ahead)
        return max(flow.total_cycles, flow.dma_cycles)

    def ideal_cycles(self) -> int:
        """What an op would take whose operands moved once, as a whole, all behind one another."""
        flow = flow_of(self.plan, uncut(self.plan), self.machine)
        least = self.plan.roofline_cycles(self.machine)
        return max(least, flow.dma_cycles, flow.mover_cycles)

    def on_idle_arrays(self, loops: Loops) -> Loops:
        """With the reduction split over arrays that would have no block, where that is faster."""
        if self.plan.work.nest.unit is not Unit.SYSTOLIC:
            return loops
        splits = [split for split in (1, 2, 4, 8, 16, 32) if split <= self.machine.tiles]
        options = [replace(loops, reduction_split=split) for split in splits]
        fastest = min(options, key=lambda each: busy_cycles(self.plan, each, self.machine))
        return min((loops, fastest), key=self.cycles)


def _fastest(judge: _Judge, batch: list[Loops], l2_budget_bytes: int) -> Loops | None:
    """The best loops around the most promising of the L1 tiles; None if L2 is too small for all.

    Each with its reduction split as it will be: transfers that hide behind the longer work of a few
    arrays would show once others join.
    """
    plan, machine = judge.plan, judge.machine
    good_enough = CLOSE_TO_IDEAL * judge.ideal_cycles()
    best: Loops | None = None
    best_cycles = tried = 0
    for tiled in _by_promise(plan, machine, batch):
        tiled = judge.on_idle_arrays(tiled)
        possible = [
            loops for loops in around(plan, tiled) if _is_possible(plan, loops, l2_budget_bytes)
        ]
        if not possible:
            continue
        if best is None or busy_cycles(plan, tiled, machine) < best_cycles:
            for loops in possible:
                limit = None if best is None else best_cycles
                cycles = judge.cycles(loops, limit)
                if best is None or cycles < best_cycles:
                    best, best_cycles = loops, cycles
        tried += 1
        if tried == MOST_L1_TILES or best_cycles <= good_enough:
            break
    return best


def _by_promise(plan: Plan, machine: Machine, batch: list[Loops]) -> list[Loops]:
    """L1 tiles, those first that compute fastest (judged by one tile) in the fewest steps."""
    floor = plan.roofline_cycles(machine)

    def rank(loops: Loops) -> tuple[float, int, tuple[int, ...]]:
        place = Place(is_first=not plan.splits_reduction(loops), is_last=True)
        tiles = prod(map(truediv, loops.sizes, loops.l1_tile))
        times = tile_times(plan, loops.l1_tile, loops, place, machine)
        cycles = tiles * times.occupied_cycles / machine.tiles
        return max(floor, cycles), loops.steps, loops.l1_tile

    return sorted(batch, key=rank)


def _is_possible(plan: Plan, loops: Loops, l2_budget_bytes: int) -> bool:
    if interleaves_reductions(loops, plan.output_dims):
        return False
    return plan.writes_once(loops) and l2_bytes(plan, loops) <= l2_budget_bytes


def _last_resort(plan: Plan, l1_budget_bytes: int, l2_budget_bytes: int) -> Loops:
    """The smallest tiles, without double buffers: MemoryError if even they do not fit."""
    candidates = around(plan, smallest(plan))
    possible = [each for each in candidates if _is_possible(plan, each, l2_bytes(plan, each))]
    loops = min(possible, key=lambda each: l2_bytes(plan, each))
    for required, available in (
        (l1_bytes(plan, loops), l1_budget_bytes),
        (l2_bytes(plan, loops), l2_budget_bytes),
    ):
        if required > available:
            raise MemoryError(required, available, "SRAM")
    return loops


def _tile_config(plan: Plan, loops: Loops) -> TileConfig:
    names = [dim.name for dim in plan.dims]
    is_buffered = loops.is_split and loops.copies > 1
    l2_tile = {names[dim]: loops.l2_tile[dim] for dim in loops.l2_order}
    l1_tile = {
        name: size
        for name, size, l2_size in zip(names, loops.l1_tile, loops.l2_tile, strict=True)
        if size < l2_size
    }
    return TileConfig(
        tile_sizes=l1_tile,
        loop_order=tuple(names[dim] for dim in loops.l1_order),
        double_buffer=is_buffered,
        prefetch_distance=loops.copies - 1 if is_buffered else 1,
        l2_prefetch_distance=loops.l2_copies - 1 if is_buffered else 1,
        l2_tile_sizes=l2_tile,
        l2_loop_order=tuple(names[dim] for dim in loops.l2_order),
        reduction_split=loops.reduction_split,
    )
