"""A sweep as one HTML file that works offline: the Pareto plots and tables of every model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from formats.console import toolchain_version
from kpuprof.offline import csp_hash, environment, source
from kpuprof.sweep.charts import ParetoChart, left_out, pareto_charts
from kpuprof.sweep.pareto import Objectives, objectives
from kpuprof.sweep.table import Row

STYLES = ("report.css", "sweep.css")
SCRIPTS = ("sort.js",)


@dataclass(frozen=True)
class Part:
    """What the page says of one model. ends: the best result in each objective, by what it is;
    refused: how many machines, by message."""

    model: str
    results: int
    front: list[Row]
    ends: list[tuple[str, Row]]
    charts: list[ParetoChart]
    left_out: int
    refused: list[tuple[str, int]]


def page(rows: Sequence[Row], field_names: Sequence[str], machine: str) -> str:
    """rows: as the table has them; machine: of what does not vary."""
    parts = [part_of(model, rows) for model in dict.fromkeys(row.model for row in rows)]
    style, script = source(STYLES), source(SCRIPTS)
    template = environment().get_template("sweep.html")
    return str(
        template.render(
            parts=parts,
            fields=field_names,
            machine=machine,
            results=len(rows),
            style=style,
            script=script,
            style_hash=csp_hash(style),
            script_hash=csp_hash(script),
            producer=f"kpu-toolchain {toolchain_version()}",
        )
    )


def part_of(model: str, rows: Sequence[Row]) -> Part:
    """One model's results, the front from the fastest."""
    own = [row for row in rows if row.model == model]
    computed = [row for row in own if row.result.figures is not None]
    front = sorted((row for row in computed if row.is_pareto), key=_objectives)
    messages = Counter(row.result.message for row in own if row.result.figures is None)
    return Part(
        model=model,
        results=len(own),
        front=front,
        ends=_ends(front),
        charts=pareto_charts(computed, front),
        left_out=left_out(computed),
        refused=sorted(messages.items(), key=lambda entry: (-entry[1], entry[0])),
    )


def _ends(front: Sequence[Row]) -> list[tuple[str, Row]]:
    names = ("The fastest", "The least energy", "The smallest")
    if not front:
        return []
    return [
        (name, min(front, key=lambda row: (_objectives(row)[at], _objectives(row))))
        for at, name in enumerate(names)
    ]


def _objectives(row: Row) -> Objectives:
    assert row.result.figures is not None, "the front has figures"
    return objectives(row.result.figures)
