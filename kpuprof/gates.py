"""How much worse a run may be than the one before: limits of `kpuprof diff`, and their verdicts."""

from collections.abc import Iterable
from dataclasses import dataclass

from formats.errors import UsageError
from kpuprof.amounts import Amount, change_amount, change_text, exact, share_beside, texts_apart
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
        return f"{figure.name} {base} → {new} ({self.change_text}), {self.allowed_text} is allowed"

    @property
    def change_text(self) -> str:
        """The change as the limit is given: relative or in units."""
        share, allowed = self.change.share, self.limit.allowed
        if allowed.is_relative and share:
            return share_beside(share, self._worst_allowed)
        return change_text(self.change.difference, self.limit.figure.unit)

    @property
    def _worst_allowed(self) -> float:
        return float(self.limit.allowed.value) * (-1 if self.limit.figure.at_least else 1)

    @property
    def allowed_text(self) -> str:
        """The limit as it was written, with the sign of what is worse."""
        return ("−" if self.limit.figure.at_least else "+") + self.limit.allowed.text


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


def op_texts(gate: Gate, op: OpChange) -> tuple[str, str, str]:
    """An op behind a gate: its name, how much more it spends, and what differs."""
    field = gate.limit.figure.spent_as
    _, unit = SPENT[field]
    return op.name, change_text(op.figures[field].difference, unit), ", ".join(op.notes)


def verdicts(gates: Iterable[Gate]) -> list[Verdict]:
    """One per gate."""
    return [
        Verdict(
            name=gate.limit.figure.name,
            is_held=gate.is_held,
            message=gate.message,
            details=tuple("  ".join(op_texts(gate, op)).rstrip() for op in gate.ops),
        )
        for gate in gates
    ]
