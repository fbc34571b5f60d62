"""`kpuprof diff`: two runs, op by op, with a gate for CI."""

import sys
from typing import Annotated

import typer

from formats.console import (
    STDIO,
    JsonOption,
    TracebackOption,
    one_of,
    print_json,
    require_different,
)
from formats.errors import CheckError, UsageError

MOST_OPS_BEHIND_A_GATE = 5


def diff(
    base_path: Annotated[
        str, typer.Argument(metavar="BASE", help="Profile or program; - for stdin.")
    ],
    new_path: Annotated[
        str, typer.Argument(metavar="NEW", help="The one to compare with it; - for stdin.")
    ],
    fail_over: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=AMOUNT,…", help="e.g. cycles=2%,peak_l2=64KiB: exit code 1."),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="Largest change first of cycles, energy or dram.")
    ] = "cycles",
    top: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show this many ops; 0 shows all.")
    ] = 20,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown for a pull request.")
    ] = False,
    junit_path: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Write the verdicts as JUnit XML."),
    ] = None,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Compare two runs op by op; with --fail-over a gate for CI."""
    from kpuprof.comparison import SORT_KEYS, SORTED_BY, compare
    from kpuprof.gates import judge, limits
    from kpuprof.measured import measure

    field = SORTED_BY[one_of(sort, SORT_KEYS, "--sort")]
    wanted = limits(fail_over or [])
    _require_sense([base_path, new_path], as_json, markdown, junit_path, bool(wanted))
    comparison = compare(measure(base_path), measure(new_path))
    gates = judge(comparison, wanted, MOST_OPS_BEHIND_A_GATE)
    ops = comparison.ops_by(field)
    if junit_path is not None:
        from formats.container import write_file
        from kpuprof.gates import verdicts
        from kpuprof.junit import junit_xml

        suite = f"kpuprof diff {comparison.base.name} {comparison.new.name}"
        write_file(junit_xml(suite, verdicts(gates)), junit_path)
    if as_json:
        from kpuprof.diff_markdown import document

        print_json("diff", document(comparison, gates, ops))
    elif markdown:
        from kpuprof.diff_markdown import markdown as written

        sys.stdout.write(written(comparison, gates, ops, top))
    elif junit_path != STDIO:
        from kpuprof.diff_text import render
        from kpuprof.terminal import console

        terminal = console()
        terminal.print(render(comparison, gates, ops, top, terminal.width, field))
    broken = [gate.message for gate in gates if not gate.is_held]
    if broken:
        raise CheckError("; ".join(broken))


def _require_sense(
    sources: list[str], as_json: bool, markdown: bool, junit_path: str | None, has_limits: bool
) -> None:
    """UsageError for options that contradict each other."""
    if sources == [STDIO, STDIO]:
        raise UsageError("only one of the two can be stdin")
    if [as_json, markdown, junit_path == STDIO].count(True) > 1:
        raise UsageError("only one of --json, --markdown and --junit - can go to stdout")
    if junit_path is None:
        return
    if not has_limits:
        raise UsageError("--junit reports limits: give some with --fail-over")
    for source in sources:
        require_different(source, junit_path)
