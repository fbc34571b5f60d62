"""`kpuprof`: reads profiles and shows where time, energy and memory go."""

import sys

import typer

from formats.console import VersionOption, run
from formats.errors import UsageError
from kpuprof.commands.accuracy import accuracy
from kpuprof.commands.advise import advise
from kpuprof.commands.check import check
from kpuprof.commands.diff import diff
from kpuprof.commands.export import export
from kpuprof.commands.report import report
from kpuprof.commands.show import show
from kpuprof.commands.sweep import sweep
from kpuprof.commands.trace import trace
from kpuprof.commands.whatif import whatif

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


for _command in (show, report, trace, diff, check, accuracy, advise, whatif, sweep, export):
    app.command()(_command)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(app, "kpuprof"))


if __name__ == "__main__":
    main()
