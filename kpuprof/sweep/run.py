"""A sweep from its results file to its rows, with what a person sees of it on stderr."""

from pathlib import Path

from formats.console import Terminal
from formats.errors import UsageError
from kpuprof.sweep.engines import engine
from kpuprof.sweep.explore import Plan, explore
from kpuprof.sweep.journal import Journal, open_journal
from kpuprof.sweep.models import without_weights
from kpuprof.sweep.table import Row, rows_of

MOST_POINTS = 1_000_000


def run(
    plan: Plan,
    results_path: Path | None,
    engine_name: str,
    workers: int | None,
    address: str | None,
    terminal: Terminal,
) -> list[Row]:
    """Compute what is not in the results file yet, and give all rows of the plan's space.

    An interrupt leaves what is done in the results file. UsageError for more points than anybody
    waits for; what the engine and the results file raise.
    """
    if plan.total > MOST_POINTS:
        raise UsageError(
            f"{plan.total:,} points are more than {MOST_POINTS:,}: give --search random or pareto "
            "with --samples N"
        )
    with open_journal(results_path) as journal:
        there = len(journal.results)
        try:
            _compute(plan, journal, engine_name, workers, address, terminal)
        finally:
            computed = len(journal.results) - there
            if results_path is not None:
                terminal.note(f"{computed:,} results computed, {there:,} there already")
        rows = rows_of(plan, journal.results)
        refused = sum(row.result.figures is None for row in rows)
        others = len(journal.results) - len(rows)
    terminal.note(
        f"{len(rows):,} results: {refused:,} refused, "
        f"{sum(row.is_pareto for row in rows):,} on the Pareto front"
    )
    if others:
        terminal.note(f"{others:,} in {results_path} are of other programs, machines or modes")
    return rows


def _compute(
    plan: Plan,
    journal: Journal,
    engine_name: str,
    workers: int | None,
    address: str | None,
    terminal: Terminal,
) -> None:
    programs = {
        (model.label, precision): without_weights(program)
        for model in plan.models
        for precision, program in model.programs.items()
    }
    with engine(engine_name, programs, workers, address) as evaluate:
        for _ in terminal.track(explore(plan, journal, evaluate), "sweeping", plan.total):
            pass
