"""`kpuprof whatif`: a run as it would be on another machine or in another precision."""

import sys
from typing import Annotated

import typer

from formats.console import JsonOption, TracebackOption, one_of, print_json
from formats.errors import UsageError


def whatif(
    profile_path: Annotated[
        str, typer.Argument(metavar="RUN.kprof", help="Profile to change; - for stdin.")
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="e.g. memory.dram_bandwidth_gbps=51.2 or precision=int8; may be repeated.",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="Largest change first of cycles, energy or dram.")
    ] = "cycles",
    top: Annotated[
        int, typer.Option(min=0, metavar="N", help="Show this many ops; 0 shows all.")
    ] = 20,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Tile and play a run anew with a change, and compare the two."""
    from formats.container import load_profile
    from kpuprof.comparison import SORT_KEYS, SORTED_BY, compare
    from kpuprof.remedies import changes_of
    from kpuprof.trials import base_of, tried

    if not assignments:
        raise UsageError("nothing to change: give --set KEY=VALUE")
    field = SORTED_BY[one_of(sort, SORT_KEYS, "--sort")]
    profile = load_profile(profile_path)
    config, precision = changes_of(profile.program, assignments)
    base, note = base_of(profile)
    if note:
        print(f"kpuprof: note: {note}", file=sys.stderr)
    comparison = compare(base, tried(profile, ", ".join(assignments), config, precision))
    ops = comparison.ops_by(field)
    if as_json:
        from kpuprof.diff_markdown import document

        print_json("whatif", {"set": assignments, **document(comparison, [], ops)})
        return
    from kpuprof.diff_text import render
    from kpuprof.terminal import console

    terminal = console()
    terminal.print(render(comparison, [], ops, top, terminal.width, field))
