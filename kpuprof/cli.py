"""`kpuprof`: reads profiles and shows where time, energy and memory go."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from formats.console import (
    STDIO,
    JsonOption,
    TracebackOption,
    VersionOption,
    one_of,
    print_json,
    require_different,
    run,
)
from formats.errors import UsageError

app = typer.Typer(
    help="Understand a KPU run: where time, energy and memory go.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _common(context: typer.Context, version: VersionOption = False) -> None:
    """Understand a KPU run: where time, energy and memory go."""
    if context.invoked_subcommand is None:
        raise UsageError("no command: give show RUN.kprof or report RUN.kprof -o report.html")


@app.command()
def show(
    profile_path: Annotated[
        str, typer.Argument(metavar="RUN.kprof", help="Profile to show; - for stdin.")
    ],
    sort: Annotated[
        str,
        typer.Option(metavar="KEY", help="Order of the ops: order, cycles, energy, dram or stall."),
    ] = "order",
    top: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show this many ops; 0 shows all.")
    ] = 0,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Summary, per-op table and L2 use over time of one run."""
    from formats.container import load_profile
    from kpuprof.memory import memory_use
    from kpuprof.rows import SORT_KEYS, op_rows, sort_rows
    from kpuprof.summary import summarise, summarise_quantization

    key = one_of(sort, SORT_KEYS, "--sort")
    profile = load_profile(sys.stdin.buffer.read() if profile_path == STDIO else profile_path)
    rows = op_rows(profile)
    summary, memory = summarise(profile, rows), memory_use(profile)
    quantization = summarise_quantization(profile.program)
    shown = sort_rows(rows, key)
    if as_json:
        ops = [asdict(row) for row in (shown[:top] if top else shown)]
        document = {
            "summary": asdict(summary),
            "quantization": None if quantization is None else asdict(quantization),
            "ops": ops,
            "memory": asdict(memory),
        }
        print_json("show", document)
        return
    from rich.console import Console

    from kpuprof.text import render

    console = Console(highlight=False)
    console.print(render(summary, quantization, shown, memory, top, console.width))


@app.command()
def report(
    profile_paths: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN.kprof [MORE.kprof …]",
            help="Profiles; - for stdin. Others are compared with the first.",
        ),
    ],
    output_path: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The report, one HTML file; - for stdout."
        ),
    ] = None,
    png: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the plots as PNG into a folder.")
    ] = None,
    svg: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write the plots as SVG into a folder.")
    ] = None,
    traceback: TracebackOption = False,
) -> None:
    """One HTML file, for a browser without network, of one run or of several compared."""
    if output_path is None and png is None and svg is None:
        raise UsageError("nothing to write: give -o report.html, --png DIR or --svg DIR")
    if profile_paths.count(STDIO) > 1:
        raise UsageError("only one of the profiles can come from stdin")
    for path in profile_paths:
        require_different(path, output_path or STDIO)
    from formats.container import load_profile
    from formats.files import write_file

    names = run_names(profile_paths)
    profiles = {name: load_profile(path) for name, path in zip(names, profile_paths, strict=True)}
    if output_path is not None:
        from kpuprof.report import report as report_html

        write_file(report_html(profiles).encode(), output_path)
    for folder, suffix in ((png, "png"), (svg, "svg")):
        if folder is not None:
            from kpuprof.images import write_images

            write_images(profiles, folder, suffix)


def run_names(paths: list[str]) -> list[str]:
    """What a report calls its runs: the files' names, numbered where two are the same."""
    stems = ["stdin" if path == STDIO else Path(path).stem for path in paths]
    return [
        stem if stems.count(stem) == 1 else f"{stem} {stems[: place + 1].count(stem)}"
        for place, stem in enumerate(stems)
    ]


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(app, "kpuprof"))


if __name__ == "__main__":
    main()
