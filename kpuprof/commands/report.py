"""`kpuprof report`: a page for a browser, and its plots as images."""

from pathlib import Path
from typing import Annotated

import typer

from formats.console import STDIO, TracebackOption, require_different
from formats.errors import UsageError


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
    accuracy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="What kpuprof accuracy -o wrote, to show SQNR op by op; repeatable.",
        ),
    ] = None,
    traceback: TracebackOption = False,
) -> None:
    """One HTML file of one run, or of several compared; no network."""
    if output_path is None and png is None and svg is None:
        raise UsageError("nothing to write: give -o report.html, --png DIR or --svg DIR")
    sources = [*profile_paths, *(accuracy or ())]
    if sources.count(STDIO) > 1:
        raise UsageError("only one of the files can come from stdin")
    if accuracy and output_path is None:
        raise UsageError("--accuracy is shown in the page: give -o report.html")
    for path in sources:
        require_different(path, output_path or STDIO)
    from formats.container import load_profile
    from formats.files import write_file

    names = run_names(profile_paths)
    profiles = {name: load_profile(path) for name, path in zip(names, profile_paths, strict=True)}
    if output_path is not None:
        from kpuprof.accuracy_file import accuracy_by_digest
        from kpuprof.report import report as report_html

        programs = [profile.program for profile in profiles.values()]
        measured = accuracy_by_digest(accuracy or (), programs)
        write_file(report_html(profiles, measured).encode(), output_path)
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
