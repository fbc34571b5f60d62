"""`kpuprof trace`: a run for a viewer of traces, cycle by cycle."""

import sys
from typing import Annotated

import typer

from formats.console import STDIO, TracebackOption, one_of, require_different

FORMATS = ("perfetto", "chrome")


def trace(
    profile_path: Annotated[
        str, typer.Argument(metavar="RUN.kprof", help="Profile to trace; - for stdin.")
    ],
    output_path: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The trace; - for stdout.")
    ],
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="perfetto or chrome. Default: chrome where FILE ends in .json.",
        ),
    ] = None,
    traceback: TracebackOption = False,
) -> None:
    """Write a trace for ui.perfetto.dev, or Chrome's (.json)."""
    chosen = "chrome" if output_path.lower().endswith(".json") else "perfetto"
    if file_format is not None:
        chosen = one_of(file_format, FORMATS, "--format")
    require_different(profile_path, output_path)
    from formats.container import load_profile, write_file
    from kpuprof.trace import trace_of

    found = trace_of(load_profile(profile_path))
    for sentence in found.missing:
        print(f"kpuprof: note: {sentence}", file=sys.stderr)
    if chosen == "perfetto":
        from kpuprof.trace_perfetto import perfetto_bytes

        write_file(perfetto_bytes(found), output_path)
        return
    from kpuprof.trace_chrome import chrome_text

    if output_path == STDIO:
        sys.stdout.write(chrome_text(found))
    else:
        write_file(chrome_text(found).encode(), output_path)
