"""The runtime: loads one program after another and executes it, as the host's interface asks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from formats.errors import FileError, InputError, KPUError, UsageError
from formats.files import let_go
from formats.profile import KPUExecutionResult, KPUPerformanceMetrics, SimulationMode
from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.verify import verify
from kpurun.compatibility import own_config, plain_value, require_compatible
from kpurun.engine.storage import EngineResult
from kpurun.feed import checked_inputs, host_dtype, host_outputs
from kpurun.ops.types import OpError
from kpurun.sim.power import power_trace
from kpurun.sim.timeline import Timeline, simulate, simulated_metrics
from kpurun.wellformed import require_wellformed

if TYPE_CHECKING:
    from kpurun.engine.tiled import TileReport

ENGINES = ("fast", "reference")

Execute = Callable[[Mapping[str, np.ndarray]], EngineResult]
Spec = tuple[str, tuple[int, ...], str]


class KPURuntime:
    """Executes compiled programs; one instance serves many, one at a time.

    config: the machine, ours or the host's; None adopts each program's own.
    engine: "fast" or "reference" (numpy, slow, the definition). max_cycles: that a simulation may
    take.
    """

    def __init__(
        self,
        config: object | None = None,
        *,
        engine: str = "fast",
        max_cycles: int | None = None,
    ) -> None:
        if engine not in ENGINES:
            raise UsageError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
        self._config = None if config is None else own_config(config)
        self._engine = engine
        self._max_cycles = max_cycles
        self._program: KPUProgram | None = None
        self._metrics = KPUPerformanceMetrics()
        self._execute: Execute | None = None
        self._timeline: Timeline | None = None

    def load_program(self, program: KPUProgram) -> None:
        """Check the program against the machine and prepare its execution.

        Raises ConfigurationError, UnsupportedOpError, LimitError or MemoryError where it does not
        fit, FileError where it is malformed. A program that is loaded already is replaced; if the
        new one is refused, none is loaded.
        """
        self.unload_program()
        if isinstance(program, str | bytes | PathLike):
            raise UsageError("load_program takes a KPUProgram: formats.load_program reads a file")
        config = program.target_config if self._config is None else self._config
        verify(program)
        require_wellformed(program)
        require_compatible(program, config)
        timed = replace(program, target_config=config)
        self._metrics = simulated_metrics(simulate(timed))
        self._execute = _engine(self._engine, timed)
        let_go(timed.weights_blob)  # the engine has weights of its own
        self._program = timed

    def execute(
        self, inputs: Mapping[str, np.ndarray], mode: object = SimulationMode.FUNCTIONAL
    ) -> KPUExecutionResult:
        """Outputs and metrics; an error comes back as success=False with its message.

        inputs: by input name or tensor id, in the model's own dtypes. mode: a SimulationMode, ours
        or the host's, or its value. Raises nothing for a mistake in the inputs or the mode.
        """
        try:
            return self.run(inputs, mode)
        except KPUError as error:
            return KPUExecutionResult(
                success=False, error_message=str(error), mode=_nearest_mode(mode)
            )

    def run(
        self, inputs: Mapping[str, np.ndarray], mode: object = SimulationMode.FUNCTIONAL
    ) -> KPUExecutionResult:
        """As `execute`, but raises the KPUError instead of returning its message."""
        program = self.program
        known_mode = known_mode_of(mode)
        fed = checked_inputs(program, inputs)
        notes = () if known_mode is SimulationMode.FUNCTIONAL else self._notes(known_mode)
        assert self._execute is not None, "load_program sets both"
        try:
            result = self._execute(fed)
        except OpError as error:  # an index that is out of range
            raise InputError(f"{program.name}: {error}") from error
        return KPUExecutionResult(
            success=True,
            outputs=host_outputs(program, result.outputs),
            metrics=self._metrics,
            mode=known_mode,
            trace=notes
            if result.overflowed is None
            else (*notes, _overflow_text(program, result.overflowed)),
        )

    def _notes(self, mode: SimulationMode) -> tuple[str, ...]:
        """What a reader of a simulation's trace must know; LimitError where it takes too long."""
        timeline = self.timeline
        return _over_tdp(timeline) if mode is SimulationMode.POWER_TRACE else ()

    def check_tiles(self, inputs: Mapping[str, np.ndarray]) -> "TileReport":
        """Execute the tile commands of every op on the bytes of DRAM, L2 and L1, and compare each
        result with the reference engine's: CheckError where one differs."""
        from kpurun.engine.tiled import check_tiles

        return check_tiles(self.program, checked_inputs(self.program, inputs))

    def get_input_specs(self) -> list[Spec]:
        """(name, shape, dtype) of each input, in the model's order."""
        return [_spec(tensor) for tensor in self.program.get_input_tensors()]

    def get_output_specs(self) -> list[Spec]:
        """(name, shape, dtype) of each output, in the model's order."""
        return [_spec(tensor) for tensor in self.program.get_output_tensors()]

    def unload_program(self) -> None:
        """Free what the program holds; harmless when none is loaded."""
        self._program = None
        self._execute = None
        self._timeline = None
        self._metrics = KPUPerformanceMetrics()

    @property
    def timeline(self) -> Timeline:
        """The loaded program command by command; LimitError beyond `max_cycles`."""
        if self._timeline is None:
            self._timeline = simulate(self.program, self._max_cycles)
        return self._timeline

    @property
    def program(self) -> KPUProgram:
        """The loaded program, for the machine that this runtime models."""
        if self._program is None:
            raise UsageError("no program is loaded: call load_program first")
        return self._program


def _engine(name: str, program: KPUProgram) -> Execute:
    if name == "reference":
        from kpurun.engine import reference

        return partial(reference.execute, program)
    from kpurun.engine.fast import FastEngine  # imports torch

    try:
        return FastEngine(program).execute
    except OpError as error:  # a constant index that is out of range
        raise FileError(f"{program.name}: {error}") from error


def _spec(tensor: KPUTensor) -> Spec:
    return tensor.name, tensor.shape, host_dtype(tensor).name


def known_mode_of(mode: object) -> SimulationMode:
    """The mode as ours; UsageError for what is none."""
    value = plain_value(mode)
    modes = [known.value for known in SimulationMode]
    if value not in modes:
        raise UsageError(f"mode {value!r} is not one of {', '.join(modes)}")
    return SimulationMode(value)


def _over_tdp(timeline: Timeline) -> tuple[str, ...]:
    """A sentence if some cycles take more power than the machine can lose."""
    tdp = timeline.program.target_config.compute.tdp_watts
    windows = power_trace(timeline).windows_over(tdp)
    if not windows:
        return ()
    cycles = sum(end - start for start, end, _ in windows)
    highest = max(watts for _, _, watts in windows)
    return (
        f"power exceeds the TDP of {tdp:g} W in {len(windows)} windows, {cycles:,} cycles "
        f"together; it reaches {highest:.2f} W",
    )


def _nearest_mode(mode: object) -> SimulationMode:
    """The mode that a failed execution reports: the one asked for, if there is such a mode."""
    value = plain_value(mode)
    return next(
        (known for known in SimulationMode if known.value == value), SimulationMode.FUNCTIONAL
    )


def _overflow_text(program: KPUProgram, op: KPUOp) -> str:
    return (
        f"op {op.name or op.id} ({op.op_type}) overflows {program.precision.value}: "
        "it makes infinities or NaN from finite operands, so the outputs cannot be trusted"
    )
