"""`kpuc`: compiles a model to a program; `kpuc dump` and `kpuc upgrade` work on programs."""

import sys
from collections.abc import Sequence
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
from formats.precision import KPUPrecision
from formats.preprocess import PREPROCESSES

PRECISIONS = tuple(precision.value for precision in KPUPrecision)
PRECISION_HELP = "fp16, bf16, int8, int4, posit8 or posit16."
METHODS = ("mse", "entropy", "percentile", "minmax")
PROGRAM_COMMANDS = ("dump", "upgrade")

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Also: kpuc dump MODEL.kpu (readable listing), kpuc upgrade OLD.kpu -o NEW.kpu.",
)
programs = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(epilog=app.info.epilog)
def kpuc(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=".pt2, .pt, .pth, .safetensors, package.module:factory, or - for stdin.",
            show_default=False,
        ),
    ] = "",
    output_path: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Program to write; - for stdout."),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME:]1,3,224,224", help="Shape of an input; once per input."),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="PRECISION", help=PRECISION_HELP, envvar="KPUC_PRECISION")
    ] = "fp16",
    config: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="The machine.", envvar="KPUC_CONFIG"),
    ] = "swkpu-v1",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the machine."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FACTORY", help="What a state_dict's weights belong to."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let the model's file run code when loaded.")
    ] = False,
    preprocess: Annotated[
        str,
        typer.Option(
            metavar="RECIPE",
            help="For images: imagenet, yolo or none.",
            envvar="KPUC_PREPROCESS",
        ),
    ] = "none",
    optimise: Annotated[
        str,
        typer.Option(metavar="GOAL", help="cycles, or size: as little L2 as costs 3 % at most."),
    ] = "cycles",
    calibration: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Samples: a folder of images, .npy, .npz, .safetensors."),
    ] = None,
    load_calibration: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What --save-calibration wrote, instead of samples."),
    ] = None,
    save_calibration: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Keep what was made of the samples for the next time."),
    ] = None,
    calibration_method: Annotated[
        str,
        typer.Option(metavar="METHOD", help="Ranges by mse, entropy, percentile or minmax."),
    ] = METHODS[0],
    percentile: Annotated[
        float, typer.Option(metavar="SHARE", help="For the method percentile: values kept, in %.")
    ] = 99.99,
    per_tensor: Annotated[
        bool, typer.Option("--per-tensor", help="One scale per weight, not one per channel.")
    ] = False,
    group_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="One scale for every N weights of a channel (INT4)."),
    ] = None,
    equalisation: Annotated[
        bool, typer.Option(help="Bring channels to alike ranges where that is measured to help.")
    ] = True,
    weight_rounding: Annotated[
        bool, typer.Option(help="Round weights to second order, not to the nearest.")
    ] = True,
    bias_correction: Annotated[
        bool, typer.Option(help="Make up for the mean error in the biases.")
    ] = True,
    keep_fp16: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Conv, Gemm, MatMul that stay in FP16, by name."),
    ] = None,
    max_diff: Annotated[
        float | None,
        typer.Option(metavar="X", help="Keep in FP16 what max |d| / max |baseline| <= X needs."),
    ] = None,
    min_sqnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Keep in FP16 what this SQNR needs.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="List all that would not compile; write nothing.")
    ] = False,
    estimate_memory: Annotated[
        bool, typer.Option("--estimate-memory", help="Print what the memories would hold.")
    ] = False,
    remarks: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What was fused, tiled and placed, as JSON lines."),
    ] = None,
    save_passes: Annotated[
        str | None, typer.Option(metavar="DIR", help="The graph after every pass, as text.")
    ] = None,
    stop_after: Annotated[
        str | None, typer.Option(metavar="PASS", help="Stop after this pass and print the graph.")
    ] = None,
    time_report: Annotated[
        bool, typer.Option("--time-report", help="Seconds of every stage.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the machine as JSON and stop.")
    ] = False,
    depfile: Annotated[
        str | None, typer.Option(metavar="FILE", help="Dependencies of the output, for make.")
    ] = None,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Leave an output that would be the same alone.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    traceback: TracebackOption = False,
    version: VersionOption = False,
) -> None:
    """Compile a PyTorch model to a KPU program.

    Options win over the environment (the variables below, and KPUC_SET with assignments as of
    --set), the environment over the configuration file.
    """
    one_of(precision, PRECISIONS, "--precision")
    one_of(preprocess, PREPROCESSES, "--preprocess")
    one_of(optimise, ("cycles", "size"), "--optimise")
    one_of(calibration_method, METHODS, "--calibration-method")
    from kpuc.commands import compile_model
    from kpuc.request import Request

    compile_model(
        Request(
            model=model,
            output_path=output_path,
            input_shapes=tuple(input_shape or ()),
            precision=precision,
            config=config,
            assignments=tuple(assignments or ()),
            arch=arch,
            trust_pickle=trust_pickle,
            preprocess=preprocess,
            optimise=optimise,
            calibration=calibration,
            load_calibration=load_calibration,
            save_calibration=save_calibration,
            calibration_method=calibration_method,
            percentile=percentile,
            per_tensor=per_tensor,
            group_size=group_size,
            equalisation=equalisation,
            weight_rounding=weight_rounding,
            bias_correction=bias_correction,
            keep_fp16=tuple(keep_fp16 or ()),
            max_diff=max_diff,
            min_sqnr=min_sqnr,
            check=check,
            estimate_memory=estimate_memory,
            remarks_path=remarks,
            save_passes=save_passes,
            stop_after=stop_after,
            time_report=time_report,
            print_config=print_config,
            depfile=depfile,
            if_changed=if_changed,
            as_json=as_json,
        ),
        Terminal(quiet=quiet, verbose=verbose),
    )


@programs.command()
def dump(
    program_path: Annotated[
        str, typer.Argument(metavar="MODEL.kpu", help="Program to list; - for stdin.")
    ],
    traceback: TracebackOption = False,
) -> None:
    """Print a readable listing of a program."""
    from formats.container import load_program
    from formats.text import dump as listing

    sys.stdout.write(listing(load_program(program_path)))


@programs.command()
def upgrade(
    program_path: Annotated[
        str, typer.Argument(metavar="OLD", help="Program or profile; - for stdin.")
    ],
    output_path: Annotated[
        str, typer.Option("--output", "-o", metavar="NEW", help="File to write; - for stdout.")
    ],
    traceback: TracebackOption = False,
) -> None:
    """Rewrite a file of an older format version in the present one."""
    from formats.container import upgrade as rewrite

    rewrite(program_path, output_path)


def kpuc_command(words: Sequence[str]) -> int:
    """Exit code of `kpuc` with these words."""
    chosen = programs if words and words[0] in PROGRAM_COMMANDS else app
    return run(chosen, "kpuc", words)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(kpuc_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
