"""What binds a run, and what would help: every saving is that of a run which was played."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from formats.errors import KPUError
from formats.profile import Profile
from kpuprof.measured import Measured
from kpuprof.remedies import Remedy, remedies
from kpuprof.rows import OpRow, op_rows
from kpuprof.trials import base_of, tried

MOST_OPS = 3  # named for each binding resource
STALLS = {
    "dma_stall_cycles": "waiting for DRAM",
    "mover_stall_cycles": "waiting for the block mover",
    "other_cycles": "dispatching ops",
}
Progress = Callable[[list[Remedy]], Iterable[Remedy]]


@dataclass(frozen=True)
class Binding:
    """Cycles that one cause takes, and the ops that it takes most of."""

    cause: str
    cycles: int
    share: float
    ops: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Verified:
    """A remedy that was played; cycles and µJ less than before, negative where more."""

    remedy: Remedy
    cycles_saved: int
    share_saved: float
    energy_uj_saved: float
    run: Measured


@dataclass(frozen=True)
class MissedFusion:
    """An op that stands alone, the cycles it takes, and why it is not part of another."""

    op: str
    op_type: str
    cycles: int
    share: float
    reason: str


@dataclass(frozen=True)
class Advice:
    """verified: the most cycles saved first. not_tried: a remedy and the reason."""

    base: Measured
    note: str
    limits: tuple[Binding, ...]
    stalls: tuple[Binding, ...]
    verified: tuple[Verified, ...]
    not_tried: tuple[tuple[str, str], ...]
    missed: tuple[MissedFusion, ...]


def advise(profile: Profile, progress: Progress = list) -> Advice:
    """Raises what planning raises for the profile's own machine; a remedy that cannot be played is
    listed with the reason."""
    base, note = base_of(profile)
    verified: list[Verified] = []
    refused: list[tuple[str, str]] = []
    for remedy in progress(list(remedies(profile.program))):
        try:
            run = tried(profile, remedy.change, remedy.config, remedy.precision)
        except KPUError as error:
            refused.append((f"{remedy.title} ({remedy.change})", " ".join(str(error).split())))
            continue
        verified.append(_verified(base, remedy, run))
    refused.append(("a batch", "compile with another --input-shape: a program has its shapes"))
    assert base.profile is not None, "it was played"
    rows = op_rows(base.profile)
    return Advice(
        base=base,
        note=note,
        limits=tuple(_limits(rows)),
        stalls=tuple(_stalls(base.profile, rows)),
        verified=tuple(sorted(verified, key=lambda each: -each.cycles_saved)),
        not_tried=tuple(refused),
        missed=tuple(_missed(base.profile, rows)),
    )


def _verified(base: Measured, remedy: Remedy, run: Measured) -> Verified:
    cycles = int(base.totals["total_cycles"] - run.totals["total_cycles"])
    return Verified(
        remedy=remedy,
        cycles_saved=cycles,
        share_saved=cycles / max(1, base.totals["total_cycles"]),
        energy_uj_saved=base.totals["total_energy_uj"] - run.totals["total_energy_uj"],
        run=run,
    )


def _limits(rows: list[OpRow]) -> Iterator[Binding]:
    """What limits the ops, by the cycles of those that it limits."""
    found = [
        _binding(cause, [(row.name, row.cycles) for row in rows if row.bound_by == cause], rows)
        for cause in dict.fromkeys(row.bound_by for row in rows if row.cycles)
    ]
    yield from sorted(found, key=lambda each: -each.cycles)


def _stalls(profile: Profile, rows: list[OpRow]) -> Iterator[Binding]:
    """What the ops wait for; of a functional profile nobody knows the cause."""
    figures = profile.metrics.op_metrics
    for key, cause in STALLS.items():
        if any(key not in figures[row.id] for row in rows):
            continue
        binding = _binding(cause, [(row.name, int(figures[row.id][key])) for row in rows], rows)
        if binding.cycles:
            yield binding


def _binding(cause: str, spent: list[tuple[str, int]], rows: list[OpRow]) -> Binding:
    cycles, total = sum(each for _, each in spent), sum(row.cycles for row in rows)
    most = sorted((each for each in spent if each[1]), key=lambda each: -each[1])[:MOST_OPS]
    return Binding(cause, cycles, cycles / max(1, total), tuple(most))


def _missed(profile: Profile, rows: list[OpRow]) -> Iterator[MissedFusion]:
    """The compiler's reasons, joined to cycles: what fusing would take away at most."""
    from kpuc.passes.missed import missed_fusions
    from kpuc.retile import graph_of

    by_id = {row.id: row for row in rows}
    total = max(1, profile.metrics.total_cycles)
    found = missed_fusions(graph_of(profile.program), profile.program.target_config)
    for each in sorted(found, key=lambda one: -by_id[one.node_id].cycles):
        row = by_id[each.node_id]
        if row.cycles:
            yield MissedFusion(row.name, each.op_type, row.cycles, row.cycles / total, each.reason)
