"""How much worse a run may be than the one before: limits of `kpuprof diff`, and their verdicts."""

from collections.abc import Iterable
from dataclasses import dataclass

from formats.errors import UsageError
from kpuprof.amounts import Amount, change_amount, change_text, exact, share_text, texts_apart
from kpuprof.comparison import Change, Comparison, OpChange
from kpuprof.figures import SPENT, Figure, figure_named
from kpuprof.junit import Verdict

OPTION = "--fail-over"


@dataclass(frozen=True)
class Limit:
    """How much worse a figure may get: a share of the base, or so much in its own unit."""

    figure: Figure
    allowed: Amount


@dataclass(frozen=True)
class Gate:
    """One limit held against the change. `ops`: those that got worse by most, the worst first."""

    limit: Limit
    change: Change
    ops: tuple[OpChange, ...]

    @property
    def is_held(self) -> bool:
        """Whether the figure got worse by no more than is allowed; better is always held."""
        base, new = exact(self.change.base), exact(self.change.new)
        worse = base - new if self.limit.figure.at_least else new - base
        allowed = self.limit.allowed
        return worse <= (allowed.value * abs(base) if allowed.is_relative else allowed.value)

    @property
    def message(self) -> str:
        """Change and limit in one clause."""
        figure, change = self.limit.figure, self.change
        base, new = texts_apart(change.base, change.new, figure.unit)
        share = share_text(change.share)
        by = share or change_text(change.difference, figure.unit).replace("=", "no change")
        return f"{figure.name} {base} → {new} ({by}), {self.limit.allowed.text} is allowed"


def limits(options: Iterable[str]) -> list[Limit]:
    """Of NAME=AMOUNT[,NAME=AMOUNT…]; UsageError for what is none or is given twice."""
    found: dict[str, Limit] = {}
    for text in (part for option in options for part in option.split(",")):
        name, equals, allowed = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{OPTION}: {text!r} is not of the form NAME=AMOUNT")
        figure = figure_named(name.strip(), OPTION)
        if figure.name in found:
            raise UsageError(f"{OPTION}: {figure.name} has two limits")
        where = f"{OPTION}: {name.strip()}"
        found[figure.name] = Limit(figure, change_amount(allowed, figure.unit, where))
    return list(found.values())


def judge(comparison: Comparison, wanted: Iterable[Limit], most_ops: int) -> list[Gate]:
    """A gate per limit; UsageError for a figure that one of the files does not say."""
    return [
        Gate(limit, comparison.total(limit.figure), tuple(worse_ops(comparison, limit)[:most_ops]))
        for limit in wanted
    ]


def worse_ops(comparison: Comparison, limit: Limit) -> list[OpChange]:
    """Ops that spend more of what the figure is made of, the largest rise first."""
    field = limit.figure.spent_as
    rises = [
        op for op in comparison.ops if field in op.figures and op.figures[field].difference > 0
    ]
    return sorted(rises, key=lambda op: -op.figures[field].difference)


def op_line(gate: Gate, op: OpChange) -> str:
    """An op behind a gate: "layer1.0.conv1 (Conv+Relu): +1,024 cycles (tiles)"."""
    field = gate.limit.figure.spent_as
    _, unit = SPENT[field]
    why = f" ({', '.join(op.notes)})" if op.notes else ""
    return f"{op.name} ({op.op_type}): {change_text(op.figures[field].difference, unit)}{why}"


def verdicts(gates: Iterable[Gate]) -> list[Verdict]:
    """One per gate."""
    return [
        Verdict(
            name=gate.limit.figure.name,
            is_held=gate.is_held,
            message=gate.message,
            details=tuple(op_line(gate, op) for op in gate.ops),
        )
        for gate in gates
    ]
