"""The pipeline, as one visible list of calls, and the compiler class of the host's interface."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formats.config import KPUConfig
from formats.errors import (
    CompilationError,
    ConfigurationError,
    LimitError,
    MemoryError,
    UnsupportedOpError,
    UsageError,
    too_few_calibration_samples,
)
from formats.files import Source as FileSource
from formats.files import Target
from formats.precision import KPUPrecision
from formats.preprocess import require_known
from formats.program import KPUProgram, Quantization
from kpuc.aliases import aliases
from kpuc.compact import plan_compactly
from kpuc.emit import Source, emit
from kpuc.graph import Graph, graph_hash
from kpuc.memory_plan import MemoryPlan
from kpuc.passes.dead_code import eliminate_dead_code
from kpuc.passes.fold import fold
from kpuc.passes.fuse import fuse
from kpuc.passes.join import join_in_place
from kpuc.passes.layout import assign_layout
from kpuc.passes.legalise import legalise
from kpuc.passes.separate_outputs import separate_outputs
from kpuc.plan import plan_memory
from kpuc.precision import (
    CODED,
    float_storage,
    is_calibrated,
    require_calibration,
    require_precision,
    require_use,
)
from kpuc.schedule import schedule
from kpuc.scheduled import Scheduled
from kpuc.storage import Storage
from kpurun.compatibility import own_config
from kpurun.ops import OPS

if TYPE_CHECKING:
    from kpuc.load import LoadedModel
    from kpuc.quant.prepare import Quantized, Track
    from kpuc.quant.quantize import QuantOptions

CYCLES, SIZE = "cycles", "size"
PLANNERS = {CYCLES: plan_memory, SIZE: plan_compactly}

Pass = tuple[str, Callable[[Graph], Graph]]
Formats = Mapping[str, str]  # value -> "NHWC" where it is not "NCHW"
# Told of every stage when it is done: its name and, of a pass, the graph and the formats in it.
Observer = Callable[[str, Graph | None, Formats], None]
Quantise = Callable[[Graph], "Quantized"]  # of the graph after all passes


def passes(config: KPUConfig) -> list[Pass]:
    """The graph passes in order, by name."""
    return [
        ("fold", lambda graph: fold(graph, config.native_ops)),
        ("fuse", lambda graph: fuse(graph, config)),
        ("separate-outputs", separate_outputs),
        ("legalise", lambda graph: legalise(graph, config)),
        ("dead-code", eliminate_dead_code),
    ]


def pass_names(config: KPUConfig) -> list[str]:
    """Names that `--stop-after` takes."""
    return ["lower", *(name for name, _ in passes(config)), "layout", "join"]


def _nobody(stage: str, graph: Graph | None, formats: Formats) -> None:
    """The observer of a compilation that nobody observes."""


def optimise(graph: Graph, config: KPUConfig, observe: Observer = _nobody) -> Graph:
    """The graph after all passes."""
    for name, apply in passes(config):
        graph = apply(graph)
        observe(name, graph, {})
    return graph


def plan_graph(
    graph: Graph,
    config: KPUConfig,
    precision: KPUPrecision,
    observe: Observer = _nobody,
    quantise: Quantise | None = None,
    optimise_for: str = CYCLES,
) -> tuple[Scheduled, MemoryPlan]:
    """Everything that is decided about a lowered graph: what `emit` joins.

    optimise_for: CYCLES, or SIZE for the least L2 that costs few cycles. quantise: makes the codes
    of a precision that has them; without it sizes and times are those of the program, but its
    numbers mean nothing.
    Raises ConfigurationError for a precision that is not to be had, UnsupportedOpError,
    CompilationError, LimitError, MemoryError.
    """
    require_precision(config, precision)
    graph = optimise(graph, config, observe)
    graph, storage, report = _stored(graph, precision, quantise)
    if report is not None:
        observe("quantise", graph, {})
    graph, storage, formats = assign_layout(graph, storage, config)
    observe("layout", graph, formats)
    graph, storage, formats = join_in_place(graph, storage, formats)
    observe("join", graph, formats)
    named = aliases(graph, storage, formats)
    order = schedule(graph, storage.dtypes, named.roots)
    observe("schedule", None, formats)
    scheduled = Scheduled(graph, order, storage, formats, named, report)
    plan = planner(optimise_for)(scheduled, config)
    observe("tile and place", None, formats)
    return scheduled, plan


def planner(optimise_for: str) -> Callable[[Scheduled, KPUConfig], MemoryPlan]:
    """What plans memory; UsageError for what nobody optimises for."""
    if optimise_for not in PLANNERS:
        raise UsageError(f"optimise {optimise_for!r} is not one of {', '.join(PLANNERS)}")
    return PLANNERS[optimise_for]


def _stored(
    graph: Graph, precision: KPUPrecision, quantise: Quantise | None
) -> tuple[Graph, Storage, Quantization | None]:
    if quantise is None and precision not in CODED:
        return graph, float_storage(graph, precision), None
    if quantise is None:
        from kpuc.quant.prepare import nominal  # torch's kernels

        return (*nominal(graph, precision), None)
    found = quantise(graph)
    return found.graph, found.storage, found.report


def compile_graph(
    graph: Graph,
    config: KPUConfig,
    precision: KPUPrecision,
    source: Source | None = None,
    observe: Observer = _nobody,
    quantise: Quantise | None = None,
    optimise_for: str = CYCLES,
) -> KPUProgram:
    """Lowered graph to program; raises as `plan_graph` does, and CompilationError for a precision
    of codes without calibration."""
    if precision in CODED and quantise is None:
        raise too_few_calibration_samples(precision.value)
    scheduled, plan = plan_graph(graph, config, precision, observe, quantise, optimise_for)
    program = emit(scheduled, plan, config, source or Source(name=graph.name))
    observe("emit", None, scheduled.formats)
    return program


class KPUCompiler:
    """Compiles model files, as the deployment host's interface asks.

    Paths may be str or Path; configurations and precisions may be the host's own classes.
    """

    def __init__(self, *, trust_pickle: bool = False, arch: str | None = None) -> None:
        self._trust_pickle = trust_pickle
        self._arch = arch

    def compile(
        self,
        model_path: str | Path | None = None,
        config: object = "swkpu-v1",
        precision: object = "fp16",
        calibration_data: object | None = None,
        *,
        onnx_path: str | Path | None = None,
        input_shapes: Sequence[str] = (),
        preprocess: str = "none",
        quantization: "QuantOptions | None" = None,
        load_calibration: FileSource | None = None,
        save_calibration: Target | None = None,
        optimise: str = CYCLES,
        observe: Observer = _nobody,
        track: "Track | None" = None,
    ) -> KPUProgram:
        """The compiled program of a model file.

        calibration_data: what `kpuc.quant.data.samples` takes. Its first sample gives the input
        shape where nothing else does. INT8 and INT4 need at least 100, posits are nearer with as
        many; FP16 and BF16 take no more from them.
        load_calibration: a file that save_calibration wrote of this model, instead of the data; it
        is written when the program is made.
        quantization: how codes are made; preprocess: of images, also those of a calibration
        folder; optimise: "cycles", or "size" for the least L2 that costs few cycles; track: puts a
        progress bar around the calibration samples. Raises the kinds of KPUError.
        """
        path = _only_path(model_path, onnx_path)
        planner(optimise)
        machine, chosen = own_config(config), own_precision(precision)
        require_precision(machine, chosen)
        require_calibration(chosen, calibration_data, load_calibration, save_calibration)
        require_use(chosen, None, quantization)  # samples may say the shape of an input
        require_known(preprocess)
        sample, data = _first_sample(calibration_data)
        loaded = self._load(path)
        observe("load", None, {})
        graph = self._lowered(loaded, input_shapes, sample)
        observe("lower", graph, {})
        quantise = None
        if is_calibrated(chosen, data):
            from kpuc.quant.prepare import quantiser

            quantise = quantiser(
                data, machine, chosen, quantization, preprocess, track, load_calibration
            )
        source = Source(
            name=loaded.name,
            model=loaded.path.name if loaded.path else str(path),
            sha256=source_hash(loaded, graph),
            preprocess=preprocess,
            options={
                "arch": self._arch,
                "input_shapes": list(input_shapes),
                **({} if optimise == CYCLES else {"optimise": optimise}),
            },
        )
        program = compile_graph(graph, machine, chosen, source, observe, quantise, optimise)
        if quantise is not None and save_calibration is not None:
            quantise.save_calibration(save_calibration)
        return program

    def validate_model(
        self,
        model_path: str | Path,
        config: object = "swkpu-v1",
        *,
        precision: object = "fp16",
        input_shapes: Sequence[str] = (),
    ) -> list[str]:
        """Everything that would stop a compilation for this machine; empty when nothing does.

        FileError, TrustError and UsageError are raised: they say nothing about the model.
        """
        machine, chosen = own_config(config), own_precision(precision)
        try:
            graph = self._lowered(self._load(_only_path(model_path, None)), input_shapes, None)
            plan_graph(graph, machine, chosen)
        except UnsupportedOpError as error:
            return error.details or [str(error)]
        except (CompilationError, ConfigurationError, LimitError, MemoryError) as error:
            return [str(error)]
        return []

    def estimate_memory(
        self,
        model_path: str | Path,
        config: object = "swkpu-v1",
        precision: object = "fp16",
        *,
        input_shapes: Sequence[str] = (),
    ) -> dict[str, int]:
        """Bytes of weights, activations, and the peaks of on-chip memory and DRAM."""
        machine, chosen = own_config(config), own_precision(precision)
        graph = self._lowered(self._load(_only_path(model_path, None)), input_shapes, None)
        scheduled, plan = plan_graph(graph, machine, chosen)
        return {
            "weights": scheduled.weight_bytes,
            "activations": scheduled.activation_bytes,
            "peak_sram": plan.l2_peak_bytes,
            "peak_dram": plan.dram_peak_bytes,
        }

    def get_supported_ops(self) -> list[str]:
        """ONNX names of the ops that programs may contain, alone or as an epilogue."""
        return sorted({*OPS, "Constant"})

    def _load(self, path: str | Path) -> "LoadedModel":
        from kpuc.load import load_model

        return load_model(path, trust_pickle=self._trust_pickle, arch=self._arch)

    def _lowered(
        self, loaded: "LoadedModel", input_shapes: Sequence[str], sample: Any | None
    ) -> Graph:
        from kpuc.capture import capture
        from kpuc.example import example_inputs
        from kpuc.lower import lower

        return lower(capture(loaded.module, example_inputs(loaded.module, input_shapes, sample)))


def _first_sample(data: object | None) -> tuple[Any | None, object | None]:
    """The first of calibration samples that Python holds, and all of them."""
    if data is None or isinstance(data, str | Path) or not isinstance(data, Iterable):
        return None, data
    remaining = iter(data)
    first = next(remaining, None)
    # An iterator is its own: the sample must not be lost.
    return first, chain([first], remaining) if remaining is data else data


def _only_path(model_path: str | Path | None, onnx_path: str | Path | None) -> str | Path:
    path = model_path if onnx_path is None else onnx_path
    if path is None or (model_path is not None and onnx_path is not None):
        raise UsageError("give the model's path, once")
    if Path(path).suffix == ".onnx":
        raise CompilationError(
            f"{path}: ONNX models are not available in this version: export the model with "
            "torch.export (.pt2)"
        )
    return path


def own_precision(precision: object) -> KPUPrecision:
    """A precision, ours or the host's or its value, as ours."""
    value = getattr(precision, "value", precision)
    try:
        return KPUPrecision(value)
    except ValueError:
        known = ", ".join(member.value for member in KPUPrecision)
        raise UsageError(f"precision {value!r} is not one of {known}") from None


def source_hash(loaded: "LoadedModel", graph: Graph) -> str:
    """SHA-256 of the model's file, or of the graph's constants where the model is code."""
    digest = hashlib.sha256()
    if loaded.path is not None:
        with loaded.path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()
    return graph_hash(graph)
