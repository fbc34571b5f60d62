"""`kpurun`: executes a program on the simulator and writes its outputs, metrics and profile."""

import sys
from typing import Annotated

import typer

from formats.console import (
    JsonOption,
    QuietOption,
    Terminal,
    TracebackOption,
    VerboseOption,
    VersionOption,
    one_of,
    run,
)
from formats.preprocess import PREPROCESSES
from formats.profile import SimulationMode

ENGINES = ("fast", "reference")
MODES = tuple(mode.value for mode in SimulationMode)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def kpurun(
    program_path: Annotated[
        str, typer.Argument(metavar="MODEL.kpu", help="Program to execute; - for stdin.")
    ],
    input_path: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", metavar="FILE", help=".npz, .npy, .safetensors or image; - for stdin."
        ),
    ] = None,
    output_path: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help=".npz, .npy or .safetensors; - for stdout (.npz).",
        ),
    ] = None,
    random_seed: Annotated[
        int | None,
        typer.Option("--random", metavar="SEED", min=0, help="Random inputs instead of -i."),
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="MODE", help=f"{', '.join(MODES[:-1])} or {MODES[-1]}.")
    ] = MODES[0],
    profile_path: Annotated[
        str | None,
        typer.Option("--profile", metavar="FILE", help="Write a .kprof; - for stdout."),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="For an image: imagenet, yolo or none. Default: recorded in the program.",
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option(metavar="N", min=1, help="Execute N times and time the simulator.")
    ] = 1,
    engine: Annotated[
        str, typer.Option(metavar="ENGINE", help="fast, or reference (slow, the definition).")
    ] = ENGINES[0],
    config: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="The machine. Default: the one compiled for."),
    ] = None,
    max_cycles: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Give up a simulation that takes more cycles."),
    ] = None,
    max_events: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Commands and power changes kept in the profile."),
    ] = 1_000_000,
    info: Annotated[bool, typer.Option("--info", help="Print what the program is.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that the program is well formed.")
    ] = False,
    check_tiles: Annotated[
        bool,
        typer.Option(
            "--check-tiles", help="Also execute tile by tile on bytes; exit code 1 if that differs."
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    traceback: TracebackOption = False,
    version: VersionOption = False,
) -> None:
    """Execute a compiled program on the KPU simulator. The metrics go to stderr."""
    one_of(mode, MODES, "--mode")
    one_of(engine, ENGINES, "--engine")
    if preprocess is not None:
        one_of(preprocess, PREPROCESSES, "--preprocess")
    from kpurun.commands import Request, execute, inspect

    request = Request(
        program_path=program_path,
        input_path=input_path,
        output_path=output_path,
        profile_path=profile_path,
        random_seed=random_seed,
        mode=mode,
        preprocess=preprocess,
        repeat=repeat,
        engine=engine,
        config=config,
        max_cycles=max_cycles,
        max_events=max_events,
        check_tiles=check_tiles,
        as_json=as_json,
    )
    terminal = Terminal(quiet=quiet, verbose=verbose)
    if info or verify:
        inspect(request, terminal, info=info, verify=verify)
    else:
        execute(request, terminal)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(app, "kpurun"))


if __name__ == "__main__":
    main()
