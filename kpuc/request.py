"""What the user of `kpuc` asked for, and which of that cannot be meant."""

import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from formats.console import STDIO, require_different, require_distinct
from formats.errors import FileError, UsageError, too_few_calibration_samples
from kpuc.depfile import calibration_files
from kpuc.precision import CODED, SCALED

DEFAULT_PERCENTILE = 99.99

# Option of calibration -> the field that holds it.
CALIBRATION_OPTIONS = {
    "--calibration": "calibration",
    "--load-calibration": "load_calibration",
    "--save-calibration": "save_calibration",
    "--calibration-method": "calibration_method",
    "--percentile": "percentile",
    "--per-tensor": "per_tensor",
    "--group-size": "group_size",
    "--no-equalisation": "equalisation",
    "--no-weight-rounding": "weight_rounding",
    "--no-bias-correction": "bias_correction",
    "--keep-fp16": "keep_fp16",
    "--max-diff": "max_diff",
    "--min-sqnr": "min_sqnr",
}

# What --check and --estimate-memory have no use for besides.
WRITING_OPTIONS = {
    "-o": "output_path",
    "--remarks": "remarks_path",
    "--save-passes": "save_passes",
    "--stop-after": "stop_after",
    "--time-report": "time_report",
    "--depfile": "depfile",
    "--if-changed": "if_changed",
}


@dataclass(frozen=True)
class Request:
    """What the user asked for; None and empty stand for options that were not given."""

    model: str
    output_path: str | None = None
    input_shapes: tuple[str, ...] = ()
    precision: str = "fp16"
    config: str = "swkpu-v1"
    assignments: tuple[str, ...] = ()
    arch: str | None = None
    trust_pickle: bool = False
    preprocess: str = "none"
    optimise: str = "cycles"
    calibration: str | None = None
    load_calibration: str | None = None
    save_calibration: str | None = None
    calibration_method: str = "mse"
    percentile: float = DEFAULT_PERCENTILE
    per_tensor: bool = False
    group_size: int | None = None
    equalisation: bool = True
    weight_rounding: bool = True
    bias_correction: bool = True
    keep_fp16: tuple[str, ...] = ()
    max_diff: float | None = None
    min_sqnr: float | None = None
    check: bool = False
    estimate_memory: bool = False
    remarks_path: str | None = None
    save_passes: str | None = None
    stop_after: str | None = None
    time_report: bool = False
    print_config: bool = False
    depfile: str | None = None
    if_changed: bool = False
    as_json: bool = False


def check_options(request: Request) -> None:
    """Everything about the options that can be known before the model is read."""
    if not request.model:
        raise UsageError("no model: give a file or package.module:factory")
    writes = request.output_path is not None or request.stop_after is not None
    if not (writes or request.check or request.estimate_memory):
        raise UsageError("no output: give -o MODEL.kpu (or --check, --estimate-memory)")
    if request.as_json and STDIO in (request.output_path, request.remarks_path):
        raise UsageError("only one of -o -, --remarks - and --json can go to stdout")
    if request.output_path == STDIO and sys.stdout.isatty():
        raise UsageError("refusing to write binary data to a terminal; redirect it or name a file")
    if request.depfile is not None and request.output_path in (None, STDIO):
        raise UsageError("--depfile needs an output file: give -o MODEL.kpu")
    _check_idle(request)
    _check_numbers(request)
    _check_calibration(request)
    _check_paths(request)
    _check_files(request)


def _check_idle(request: Request) -> None:
    """What --check and --estimate-memory would ignore."""
    mode = "--check" if request.check else "--estimate-memory"
    if not (request.check or request.estimate_memory):
        return
    if request.check and request.estimate_memory:
        raise UsageError("--check and --estimate-memory: give one of them")
    defaults = {field.name: field.default for field in fields(Request)}
    idle = [
        option
        for option, name in {**WRITING_OPTIONS, **CALIBRATION_OPTIONS}.items()
        if getattr(request, name) != defaults[name]
    ]
    if idle:
        raise UsageError(f"{mode} makes no program: leave out {', '.join(idle)}")


def _check_numbers(request: Request) -> None:
    if not 50 < request.percentile <= 100:
        raise UsageError(f"--percentile {request.percentile:g}: above 50, at most 100")
    if request.group_size is not None and (request.group_size < 1 or request.per_tensor):
        raise UsageError("--group-size is positive, and not for --per-tensor")
    if request.max_diff is not None and not 0 < request.max_diff < math.inf:
        raise UsageError(f"--max-diff {request.max_diff:g}: give a positive number")
    if request.min_sqnr is not None and not math.isfinite(request.min_sqnr):
        raise UsageError(f"--min-sqnr {request.min_sqnr:g}: give a number of dB")


def _check_calibration(request: Request) -> None:
    coded = [precision.value for precision in CODED]
    defaults = {field.name: field.default for field in fields(Request)}
    scaled = [precision.value for precision in SCALED]
    for option, name in CALIBRATION_OPTIONS.items():
        if name == "calibration" and request.precision in scaled:
            continue
        if request.precision not in coded and getattr(request, name) != defaults[name]:
            *most, last = scaled if name == "calibration" else coded
            raise UsageError(
                f"{option} is for {', '.join(most)} and {last}, not {request.precision}"
            )
    if request.percentile != DEFAULT_PERCENTILE and request.calibration_method != "percentile":
        raise UsageError("--percentile is for --calibration-method percentile")
    if "" in (request.calibration, request.load_calibration, request.save_calibration):
        raise UsageError("a calibration's path is empty")
    if request.calibration is not None and request.load_calibration is not None:
        raise UsageError("--calibration and --load-calibration: give one of them")
    _require_samples(request)
    for option, source in (
        ("--calibration", request.calibration),
        ("--load-calibration", request.load_calibration),
    ):
        if source == STDIO == request.model:
            raise UsageError(f"only one of the model and {option} can come from stdin")
    if request.save_calibration == STDIO:
        raise UsageError("--save-calibration needs a file: stdout is for the program")


def _require_samples(request: Request) -> None:
    is_given = request.calibration is not None or request.load_calibration is not None
    makes_none = request.check or request.estimate_memory
    if request.precision in CODED and not (is_given or makes_none):
        least = too_few_calibration_samples(request.precision)
        raise UsageError(f"{least}: give --calibration PATH or --load-calibration FILE")


def _check_paths(request: Request) -> None:
    """No output is another output, or what the program is made from."""
    written = {
        "-o": request.output_path,
        "--remarks": request.remarks_path,
        "--depfile": request.depfile,
        "--save-calibration": request.save_calibration,
    }
    require_distinct(written)
    read = [request.model, *calibration_files(request.calibration, None)]
    for option, target in written.items():
        # what was loaded may be saved with more in it
        loaded = None if option == "--save-calibration" else request.load_calibration
        for source in (*read, loaded):
            if source is not None and target is not None:
                require_different(source, target)


def _check_files(request: Request) -> None:
    """What is read is there, and what is written has a folder."""
    is_other = ":" in request.model or request.model.endswith(".onnx")  # a factory, or refused
    read = [None if is_other else request.model, request.calibration, request.load_calibration]
    for source in read:
        if source not in (None, STDIO) and not Path(str(source)).exists():
            raise FileError(f"{source}: no such file")
    written = (
        request.output_path,
        request.remarks_path,
        request.depfile,
        request.save_calibration,
    )
    for target in written:
        if target is None or target == STDIO:
            continue
        if Path(target).is_dir():
            raise FileError(f"{target}: Is a directory")
        if not Path(target).absolute().parent.is_dir():
            raise FileError(f"{target}: No such file or directory")
