"""The compiler: PyTorch models to KPU programs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from formats.files import Source as FileSource
    from formats.files import Target
    from formats.program import KPUProgram
    from kpuc.compiler import KPUCompiler
    from kpuc.quant.quantize import QuantOptions

__all__ = ["KPUCompiler", "compile"]


def compile(
    module: "torch.nn.Module",
    example_inputs: "torch.Tensor | Sequence[Any] | Mapping[str, Any]",
    *,
    config: object = "swkpu-v1",
    precision: object = "fp16",
    preprocess: str = "none",
    optimise: str = "cycles",
    calibration: object | None = None,
    quantization: "QuantOptions | None" = None,
    load_calibration: "FileSource | None" = None,
    save_calibration: "Target | None" = None,
) -> "KPUProgram":
    """Compile a module, as after eval(), for the shapes of `example_inputs`.

    example_inputs: tensors or shapes, by position or by name, or the only tensor. config: a preset,
    a file, a KPUConfig or the host's own. calibration: at least 100 samples, for codes and
    posits, anything that `kpuc.quant.data.samples` takes; preprocess: of images, also those of a
    calibration folder; optimise: "cycles", or "size" for the least L2 that costs few cycles;
    quantization: how codes are made; save_calibration: a file to write, which
    load_calibration takes instead of samples the next time. Raises the kinds of KPUError.
    """
    import torch

    from formats.preprocess import require_known
    from kpuc.capture import capture
    from kpuc.compiler import compile_graph, own_precision, planner
    from kpuc.emit import Source
    from kpuc.graph import graph_hash
    from kpuc.lower import lower
    from kpuc.precision import is_calibrated, require_calibration, require_precision, require_use
    from kpurun.compatibility import own_config

    planner(optimise)
    machine, chosen = own_config(config), own_precision(precision)
    require_precision(machine, chosen)
    require_calibration(chosen, calibration, load_calibration, save_calibration)
    require_use(chosen, calibration, quantization)
    require_known(preprocess)
    quantise = None
    if is_calibrated(chosen, calibration):
        from kpuc.quant.prepare import quantiser

        quantise = quantiser(
            calibration,
            machine,
            chosen,
            quantization,
            preprocess,
            load_calibration=load_calibration,
        )
    inputs: dict[str, Any] | tuple[Any, ...]
    if isinstance(example_inputs, Mapping):
        inputs = dict(example_inputs)
    elif isinstance(example_inputs, torch.Tensor):
        inputs = (example_inputs,)
    else:
        inputs = tuple(example_inputs)
    graph = lower(capture(module, inputs))
    name = type(module).__name__
    options = {} if optimise == "cycles" else {"optimise": optimise}
    source = Source(
        name=name, model=name, sha256=graph_hash(graph), preprocess=preprocess, options=options
    )
    program = compile_graph(
        graph, machine, chosen, source, quantise=quantise, optimise_for=optimise
    )
    if quantise is not None and save_calibration is not None:
        quantise.save_calibration(save_calibration)
    return program


def __getattr__(name: str) -> Any:
    """Lazy, so that `import kpuc` does not start torch."""
    if name == "KPUCompiler":
        from kpuc.compiler import KPUCompiler

        return KPUCompiler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
