"""What the command `kpurun` does once its words are parsed: load, execute, write, print."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from formats.console import (
    STDIO,
    Terminal,
    print_json,
    read_stdin,
    require_different,
    require_distinct,
)
from formats.container import load_versioned, save, write_file
from formats.errors import FileError, UsageError
from formats.profile import SimulationMode
from formats.program import KPUProgram
from kpurun.inputs import random_inputs, read_inputs
from kpurun.outputs import encoder_for
from kpurun.profiling import DEFAULT_MAX_EVENTS, make_profile
from kpurun.report import (
    execution_document,
    execution_table,
    info_document,
    info_lines,
    input_lines,
    tiles_document,
    tiles_line,
)
from kpurun.runtime import KPURuntime, known_mode_of
from kpurun.wellformed import problems


@dataclass(frozen=True)
class Request:
    """What the user asked for. Paths may be `-`; None stands for an option that was not given."""

    program_path: str
    input_path: str | None = None
    output_path: str | None = None
    profile_path: str | None = None
    random_seed: int | None = None
    mode: str = "functional"
    preprocess: str | None = None
    repeat: int = 1
    engine: str = "fast"
    max_cycles: int | None = None
    max_events: int = DEFAULT_MAX_EVENTS
    config: str | None = None
    check_tiles: bool = False
    as_json: bool = False

    @property
    def targets(self) -> list[str]:
        """Files to be written."""
        return [path for path in (self.output_path, self.profile_path) if path is not None]


def execute(request: Request, terminal: Terminal) -> None:
    """Run the program and write what was asked for; nothing is written unless all succeeded."""
    _check_files(request)
    mode = known_mode_of(request.mode)
    if request.max_cycles is not None and mode is SimulationMode.FUNCTIONAL:
        raise UsageError("--max-cycles limits a simulation: add --mode cycle_accurate")
    encode_outputs = None if request.output_path is None else encoder_for(request.output_path)
    program, version = load_versioned(request.program_path)
    runtime = KPURuntime(request.config, engine=request.engine, max_cycles=request.max_cycles)
    inputs = _inputs(request, program)
    for line in [*info_lines(program, version), *input_lines(inputs)]:
        terminal.detail(line)
    runtime.load_program(program)
    host_ms = []
    for _ in terminal.track(range(request.repeat), "executing", total=request.repeat):
        start = time.perf_counter()
        result = runtime.run(inputs, mode)
        host_ms.append((time.perf_counter() - start) * 1000)
    for warning in result.trace:
        terminal.warn(warning)
    tiles = runtime.check_tiles(inputs) if request.check_tiles else None
    if request.output_path is not None and encode_outputs is not None:
        write_file(encode_outputs(result.outputs), request.output_path)
    if request.profile_path is not None:
        timeline = None if mode is SimulationMode.FUNCTIONAL else runtime.timeline
        profile = make_profile(
            runtime.program, result, _recorded_options(request), timeline, request.max_events
        )
        for table, rows in profile.options.get("left_out", {}).items():
            terminal.warn(
                f"the table {table!r} of the profile lacks its last {rows:,} rows: --max-events"
            )
        save(profile, request.profile_path)
    for target in request.targets:
        terminal.detail(f"wrote {target}")
    if request.as_json:
        document = execution_document(runtime.program, result, host_ms)
        checked = {} if tiles is None else {"check_tiles": tiles_document(tiles)}
        print_json("run", document | checked)
        return
    terminal.show(execution_table(runtime.program, result, host_ms))
    if tiles is not None:
        terminal.note(tiles_line(tiles))


def inspect(request: Request, terminal: Terminal, *, info: bool, verify: bool) -> None:
    """Print what the program is, or say that it is well formed; FileError when it is not."""
    given = {
        "-i": request.input_path,
        "-o": request.output_path,
        "--profile": request.profile_path,
        "--random": request.random_seed,
        "--preprocess": request.preprocess,
        "--check-tiles": request.check_tiles or None,
    }
    idle = [option for option, value in given.items() if value is not None]
    if idle:
        raise UsageError(f"--info and --verify run nothing: leave out {', '.join(idle)}")
    program, version = load_versioned(request.program_path)
    if verify:
        found = [*program.validate(), *problems(program)]
        if found:
            raise FileError("\n  ".join([f"{request.program_path} is not well formed:", *found]))
        terminal.note(f"{request.program_path}: well formed")
    if request.as_json:
        print_json("info", info_document(program, version))
    elif info:
        print("\n".join(info_lines(program, version)))


def _check_files(request: Request) -> None:
    """Everything about the files that can be known before one is read."""
    if request.input_path is not None and request.random_seed is not None:
        raise UsageError("-i and --random exclude each other")
    if request.preprocess is not None and request.random_seed is not None:
        raise UsageError("--preprocess is for images, --random makes arrays")
    if request.program_path == request.input_path == STDIO:
        raise UsageError("only one of the program and the input can come from stdin")
    if request.targets.count(STDIO) + request.as_json > 1:
        raise UsageError("only one of -o -, --profile - and --json can go to stdout")
    require_distinct({"-o": request.output_path, "--profile": request.profile_path})
    for target in request.targets:
        require_different(request.program_path, target)
        if request.input_path is not None:
            require_different(request.input_path, target)


def _inputs(request: Request, program: KPUProgram) -> Mapping[str, np.ndarray]:
    if request.random_seed is not None:
        return random_inputs(program, request.random_seed)
    if request.input_path is None:
        if program.input_ids:
            raise UsageError("no input: give -i FILE or --random SEED")
        return {}
    is_stdin = request.input_path == STDIO
    data = read_stdin() if is_stdin else Path(request.input_path).read_bytes()
    source = "stdin" if is_stdin else request.input_path
    return read_inputs(data, source, program, request.preprocess)


def _recorded_options(request: Request) -> dict[str, object]:
    """What a reader of the profile may want to know; no paths, they differ between machines."""
    name = None if request.input_path is None else Path(request.input_path).name
    return {
        "engine": request.engine,
        "input": name,
        "preprocess": request.preprocess,
        "random_seed": request.random_seed,
    }
