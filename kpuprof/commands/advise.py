"""`kpuprof advise`: what binds a run, and what would help, each remedy played."""

from typing import Annotated

import typer

from formats.console import JsonOption, Terminal, TracebackOption, print_json


def advise(
    profile_path: Annotated[
        str, typer.Argument(metavar="RUN.kprof", help="Profile to advise on; - for stdin.")
    ],
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Rank what would make a run faster, each remedy played anew."""
    from formats.container import load_profile
    from kpuprof.advice import advise as advice_on
    from kpuprof.advice_text import document, render
    from kpuprof.terminal import console

    profile = load_profile(profile_path)
    terminal = Terminal()
    found = advice_on(profile, lambda items: terminal.track(items, "playing remedies"))
    if as_json:
        print_json("advise", document(found))
    else:
        console().print(render(found))
