"""What the command `kpuc` does once its words are parsed: compile, write, report."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from formats.config import KPUConfig
from formats.console import STDIO, Terminal, one_of, print_json, require_different, require_distinct
from formats.container import to_bytes, write_file
from formats.errors import CompilationError, UsageError
from formats.program import KPUProgram
from formats.schema import load_config, override
from kpuc.depfile import depfile, prerequisites
from kpuc.graph import Graph
from kpuc.piped import model_file
from kpuc.report import Clock, document, summary
from kpuc.text import dump

if TYPE_CHECKING:
    from kpuc.compiler import KPUCompiler
    from kpuc.quant.quantize import QuantOptions

SET_VARIABLE = "KPUC_SET"  # assignments as of --set, separated by spaces


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
    calibration: str | None = None
    calibration_method: str = "mse"
    percentile: float = 99.99
    per_tensor: bool = False
    group_size: int = 0
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


class _StopRequest(Exception):  # noqa: N818  not an error
    """Compilation has reached the pass of `--stop-after`; its argument is the graph as text."""


def compile_model(request: Request, terminal: Terminal) -> None:
    """Do what the options say; a program is written last, and only when all succeeded."""
    config = resolved_config(request, os.environ)
    if request.print_config:
        print_json("config", {"config": asdict(config)})
        return
    _check_options(request)
    from kpuc.compiler import KPUCompiler, pass_names  # torch

    if request.stop_after is not None:
        one_of(request.stop_after, pass_names(config), "--stop-after")
    compiler = KPUCompiler(trust_pickle=request.trust_pickle, arch=request.arch)
    with model_file(request.model) as path:
        if request.check:
            _check(request, path, compiler, config)
        elif request.estimate_memory:
            _estimate_memory(request, path, compiler, config)
        else:
            _compile(request, path, compiler, config, terminal)


def resolved_config(request: Request, environment: Mapping[str, str]) -> KPUConfig:
    """The machine: a preset or a file, then KPUC_SET of the environment, then every `--set`."""
    config = load_config(request.config)
    for assignment in (*environment.get(SET_VARIABLE, "").split(), *request.assignments):
        config = override(config, assignment)
    return config


def _check_options(request: Request) -> None:
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
    _check_numbers(request)
    written = {
        "-o": request.output_path,
        "--remarks": request.remarks_path,
        "--depfile": request.depfile,
    }
    require_distinct(written)
    for target in written.values():
        if target is not None:
            require_different(request.model, target)


def _models_prints_on_stderr() -> AbstractContextManager[object]:
    """While the model's own code runs: what it prints is not what was asked for on stdout."""
    return redirect_stdout(sys.stderr)


def _check_numbers(request: Request) -> None:
    if not 50 < request.percentile <= 100:
        raise UsageError(f"--percentile {request.percentile:g}: from 50 to 100")
    if request.group_size < 0 or (request.group_size and request.per_tensor):
        raise UsageError("--group-size is positive, and not for --per-tensor")
    if request.max_diff is not None and not request.max_diff > 0:
        raise UsageError(f"--max-diff {request.max_diff:g}: give a positive number")


def _check(request: Request, path: str, compiler: "KPUCompiler", config: KPUConfig) -> None:
    with _models_prints_on_stderr():
        problems = compiler.validate_model(
            path, config, precision=request.precision, input_shapes=request.input_shapes
        )
    if request.as_json:
        print_json("check", {"model": request.model, "problems": problems})
    else:
        print("\n".join(problems) if problems else f"{request.model}: compiles for {config.name}")
    if problems:
        raise CompilationError(f"{request.model} would not compile for {config.name}")


def _estimate_memory(
    request: Request, path: str, compiler: "KPUCompiler", config: KPUConfig
) -> None:
    with _models_prints_on_stderr():
        memory = compiler.estimate_memory(
            path, config, request.precision, input_shapes=request.input_shapes
        )
    if request.as_json:
        print_json("estimate-memory", {"model": request.model, "bytes": memory})
        return
    for name, size in memory.items():
        print(f"{name:12} {size:>14,} bytes")


def _compile(
    request: Request, path: str, compiler: "KPUCompiler", config: KPUConfig, terminal: Terminal
) -> None:
    clock = Clock()
    graphs: dict[str, Graph] = {}

    def observe(stage: str, graph: Graph | None, formats: Mapping[str, str]) -> None:
        clock.lap(stage)
        if graph is None:
            return
        graphs[stage] = graph
        if request.save_passes is not None:
            name = f"{len(graphs):02d}-{stage}.txt"
            _save_pass(Path(request.save_passes) / name, dump(graph, formats))
        if stage == request.stop_after:
            raise _StopRequest(dump(graph, formats))

    try:
        with _models_prints_on_stderr():
            program = compiler.compile(
                path,
                config,
                request.precision,
                input_shapes=request.input_shapes,
                preprocess=request.preprocess,
                calibration_data=request.calibration,
                quantization=_quant_options(request),
                observe=observe,
                track=lambda items, total: terminal.track(items, "calibrating", total),
            )
    except _StopRequest as stop:
        sys.stdout.write(str(stop))
        return
    assert request.output_path is not None, "checked with the options"
    data = to_bytes(program)
    _write_beside(request, request.output_path, program, graphs["legalise"])
    if request.if_changed and _holds(request.output_path, data):
        terminal.detail(f"{request.output_path}: unchanged")
    else:
        write_file(data, request.output_path)
    clock.lap("write")
    if request.as_json:
        print_json("compile", document(program, len(data), clock))
    terminal.note(summary(program, len(data), request.output_path))
    report = terminal.note if request.time_report else terminal.detail
    report(clock.report())


def _quant_options(request: Request) -> "QuantOptions":
    from kpuc.quant.coding import Granularity
    from kpuc.quant.quantize import QuantOptions
    from kpuc.quant.refine import Refinements
    from kpuc.quant.statistics import RangeMethod

    return QuantOptions(
        method=RangeMethod(request.calibration_method, request.percentile),
        granularity=Granularity(not request.per_tensor, request.group_size),
        refinements=Refinements(
            request.equalisation, request.weight_rounding, request.bias_correction
        ),
        keep_fp16=request.keep_fp16,
        max_difference=request.max_diff,
        min_sqnr_db=request.min_sqnr,
    )


def _write_beside(request: Request, output_path: str, program: KPUProgram, fused: Graph) -> None:
    """What was asked for about the program, before the program itself says that all is done."""
    if request.remarks_path is not None:
        from kpuc.passes.missed import missed_fusions
        from kpuc.remarks import remarks

        missed = missed_fusions(fused, program.target_config)
        lines = [json.dumps(remark, sort_keys=True) for remark in remarks(program, missed)]
        write_file(("\n".join(lines) + "\n").encode(), request.remarks_path)
    if request.depfile is not None:
        files = prerequisites(request.model, request.config, request.arch)
        write_file(depfile(output_path, files).encode(), request.depfile)


def _holds(path: str, data: bytes) -> bool:
    return path != STDIO and Path(path).is_file() and Path(path).read_bytes() == data


def _save_pass(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(text.encode(), path)
