"""`kpuprof sweep`: one network on many machines."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from formats.console import (
    STDIO,
    Terminal,
    TracebackOption,
    one_of,
    require_different,
    require_distinct,
)
from formats.errors import UsageError

if TYPE_CHECKING:
    from kpuprof.sweep.explore import Plan
    from kpuprof.sweep.table import Row

DEFAULT_SAMPLES = 100


def sweep(
    space_path: Annotated[
        str,
        typer.Argument(metavar="SPACE.toml", help="Fields of the machine and their values."),
    ],
    model_paths: Annotated[
        list[str],
        typer.Option("--model", metavar="MODEL", help="Program, or model as of kpuc; repeatable."),
    ],
    output_path: Annotated[
        str,
        typer.Option("--output", "-o", metavar="FILE", help="A row per result, CSV; - for stdout."),
    ],
    results_path: Annotated[
        str | None,
        typer.Option("--results", metavar="FILE", help="Kept results. Default: -o with .jsonl."),
    ] = None,
    search: Annotated[
        str, typer.Option(metavar="SEARCH", help="grid, random or pareto (guided).")
    ] = "grid",
    samples: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Of random and pareto, per model. Default: 100."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Of random and pareto. Default: 0.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes. Default: one per core.")
    ] = None,
    engine: Annotated[
        str, typer.Option(metavar="ENGINE", help="local, or ray for more than one computer.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the Ray cluster, e.g. auto.")
    ] = None,
    html_path: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="The Pareto plots as a page.")
    ] = None,
    png_path: Annotated[
        str | None, typer.Option("--png", metavar="FILE", help="The Pareto plots as an image.")
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME:]1,3,224,224", help="Shape of a model's input, as of kpuc."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FACTORY", help="What a state_dict's weights belong to."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let a model's file run code when loaded.")
    ] = False,
    traceback: TracebackOption = False,
) -> None:
    """Try a network on many machines; resumed, drawn as plots."""
    from kpuprof.sweep.engines import ENGINES
    from kpuprof.sweep.search import SEARCHES

    if one_of(search, SEARCHES, "--search") == "grid" and (samples, seed) != (None, None):
        raise UsageError("--samples and --seed are for --search random and pareto")
    if one_of(engine, ENGINES, "--engine") == "local" and address is not None:
        raise UsageError("--address is for --engine ray")
    kept = _results_file(output_path, results_path)
    targets = {"-o": output_path, "--results": kept, "--html": html_path, "--png": png_path}
    require_distinct(targets)
    for target in targets.values():
        for source in (space_path, *model_paths):
            require_different(source, target or STDIO)
    from kpuprof.sweep.explore import Plan
    from kpuprof.sweep.models import ModelOptions, read_models
    from kpuprof.sweep.run import run
    from kpuprof.sweep.space import read_space

    space = read_space(space_path)
    options = ModelOptions(tuple(input_shape or ()), arch, trust_pickle)
    plan = Plan(
        space=space,
        models=read_models(model_paths, space, options),
        search=search,
        samples=None if search == "grid" else samples or DEFAULT_SAMPLES,
        seed=seed or 0,
    )
    rows = run(plan, None if kept is None else Path(kept), engine, workers, address, Terminal())
    _write(rows, plan, output_path, html_path, png_path)


def _results_file(output_path: str, results_path: str | None) -> str | None:
    """Where results are kept: beside the table, unless told; nowhere for one on stdout."""
    if results_path == STDIO:
        raise UsageError("--results needs a file: it is read and written")
    is_device = Path(output_path).exists() and not Path(output_path).is_file()
    if results_path is not None or output_path == STDIO or is_device:
        return results_path
    return str(Path(output_path).with_suffix(".jsonl"))


def _write(
    rows: "list[Row]", plan: "Plan", output_path: str, html_path: str | None, png_path: str | None
) -> None:
    """The table last, which says that all is done."""
    from formats.files import write_file
    from kpuprof.sweep.table import csv_text

    names = [axis.name for axis in plan.space.axes]
    if html_path is not None:
        from kpuprof.sweep.page import page

        write_file(page(rows, names, plan.space.base.name).encode(), html_path)
    if png_path is not None:
        from kpuprof.sweep.image import image

        write_file(image(rows), png_path)
    text = csv_text(rows, names)
    if output_path == STDIO:
        sys.stdout.write(text)
    else:
        write_file(text.encode(), output_path)
