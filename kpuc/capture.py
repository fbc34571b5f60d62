"""Capture: a module and example inputs become one functional ATen program, through torch.compile.

Nothing of the user's is changed: the module's mode and attributes are restored, and the code object
that Dynamo compiles is ours alone, so its caches are too.
"""

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed, TorchDynamoException
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from formats.errors import CompilationError
from kpuc.assemble import Recording, assemble
from kpuc.capture_exported import capture_exported
from kpuc.captured import Captured
from kpuc.failures import MODEL_ERRORS, capture_failure, model_failure
from kpuc.signature import bind_inputs, fresh_inputs
from kpuc.source import user_source
from kpuc.torchscript import exported_from_torchscript
from kpuc.trace import functional_aten

ExampleInputs = Sequence[Any] | Mapping[str, Any] | torch.Tensor


def capture(module: nn.Module | ExportedProgram, example_inputs: ExampleInputs) -> Captured:
    """Capture `module` in eval mode at the shapes of `example_inputs`.

    example_inputs: positional (tuple) or by argument name (dict); each a tensor, a shape (float32),
    or what else `forward` takes. CompilationError names the line that cannot be captured.
    """
    if isinstance(module, ExportedProgram):
        return capture_exported(module, example_inputs)
    if isinstance(module, torch.jit.ScriptModule):
        script_arguments, script_keywords = fresh_inputs(example_inputs)
        program = exported_from_torchscript(module, script_arguments, script_keywords)
        return capture_exported(program, example_inputs)
    arguments, keywords, named = bind_inputs(module.forward, example_inputs)
    with left_as_found(module), torch.no_grad():
        module.eval()
        _warm_up(module, arguments, keywords)
        recording, results = _record(module, arguments, keywords)
        own_tensors = _tensors_of(module)
    given = {id(slot.tensor) for slot in named}
    fixed = {i for i, argument in enumerate(recording.arguments) if id(argument) not in given}
    traced = functional_aten(recording.module, recording.arguments, fixed=fixed)
    return assemble(type(module).__name__, recording, traced, named, own_tensors, results)


def _warm_up(module: nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    """One eager call. It says plainly what is wrong with the input, and modules that prepare
    themselves in their first call (YOLO's anchors) capture whole after it.
    """
    try:
        module(*arguments, **keywords)
    except MODEL_ERRORS as error:
        raise model_failure(error) from error


@contextmanager
def left_as_found(module: nn.Module) -> Iterator[None]:
    """Put back every mode, attribute and buffer of the module and its children at the end."""
    parts = [(part, dict(vars(part))) for part in module.modules()]
    containers = [
        (value, value.copy())
        for _, attributes in parts
        for value in attributes.values()
        if isinstance(value, (dict, list))
    ]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for part, attributes in parts:
            vars(part).clear()
            vars(part).update(attributes)
        for container, content in containers:
            container.clear()
            if isinstance(container, dict):
                container.update(content)
            else:
                container.extend(content)
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)


def _tensors_of(module: nn.Module) -> dict[int, str]:
    """id of every tensor the module holds (parameter, buffer, plain attribute) -> its path."""
    paths: dict[int, str] = {}
    for prefix, part in module.named_modules():
        held = {**part._parameters, **part._buffers, **vars(part)}
        for name, value in held.items():
            if isinstance(value, torch.Tensor):
                paths.setdefault(id(value), f"{prefix}.{name}".lstrip("."))
    return paths


def _record(
    module: nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[Recording, Any]:
    """Compile with a backend that keeps the graph; also what the compiled module returns, in which
    stand-ins show where each result of the graph goes.
    """
    recordings: list[Recording] = []

    def keep(graph_module: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        refuse_unknown_shapes(graph_module)
        stand_ins = [_empty_like(value) for value in result_values(graph_module)]
        sources = placeholder_sources(graph_module)
        recordings.append(Recording(graph_module, list(examples), sources, stand_ins))
        return lambda *_: stand_ins

    compiled = torch.compile(_own_code(module), backend=keep, fullgraph=True, dynamic=False)
    try:
        # Recurrent layers are captured whole, to be refused by name with all the others.
        with torch._dynamo.config.patch(allow_rnn=True):
            results = compiled(*arguments, **keywords)
    except BackendCompilerFailed as error:  # ours, wrapped
        raise error.inner_exception from None
    except TorchDynamoException as error:
        raise capture_failure(error) from error
    if not recordings:
        raise CompilationError(
            "torch.compile did not run: the model returns no tensor, or TORCHDYNAMO_DISABLE is set"
        )
    return recordings[0], results


def _own_code(module: nn.Module) -> Callable[..., Any]:
    """A function that calls the module, with a code object of its own: Dynamo keeps its caches and
    its recompilation limit per code object, so no earlier capture can matter and none is left over.

    Every output passes through an op, so that the graph computes all of them: also an input or a
    constant that is returned as it is, or the same tensor returned twice.
    """

    def call(*arguments: Any, **keywords: Any) -> Any:
        results = module(*arguments, **keywords)
        return pytree.tree_map_only(torch.Tensor, torch.ops.aten.alias.default, results)

    return types.FunctionType(
        call.__code__.replace(), call.__globals__, "call", None, call.__closure__
    )


def placeholder_sources(graph_module: torch.fx.GraphModule) -> list[str]:
    """For each placeholder of Dynamo's graph, where its value lives in the user's program."""
    sources = []
    for node in graph_module.graph.find_nodes(op="placeholder"):
        source = getattr(node.meta.get("grapharg"), "source", None)
        sources.append(str(node.target) if source is None else source.name)
    return sources


def refuse_unknown_shapes(graph_module: torch.fx.GraphModule) -> None:
    """CompilationError for the first operation whose shape depends on a tensor's values."""
    for node in graph_module.graph.nodes:
        value = node.meta.get("example_value")
        if isinstance(value, torch.Tensor) and free_unbacked_symbols(value):
            raise CompilationError(
                "the shape of a result depends on the values of a tensor; shapes must be fixed: "
                f"move this step out of the model\n  {user_source(node)}"
            )


def result_values(graph_module: torch.fx.GraphModule) -> list[Any]:
    """The fake values of the graph's results."""
    results = graph_module.graph.output_node().args[0]
    assert isinstance(results, (tuple, list))
    return [
        node.meta["example_value"] if isinstance(node, torch.fx.Node) else node for node in results
    ]


def _empty_like(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty(tuple(value.shape), dtype=value.dtype)
