"""Absolute budgets, from the command line or a TOML file, held against what was measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from formats.errors import FileError, UsageError
from formats.files import Source
from formats.toml import read_toml
from kpuprof.amounts import Amount, amount, exact, plain, texts_apart
from kpuprof.figures import Figure, figure_named
from kpuprof.measured import Measured
from kpuprof.rows import op_label

TABLE = "budgets"
OPTION = "--budget"


@dataclass(frozen=True)
class Budget:
    """The most that a figure may be; of one that is better higher, the least. `where` it is from:
    an option or a file."""

    figure: Figure
    limit: Amount
    where: str


@dataclass(frozen=True)
class Spender:
    """An op and what it takes of a figure. `share` (0-1): of the ops' sum; None of a peak."""

    id: str
    name: str
    op_type: str
    spent: float
    share: float | None


@dataclass(frozen=True)
class Finding:
    """One budget held against its figure. `spenders`: the ops that spend most, largest first."""

    budget: Budget
    value: float
    spenders: tuple[Spender, ...]

    @property
    def is_held(self) -> bool:
        """Whether the figure is within its budget; equal is."""
        value, limit = exact(self.value), self.budget.limit.value
        return value >= limit if self.budget.figure.at_least else value <= limit

    @property
    def texts(self) -> tuple[str, str]:
        """Figure and budget for a person, never alike when they differ."""
        figure = self.budget.figure
        return texts_apart(self.value, plain(self.budget.limit.value), figure.unit)

    @property
    def message(self) -> str:
        """Both in one clause."""
        figure = self.budget.figure
        value, limit = self.texts
        side = "at least" if figure.at_least else "at most"
        return f"{figure.name} is {value}, {side} {limit} was asked for"


def budgets(options: Iterable[str], file: str | None) -> list[Budget]:
    """Those of the options NAME=AMOUNT and of a TOML file; an option goes before the file.

    UsageError for none at all, an unknown figure, no amount or one given twice; FileError for a
    file that cannot be read.
    """
    given = _unique([_budget(*_assignment(text), OPTION) for text in options])
    filed = _unique(_from_file(file)) if file is not None else {}
    merged = {**filed, **given}
    if not merged:
        nothing = f"{OPTION} NAME=AMOUNT or --budgets FILE" if file is None else f"any in {file}"
        raise UsageError(f"no budget to check: give {nothing}")
    return list(merged.values())


def judge(measured: Measured, wanted: Iterable[Budget], most_spenders: int) -> list[Finding]:
    """A finding per budget; UsageError for a figure that the file does not say."""
    return [
        Finding(
            budget,
            measured.total(budget.figure),
            tuple(spenders(measured, budget.figure)[:most_spenders]),
        )
        for budget in wanted
    ]


def spenders(measured: Measured, figure: Figure) -> list[Spender]:
    """The ops that a figure is made of, largest first; those that spend nothing are left out."""
    if not figure.spent_as:
        return []
    spent = {op_id: getattr(op, figure.spent_as) or 0 for op_id, op in measured.ops.items()}
    is_peak = figure.spent_as in ("l2_live_bytes", "peak_watts")
    whole = sum(spent.values())
    return [
        Spender(
            id=op.id,
            name=op.name or op.id,
            op_type=op_label(op),
            spent=spent[op.id],
            share=None if is_peak else spent[op.id] / whole,
        )
        for op in sorted(measured.program.get_ops_in_order(), key=lambda op: -spent[op.id])
        if spent[op.id] > 0
    ]


def _assignment(text: str) -> tuple[str, str]:
    name, equals, limit = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"{OPTION}: {text!r} is not of the form NAME=AMOUNT")
    return name.strip(), limit


def _budget(name: str, limit: str, where: str) -> Budget:
    figure = figure_named(name, where)
    return Budget(figure, amount(limit, figure.unit, f"{where}: {name}"), where)


def _unique(found: Iterable[Budget]) -> dict[str, Budget]:
    by_name: dict[str, Budget] = {}
    for budget in found:
        if budget.figure.name in by_name:
            raise UsageError(f"{budget.where}: {budget.figure.name} has two budgets")
        by_name[budget.figure.name] = budget
    return by_name


def _from_file(file: Source) -> list[Budget]:
    document = _document(file)
    found = []
    for name, limit in document.items():
        if isinstance(limit, bool) or not isinstance(limit, int | float | str):
            raise FileError(f"{file!s}: {name} is neither a number nor a text like '2MiB'")
        found.append(_budget(name, str(limit), str(file)))
    return found


def _document(file: Source) -> Mapping[str, object]:
    """The table [budgets] of a file, or all of a file without tables."""
    document = read_toml(file)
    table = document.get(TABLE, document)
    if not isinstance(table, dict):
        raise FileError(f"{file!s}: {TABLE} is not a table")
    return table
