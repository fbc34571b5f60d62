"""The results as a table: CSV for a spreadsheet or a script, unrounded, units in the names."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from kpuprof.sweep.explore import Plan, in_space
from kpuprof.sweep.pareto import on_front
from kpuprof.sweep.result import Figures, Result

FIGURES = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True)
class Row:
    """A result as the table shows it; model: by its present name."""

    model: str
    result: Result
    is_pareto: bool


def rows_of(plan: Plan, results: dict[str, Result]) -> list[Row]:
    """The results of the plan's models and space, models in order, then as the grid runs."""
    found = in_space(plan, results)
    fronts = on_front([(model.label, result) for model, _, result in found])
    return [Row(model.label, result, result.key in fronts) for model, _, result in found]


def csv_text(rows: Sequence[Row], field_names: Sequence[str]) -> str:
    """A line per result; figures are empty where the machine was refused."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = ("is_pareto", "status", "message")
    writer.writerow(["model", "precision", *field_names, *FIGURES, *ends])
    for row in rows:
        result = row.result
        figures = asdict(result.figures) if result.figures is not None else {}
        writer.writerow(
            [
                row.model,
                result.precision,
                *(_cell(result.fields[name]) for name in field_names),
                *(figures.get(name, "") for name in FIGURES),
                _cell(row.is_pareto) if figures else "",
                result.status,
                result.message,
            ]
        )
    return out.getvalue()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
