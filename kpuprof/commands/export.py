"""`kpuprof export`: a profile for a spreadsheet, a script or the deployment system."""

import json
import sys
from typing import Annotated

import typer

from formats.console import STDIO, TracebackOption, one_of, require_different, require_distinct
from formats.errors import UsageError


def export(
    profile_path: Annotated[
        str, typer.Argument(metavar="RUN.kprof", help="Profile to export; - for stdin.")
    ],
    output_path: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="A row per op; - for stdout."),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="csv or json. Default: by the suffix."),
    ] = None,
    workload_path: Annotated[
        str | None,
        typer.Option("--host-workload", metavar="FILE", help="Workload profile (JSON)."),
    ] = None,
    traceback: TracebackOption = False,
) -> None:
    """Write a row per op as CSV or JSON, or the workload profile."""
    from formats.container import load_profile

    if output_path is None and workload_path is None:
        raise UsageError("nothing to export: give -o FILE (.csv or .json) or --host-workload FILE")
    chosen = None if output_path is None else _format(output_path, file_format)
    require_distinct({"-o": output_path, "--host-workload": workload_path})
    for target in (output_path, workload_path):
        if target is not None:
            require_different(profile_path, target)
    profile = load_profile(profile_path)
    if output_path is not None:
        from kpuprof.export import csv_text, json_text

        _write(csv_text(profile) if chosen == "csv" else json_text(profile), output_path)
    if workload_path is not None:
        from kpuprof.workload import workload

        _write(json.dumps(workload(profile), indent=2, allow_nan=False) + "\n", workload_path)


def _format(path: str, wanted: str | None) -> str:
    """csv or json: as asked for, by the suffix, and csv for stdout."""
    if wanted is not None:
        return one_of(wanted, ("csv", "json"), "--format")
    if path == STDIO:
        return "csv"
    suffix = path.rpartition(".")[2].lower()
    if suffix not in ("csv", "json"):
        raise UsageError(f"-o: {path!r} ends in neither .csv nor .json: say --format csv or json")
    return suffix


def _write(text: str, target: str) -> None:
    """Text may go to a terminal, unlike what `write_file` writes to stdout."""
    from formats.container import write_file

    if target == STDIO:
        sys.stdout.write(text)
    else:
        write_file(text.encode(), target)
