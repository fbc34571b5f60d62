"""The compiler: PyTorch models to KPU programs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from formats.program import KPUProgram
    from kpuc.compiler import KPUCompiler

__all__ = ["KPUCompiler", "compile"]


def compile(
    module: "torch.nn.Module",
    example_inputs: "torch.Tensor | Sequence[Any] | Mapping[str, Any]",
    *,
    config: object = "swkpu-v1",
    precision: object = "fp16",
    preprocess: str = "none",
) -> "KPUProgram":
    """Compile a module, as after eval(), for the shapes of `example_inputs`.

    example_inputs: tensors or shapes, by position or by name, or the only tensor. config: a preset,
    a file, a KPUConfig or the host's own. Raises the kinds of KPUError.
    """
    import torch

    from kpuc.capture import capture
    from kpuc.compiler import compile_graph, graph_hash, own_precision
    from kpuc.emit import Source
    from kpuc.lower import lower
    from kpurun.compatibility import own_config

    inputs: dict[str, Any] | tuple[Any, ...]
    if isinstance(example_inputs, Mapping):
        inputs = dict(example_inputs)
    elif isinstance(example_inputs, torch.Tensor):
        inputs = (example_inputs,)
    else:
        inputs = tuple(example_inputs)
    graph = lower(capture(module, inputs))
    name = type(module).__name__
    source = Source(name=name, model=name, sha256=graph_hash(graph), preprocess=preprocess)
    return compile_graph(graph, own_config(config), own_precision(precision), source)


def __getattr__(name: str) -> Any:
    """Lazy, so that `import kpuc` does not start torch."""
    if name == "KPUCompiler":
        from kpuc.compiler import KPUCompiler

        return KPUCompiler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
