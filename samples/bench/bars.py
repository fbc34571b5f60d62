"""Bars: a measured figure beside the limit it is held to. One that fails makes the run fail."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Bar:
    """`measured` and `limit` are texts with units; `holds` is the verdict."""

    what: str
    measured: str
    limit: str
    holds: bool


def at_most(what: str, value: float, limit: float, unit: str, digits: int = 2) -> Bar:
    """value ≤ limit."""
    measured, bound = f"{value:.{digits}f} {unit}", f"≤ {limit:g} {unit}"
    return Bar(what, measured.strip(), bound.strip(), value <= limit)


def print_table(console: Console, title: str, header: Sequence[str], rows: list[list[str]]) -> None:
    """A table whose first column is text and whose others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_bars(console: Console, bars: Sequence[Bar]) -> None:
    """The verdicts, failures last so that they end the output."""
    in_order = sorted(bars, key=lambda bar: not bar.holds)
    rows = [
        [bar.what, bar.measured, bar.limit, "[green]pass" if bar.holds else "[bold red]FAIL"]
        for bar in in_order
    ]
    print_table(console, "Bars", ["what", "measured", "limit", ""], rows)
