"""`kpuprof check`: absolute budgets, for CI."""

from typing import Annotated

import typer

from formats.console import STDIO, JsonOption, TracebackOption, print_json, require_different
from formats.errors import CheckError, UsageError

MOST_SPENDERS = 5


def check(
    path: Annotated[
        str,
        typer.Argument(
            metavar="RUN.kprof", help="Profile, or program with its estimates; - for stdin."
        ),
    ],
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=AMOUNT", help="e.g. peak_l2=2MiB; may be repeated."),
    ] = None,
    budgets_path: Annotated[
        str | None,
        typer.Option("--budgets", metavar="FILE", help="TOML file of NAME = AMOUNT."),
    ] = None,
    junit_path: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Write the verdicts as JUnit XML."),
    ] = None,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Hold a run against budgets; exit code 1 if one is exceeded."""
    from formats.container import write_file
    from kpuprof.budgets import budgets, judge
    from kpuprof.check_text import document, render, verdicts
    from kpuprof.junit import junit_xml
    from kpuprof.measured import measure

    if path == STDIO == budgets_path:
        raise UsageError("only one of the profile and --budgets can be stdin")
    if as_json and junit_path == STDIO:
        raise UsageError("only one of --json and --junit - can go to stdout")
    wanted = budgets(budget or [], budgets_path)
    for source in (path, budgets_path):
        if junit_path is not None and source is not None:
            require_different(source, junit_path)
    measured = measure(path)
    findings = judge(measured, wanted, MOST_SPENDERS)
    if junit_path is not None:
        write_file(junit_xml(f"kpuprof check {measured.name}", verdicts(findings)), junit_path)
    if as_json:
        print_json("check", document(measured, findings))
    elif junit_path != STDIO:
        from kpuprof.terminal import console

        console().print(render(measured, findings))
    broken = [finding.message for finding in findings if not finding.is_held]
    if broken:
        raise CheckError(f"{measured.name}: {'; '.join(broken)}")
