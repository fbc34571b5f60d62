"""torch.compile(module, backend="kpu"): the graph runs as a compiled program on the machine.

options: precision ("fp16"), config ("swkpu-v1", a file or a KPUConfig), mode ("functional"); for a
precision of codes calibration (what `kpuc.quant.data.samples` takes), preprocess (of images, the
default is "none"), quantization (a `kpuc.quant.quantize.QuantOptions`), save_calibration and, in
place of samples, load_calibration (files: each holds the calibration of one graph, of several that
of the one compiled last).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from formats.config import KPUConfig
from formats.errors import CompilationError, UsageError, too_few_calibration_samples
from formats.files import Source, Target
from formats.precision import KPUPrecision
from formats.preprocess import require_known
from formats.profile import SimulationMode
from kpuc.capture import placeholder_sources, refuse_unknown_shapes
from kpuc.captured import Captured, InputSlot, OutputSlot
from kpuc.compiler import compile_graph, own_precision
from kpuc.lower import lower
from kpuc.precision import is_calibrated, require_calibration, require_precision, require_use
from kpuc.signature import unique_names
from kpuc.source import clean_path
from kpuc.trace import Traced, functional_aten
from kpurun.compatibility import own_config
from kpurun.runtime import KPURuntime, known_mode_of

if TYPE_CHECKING:
    from kpuc.quant.prepare import Quantiser
    from kpuc.quant.quantize import QuantOptions

Compiled = Callable[..., list[Any]]


@dataclass(frozen=True)
class Options:
    """What `options={…}` says, with its defaults."""

    precision: KPUPrecision
    config: KPUConfig
    mode: SimulationMode
    calibration: object | None
    preprocess: str
    quantization: "QuantOptions | None"
    load_calibration: Source | None
    save_calibration: Target | None

    def quantise(self) -> "Quantiser | None":
        """What makes the codes of a program, or its units, for precisions that have them."""
        if not is_calibrated(self.precision, self.calibration):
            return None
        from kpuc.quant.prepare import quantiser

        return quantiser(
            self.calibration,
            self.config,
            self.precision,
            self.quantization,
            self.preprocess,
            load_calibration=self.load_calibration,
        )


def kpu(
    graph_module: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compile Dynamo's graph for the machine; the result takes and returns torch tensors.

    Raises the compiler's errors at once, within torch's BackendCompilerFailed.
    """
    chosen = _parse(options or {})
    refuse_unknown_shapes(graph_module)
    compiled = _PerShape(graph_module, _fixed(graph_module, example_inputs), chosen)
    if not any(isinstance(argument, torch.SymInt) for argument in example_inputs):
        compiled.prepare(example_inputs)
    return compiled


KNOWN = (
    "precision",
    "config",
    "mode",
    "calibration",
    "preprocess",
    "quantization",
    "load_calibration",
    "save_calibration",
)


def _parse(options: Mapping[str, Any]) -> Options:
    for name in options:
        if name not in KNOWN:
            raise UsageError(f"backend kpu has no option {name!r}; it has {', '.join(KNOWN)}")
    precision = own_precision(options.get("precision", "fp16"))
    config = own_config(options.get("config", "swkpu-v1"))
    mode = known_mode_of(options.get("mode", "functional"))
    calibration = options.get("calibration")
    load_from, save_to = options.get("load_calibration"), options.get("save_calibration")
    if is_calibrated(precision, calibration):
        require_precision(config, precision)
        calibration = _calibration(calibration, load_from, precision)
    require_calibration(precision, calibration, load_from, save_to)
    require_use(precision, calibration, options.get("quantization"))
    if "preprocess" in options and calibration is None and load_from is None:
        raise UsageError("preprocess: it is for images of a calibration, and none is given")
    require_known(options.get("preprocess", "none"))
    return Options(
        precision,
        config,
        mode,
        calibration,
        options.get("preprocess", "none"),
        options.get("quantization"),
        load_from,
        save_to,
    )


def _calibration(
    data: object | None, load_from: object | None, precision: KPUPrecision
) -> object | None:
    """The data, to be read once for every program of the function."""
    if data is None and load_from is not None:
        return None
    if data is None:
        hint = 'give options={"calibration": samples or a path}'
        raise UsageError(f"{too_few_calibration_samples(precision.value)}: {hint}")
    from kpuc.quant.data import replayable

    return replayable(data)


def _fixed(graph_module: torch.fx.GraphModule, arguments: Sequence[Any]) -> frozenset[int]:
    """Indices of the arguments that are parameters, buffers or other tensors of the module."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    return frozenset(
        index
        for index, (node, argument) in enumerate(zip(placeholders, arguments, strict=True))
        if isinstance(argument, torch.nn.Parameter)
        or "_dynamo_static_input_type" in (node.meta.get("tensor_dict") or {})
    )


class _PerShape:
    """Programs of one graph by the shapes of its arguments: a program has fixed shapes, and Dynamo
    makes sizes symbolic when they change from call to call.
    """

    def __init__(
        self, graph_module: torch.fx.GraphModule, fixed: frozenset[int], options: Options
    ) -> None:
        self._graph_module = graph_module
        self._sources = placeholder_sources(graph_module)
        self._fixed = fixed
        self._options = options
        self._programs: dict[tuple[Any, ...], _Loaded] = {}

    def __call__(self, *arguments: Any) -> list[Any]:
        return self.prepare(arguments).run(arguments)

    def prepare(self, arguments: Sequence[Any]) -> "_Loaded":
        """The program for these arguments, compiled if there is none or its weights are stale."""
        key = tuple(_shape_key(argument) for argument in arguments)
        loaded = self._programs.get(key)
        if loaded is None or loaded.is_stale(arguments):
            loaded = _Loaded(
                self._graph_module, self._sources, arguments, self._fixed, self._options
            )
            self._programs[key] = loaded
        return loaded


def _shape_key(argument: Any) -> Any:
    if isinstance(argument, torch.Tensor):
        return tuple(argument.shape), argument.dtype
    return argument


class _Loaded:
    """One program on a runtime of its own, with the weights it was compiled from."""

    def __init__(
        self,
        graph_module: torch.fx.GraphModule,
        sources: Sequence[str],
        arguments: Sequence[Any],
        fixed: frozenset[int],
        options: Options,
    ) -> None:
        self._weights = {
            index: arguments[index].detach().clone()
            for index in fixed
            if isinstance(arguments[index], torch.Tensor)
        }
        self._inputs = [
            index
            for index, argument in enumerate(arguments)
            if isinstance(argument, torch.Tensor) and index not in fixed
        ]
        self._mode = options.mode
        self._traced = functional_aten(graph_module, arguments, fixed=fixed)
        captured = self._captured(arguments, sources)
        self._outputs = captured.outputs
        self._runtime: KPURuntime | None = None
        if captured.outputs:
            quantise = options.quantise()
            program = compile_graph(
                lower(captured), options.config, options.precision, quantise=quantise
            )
            if quantise is not None and options.save_calibration is not None:
                quantise.save_calibration(options.save_calibration)
            self._runtime = KPURuntime(options.config)
            self._runtime.load_program(program)

    def is_stale(self, arguments: Sequence[Any]) -> bool:
        """Whether a weight differs from what was compiled, in any bit and however it was written
        (a write through `.data` leaves no trace but the bits).
        """
        return any(
            not _same_bits(weight, arguments[index]) for index, weight in self._weights.items()
        )

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """The graph's results in eager's dtypes; inputs that it overwrites are overwritten."""
        made = self._execute([arguments[index] for index in self._inputs])
        for index, node in self._traced.written.items():
            arguments[index].copy_(made[node])
        return [
            made[result] if isinstance(result, str) else result for result in self._traced.outputs
        ]

    def _execute(self, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        if self._runtime is None:
            return {}
        specs = self._runtime.get_input_specs()
        inputs = {
            name: _to_numpy(tensor) for (name, _, _), tensor in zip(specs, tensors, strict=True)
        }
        result = self._runtime.run(inputs, self._mode)
        for warning in result.trace:
            warnings.warn(str(warning), stacklevel=2)
        return {
            slot.value: torch.from_numpy(np.array(result.outputs[slot.name])).to(slot.dtype)
            for slot in self._outputs
        }

    def _captured(self, arguments: Sequence[Any], sources: Sequence[str]) -> Captured:
        traced = self._traced
        paths = unique_names([clean_path(source) or "input" for source in sources])
        for index in traced.written:
            if index in self._weights:
                raise CompilationError(
                    f"the model overwrites its own state {paths[index]!r} in forward; the machine "
                    "keeps none between runs"
                )
        inputs = tuple(
            InputSlot(
                paths[index],
                traced.inputs[index],
                tuple(arguments[index].shape),
                arguments[index].dtype,
            )
            for index in self._inputs
        )
        constants = dict(traced.constants) | {
            traced.inputs[index]: (paths[index], weight) for index, weight in self._weights.items()
        }
        return Captured("compiled", traced.graph, inputs, constants, _results(traced))


def _results(traced: Traced) -> tuple[OutputSlot, ...]:
    """One output for each node that is a result or overwrites an input."""
    dtypes = {
        node.name: node.meta["val"].dtype
        for node in traced.graph.nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
    }
    nodes = [*traced.outputs, *traced.written.values()]
    wanted = dict.fromkeys(node for node in nodes if isinstance(node, str))
    return tuple(
        OutputSlot(f"output_{index}", node, dtypes[node]) for index, node in enumerate(wanted)
    )


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """numpy has no bfloat16; float32 holds its values."""
    plain = tensor.detach().cpu()
    return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())


def _same_bits(kept: torch.Tensor, given: torch.Tensor) -> bool:
    """Equal in every bit, so that NaN equals itself."""
    current = given.detach()
    if current.shape != kept.shape or current.dtype != kept.dtype:
        return False
    if torch.equal(kept, current):
        return True
    return bool(torch.equal(kept.view(-1).view(torch.uint8), current.reshape(-1).view(torch.uint8)))
