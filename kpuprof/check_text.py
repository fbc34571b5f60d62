"""Findings of `kpuprof check` on a terminal, as JSON and as verdicts."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kpuprof.amounts import plain, text_of
from kpuprof.budgets import Finding, Spender
from kpuprof.figures import SPENT
from kpuprof.junit import Verdict
from kpuprof.measured import Measured


def render(measured: Measured, findings: list[Finding]) -> RenderableType:
    """A table of all budgets, then the ops behind each that is not held."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("budget", overflow="fold", min_width=10)
    for heading in ("figure", "limit", "used"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for finding in findings:
        value, limit = finding.texts
        side = "≥ " if finding.budget.figure.at_least else "≤ "
        verdict = Text("held", "green") if finding.is_held else Text("exceeded", "bold red")
        table.add_row(finding.budget.figure.name, value, side + limit, _used(finding), verdict)
    program = measured.program
    mode = measured.mode.replace("_", " ")
    title = f"{program.name} · {program.precision.value} · {program.target_config.name} · {mode}"
    behind = [_behind(finding) for finding in findings if not finding.is_held and finding.spenders]
    return Group(Text(title, "bold"), "", table, *behind)


def document(measured: Measured, findings: list[Finding]) -> dict[str, Any]:
    """The same for a script; values in the figures' own units."""
    return {
        "file": measured.name,
        "program": measured.program.name,
        "mode": measured.mode,
        "is_held": all(finding.is_held for finding in findings),
        "budgets": [
            {
                "figure": finding.budget.figure.name,
                "value": finding.value,
                "budget": plain(finding.budget.limit.value),
                "at_least": finding.budget.figure.at_least,
                "is_held": finding.is_held,
                "spent_as": finding.budget.figure.spent_as or None,
                "ops": [
                    {
                        "id": op.id,
                        "name": op.name,
                        "op_type": op.op_type,
                        "spent": op.spent,
                        "share": op.share,
                    }
                    for op in finding.spenders
                ],
            }
            for finding in findings
        ],
    }


def verdicts(findings: list[Finding]) -> list[Verdict]:
    """One per budget."""
    return [
        Verdict(
            name=finding.budget.figure.name,
            is_held=finding.is_held,
            message=finding.message,
            details=tuple(
                f"{op.name} ({op.op_type}): {' '.join(_spent(finding, op))}".rstrip()
                for op in finding.spenders
            ),
        )
        for finding in findings
    ]


def _used(finding: Finding) -> str:
    limit = float(finding.budget.limit.value)
    return f"{finding.value / limit:.1%}" if limit else "–"


def _behind(finding: Finding) -> RenderableType:
    figure = finding.budget.figure
    what, _ = SPENT[figure.spent_as]
    title = Text(f"\n{figure.name}: the ops with most {what}", "bold")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold", min_width=10)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for op in finding.spenders:
        table.add_row(op.name, op.op_type, *_spent(finding, op))
    return Group(title, table)


def _spent(finding: Finding, op: Spender) -> tuple[str, str]:
    _, unit = SPENT[finding.budget.figure.spent_as]
    return text_of(op.spent, unit), "" if op.share is None else f"{op.share:.1%}"
