"""`kpuprof show`: one run on a terminal."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from formats.console import STDIO, JsonOption, TracebackOption, one_of, print_json


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
    from kpuprof.terminal import console
    from kpuprof.text import render

    terminal = console()
    terminal.print(render(summary, quantization, shown, memory, top, terminal.width))
