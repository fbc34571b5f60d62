"""What the command `kpuc` does once its words are parsed: compile, write, report."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from formats.config import KPUConfig
from formats.console import STDIO, Terminal, one_of, print_json
from formats.container import to_bytes, write_file
from formats.errors import CompilationError
from formats.program import KPUProgram
from formats.schema import load_config, override
from kpuc.depfile import calibration_files, depfile, prerequisites
from kpuc.graph import Graph
from kpuc.piped import model_file, samples_file
from kpuc.precision import CODED
from kpuc.report import Clock, document, summary
from kpuc.request import Request, check_options
from kpuc.text import dump

if TYPE_CHECKING:
    from kpuc.compiler import KPUCompiler
    from kpuc.quant.quantize import QuantOptions

SET_VARIABLE = "KPUC_SET"  # assignments as of --set, separated by spaces


class _StopRequest(Exception):  # noqa: N818  not an error
    """Compilation has reached the pass of `--stop-after`; its argument is the graph as text."""


def compile_model(request: Request, terminal: Terminal) -> None:
    """Do what the options say; a program is written last, and only when all succeeded."""
    config = resolved_config(request, os.environ)
    if request.print_config:
        print_json("config", {"config": asdict(config)})
        return
    check_options(request)
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


def _models_prints_on_stderr() -> AbstractContextManager[object]:
    """While the model's own code runs: what it prints is not what was asked for on stdout."""
    return redirect_stdout(sys.stderr)


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
        with _models_prints_on_stderr(), samples_file(request.calibration) as samples:
            program = compiler.compile(
                path,
                config,
                request.precision,
                input_shapes=request.input_shapes,
                preprocess=request.preprocess,
                optimise=request.optimise,
                calibration_data=samples,
                quantization=_quant_options(request),
                load_calibration=request.load_calibration,
                save_calibration=request.save_calibration,
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


def _quant_options(request: Request) -> "QuantOptions | None":
    """None for a precision without codes, to which no option of them was given."""
    if request.precision not in CODED:
        return None
    from kpuc.quant.coding import Granularity
    from kpuc.quant.quantize import QuantOptions
    from kpuc.quant.refine import Refinements
    from kpuc.quant.statistics import RangeMethod

    return QuantOptions(
        method=RangeMethod(request.calibration_method, request.percentile),
        granularity=Granularity(not request.per_tensor, request.group_size or 0),
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
        files = [
            *prerequisites(request.model, request.config, request.arch),
            *calibration_files(request.calibration, request.load_calibration),
        ]
        write_file(depfile(output_path, files).encode(), request.depfile)


def _holds(path: str, data: bytes) -> bool:
    return path != STDIO and Path(path).is_file() and Path(path).read_bytes() == data


def _save_pass(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(text.encode(), path)
