"""Two runs or programs compared: figures of the whole, and of every op with its counterpart."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from formats.errors import UsageError
from formats.profile import Bound, Profile
from formats.program import KPUOp
from kpuprof.figures import FIGURES, Figure
from kpuprof.match import match
from kpuprof.match_groups import Match
from kpuprof.measured import Measured, OpFigures
from kpuprof.rows import op_label, readable

SORT_KEYS = ("cycles", "energy", "dram")
SORTED_BY = {"cycles": "cycles", "energy": "energy_uj", "dram": "dram_bytes"}
PLACES = {"sram_l2": "L2", "sram_l1": "L1", "dram": "DRAM"}
PEAKS = ("l2_live_bytes", "peak_watts")  # of several ops the largest, not the sum


@dataclass(frozen=True)
class Change:
    """A figure before and after, in its own unit."""

    base: float
    new: float

    @property
    def difference(self) -> float:
        """new - base."""
        return self.new - self.base

    @property
    def share(self) -> float | None:
        """The difference over the base (0.02 for 2 % more); None where the base is nothing."""
        return self.difference / self.base if self.base else None


@dataclass(frozen=True)
class OpChange:
    """The ops of each side that do the same work, and their figures before and after.

    figures: by field of OpFigures, those that both files say; an op that one side lacks counts as
    nothing there. notes: what else differs ("fused", "tiles", "precision fp16 → int8").
    """

    name: str
    base_ops: tuple[KPUOp, ...]
    new_ops: tuple[KPUOp, ...]
    matched_by: str
    figures: dict[str, Change]
    notes: tuple[str, ...]

    @property
    def op_type(self) -> str:
        """As a person says it; both, when they differ."""
        labels = [" ".join(map(op_label, ops)) for ops in (self.base_ops, self.new_ops) if len(ops)]
        return " → ".join(dict.fromkeys(labels))

    @property
    def is_changed(self) -> bool:
        """Whether any figure is another."""
        return any(change.base != change.new for change in self.figures.values())


@dataclass(frozen=True)
class Comparison:
    """totals: by figure, those that both files say. ops: the largest change of cycles first.
    differences: what makes the files no like with like ("mode functional → power_trace")."""

    base: Measured
    new: Measured
    totals: dict[str, Change]
    ops: tuple[OpChange, ...]
    differences: tuple[str, ...]

    def total(self, figure: Figure) -> Change:
        """UsageError that says which of the files lacks it, and how to get it."""
        return Change(self.base.total(figure), self.new.total(figure))

    def ops_by(self, field: str) -> list[OpChange]:
        """The largest change of a figure of ops first; of equal ones the order is kept."""
        if not all(field in op.figures for op in self.ops):
            raise UsageError(f"{field} of an op is not in both files: a program has no such figure")
        return sorted(self.ops, key=lambda op: -abs(op.figures[field].difference))


def compare(base: Measured, new: Measured) -> Comparison:
    """Match every op and subtract."""
    known = {entry.name for entry in fields(OpFigures)}
    known = {name for name in known if _says(base, name) and _says(new, name)}
    ordered = tuple(entry.name for entry in fields(OpFigures) if entry.name in known)
    ops = [_op_change(base, new, found, ordered) for found in match(base.program, new.program)]
    return Comparison(
        base=base,
        new=new,
        totals={
            figure.name: Change(base.totals[figure.name], new.totals[figure.name])
            for figure in FIGURES
            if figure.name in base.totals and figure.name in new.totals
        },
        ops=tuple(sorted(ops, key=lambda op: -abs(op.figures["cycles"].difference))),
        differences=tuple(_differences(base, new)),
    )


def _says(side: Measured, field: str) -> bool:
    return all(getattr(op, field) is not None for op in side.ops.values())


def _op_change(base: Measured, new: Measured, found: Match, known: Iterable[str]) -> OpChange:
    named = found.base or found.new
    return OpChange(
        name=named[0].name or named[0].id,
        base_ops=found.base,
        new_ops=found.new,
        matched_by=found.by,
        figures={
            field: Change(_sum(base, found.base, field), _sum(new, found.new, field))
            for field in known
        },
        notes=tuple(_notes(base, new, found)),
    )


def _sum(side: Measured, ops: Iterable[KPUOp], field: str) -> float:
    values = [getattr(side.ops[op.id], field) for op in ops]
    return max(values, default=0) if field in PEAKS else sum(values)


def _notes(base: Measured, new: Measured, found: Match) -> Iterable[str]:
    """What of an op's compilation differs, and may be why its figures do."""
    if not found.base or not found.new:
        yield "new" if found.new else "gone"
        return
    if len(found.base) != len(found.new):
        yield "fused" if len(found.new) < len(found.base) else "split"
    matched, last = (found.base[0], found.new[0]), (_last(found.base), _last(found.new))
    yield from _change_of("precision", _precision(base, matched[0]), _precision(new, matched[1]))
    yield from _change_of("output", _place(base, last[0]), _place(new, last[1]))
    if base.profile is not None and new.profile is not None:
        bounds = _bound(base.profile, matched[0]), _bound(new.profile, matched[1])
        yield from _change_of("bound", *bounds)
    if _shapes(base, last[0]) != _shapes(new, last[1]):
        yield "shape"
    if matched[0].tiling != matched[1].tiling:
        yield "tiles"


def _change_of(what: str, first: str, second: str) -> Iterable[str]:
    return [f"{what} {first} → {second}"] if first != second else []


def _last(ops: Iterable[KPUOp]) -> KPUOp:
    """The one that makes the result of all of them."""
    return max(ops, key=lambda op: op.schedule_order)


def _shapes(side: Measured, op: KPUOp) -> list[tuple[int, ...]]:
    return [side.program.tensors[i].shape for i in op.output_ids]


def _precision(side: Measured, op: KPUOp) -> str:
    """That of an op which is not its program's; the program's own is said once, of the whole."""
    precision = op.precision or side.program.precision
    return "of the program" if precision is side.program.precision else precision.value


def _bound(profile: Profile, op: KPUOp) -> str:
    return Bound(int(profile.metrics.op_metrics[op.id]["bound_by"])).name.lower()


def _place(side: Measured, op: KPUOp) -> str:
    places = {side.program.tensors[i].layout.memory_type.value for i in op.output_ids}
    return "+".join(PLACES.get(place, place) for place in sorted(places))


def _differences(base: Measured, new: Measured) -> Iterable[str]:
    """What besides the ops is not the same in both."""
    aspects = {
        "program": (base.program.name, new.program.name),
        "mode": (base.mode, new.mode),
        "machine": (base.program.target_config.name, new.program.target_config.name),
        "precision": (base.program.precision.value, new.program.precision.value),
    }
    for name, (first, second) in aspects.items():
        if first != second:
            yield f"{name} {readable(first)} → {readable(second)}"
    machines = (base.program.target_config, new.program.target_config)
    if machines[0] != machines[1] and machines[0].name == machines[1].name:
        yield f"machine {readable(machines[0].name)} with other settings"
