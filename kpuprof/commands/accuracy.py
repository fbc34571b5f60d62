"""`kpuprof accuracy`: a program against the model that it was made of, over a data set."""

from typing import Annotated

import typer

from formats.console import (
    STDIO,
    JsonOption,
    Terminal,
    TracebackOption,
    json_text,
    one_of,
    print_json,
    require_different,
)
from formats.errors import CheckError, UsageError
from formats.preprocess import PREPROCESSES


def accuracy(
    program_path: Annotated[
        str, typer.Argument(metavar="MODEL.kpu", help="Program to judge; - for stdin.")
    ],
    reference: Annotated[
        str,
        typer.Option(
            metavar="MODEL",
            help=".pt2, .pt, .pth, .safetensors, package.module:factory, .onnx, or - for stdin.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="Folder of images, .npy, .npz, .safetensors, or - for stdin."
        ),
    ],
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="SQNR along the graph: where precision is lost.")
    ] = False,
    max_diff: Annotated[
        str | None,
        typer.Option(metavar="X", help="Most max |d| / max |reference| of a sample: exit code 1."),
    ] = None,
    min_sqnr: Annotated[
        str | None,
        typer.Option(metavar="DB", help="Least SQNR of an output over all samples: exit code 1."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The first N samples only.")
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="For images: imagenet, yolo or none. Default: recorded in the program.",
        ),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME:]1,3,224,224", help="Shape of an input of the reference."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FACTORY", help="What a state_dict's weights belong to."),
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Let the reference's file run code when loaded.")
    ] = False,
    output_path: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write all as JSON, for report --accuracy."
        ),
    ] = None,
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Hold a program against its PyTorch or ONNX reference."""
    from formats.container import load_program
    from formats.files import write_file
    from kpuprof.accuracy import bars, broken, document
    from kpuprof.accuracy_file import COMMAND
    from kpuprof.accuracy_run import Comparison, measure

    if [program_path, reference, data].count(STDIO) > 1:
        raise UsageError("only one of the program, --reference and --data can be stdin")
    if preprocess is not None:
        one_of(preprocess, PREPROCESSES, "--preprocess")
    if as_json and output_path == STDIO:
        raise UsageError("--json prints what -o - writes: give one of them")
    for source in (program_path, reference, data):
        require_different(source, output_path or STDIO)
    wanted = bars(max_diff, min_sqnr)
    comparison = Comparison(
        reference=reference,
        data=data,
        input_shapes=tuple(input_shape or ()),
        arch=arch,
        trust_pickle=trust_pickle,
        preprocess=preprocess,
        limit=limit,
        per_layer=per_layer,
    )
    terminal = Terminal()
    found = measure(
        load_program(program_path),
        comparison,
        lambda items, total: terminal.track(items, "comparing", total),
    )
    for warning in found.warnings:
        terminal.warn(warning)
    failures = broken(found, wanted)
    if output_path is not None:
        write_file(json_text(COMMAND, document(found, wanted)).encode(), output_path)
    if as_json:
        print_json(COMMAND, document(found, wanted))
    elif output_path != STDIO:
        from kpuprof.accuracy_text import render
        from kpuprof.terminal import console

        output = console()
        output.print(render(found, wanted, output.width))
    if failures:
        raise CheckError(f"{found.program}: {'; '.join(failures)}")
