"""From an FX graph to functional ATen: no in-place writes, composite ops whole where we lower them.

torch.export does the work. What it may not decompose are the rows of our table and the ops that we
refuse by name; any other composite op is expanded into ops that have rows.
"""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram, default_decompositions
from torch.export.graph_signature import InputKind, InputSpec, OutputKind, TensorArgument

from formats.errors import CompilationError
from kpuc.aten import ATEN, REFUSED_NAMES
from kpuc.failures import EXPORT_ERRORS, export_failure
from kpuc.inplace import (
    bypass_idle_dropout,
    make_activations_functional,
    may_share_memory,
    writes_in_place,
)

_MOST_EXPANSIONS = 8  # composite ops nest two or three deep


@dataclass(frozen=True)
class Traced:
    """A functional ATen graph.

    inputs: placeholder of each example input, in order; constants: placeholder -> (name, tensor)
    that the graph itself carries; outputs: for each result the name of its node, or its value if it
    is no tensor; written: index of an example input that the graph overwrites -> node of its new
    value.
    """

    graph: torch.fx.Graph
    inputs: tuple[str, ...]
    constants: Mapping[str, tuple[str, torch.Tensor]]
    outputs: tuple[Any, ...]
    written: Mapping[int, str]


def functional_aten(
    module: torch.nn.Module,
    arguments: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    fixed: Collection[int] = (),
) -> Traced:
    """Trace an FX module (Dynamo's, or that of an exported program) on its example arguments.

    fixed: indices of flat arguments that are constants; what depends on them alone stays whole.
    """
    with torch.no_grad(), quiet():
        try:
            exported = torch.export.export(
                module, tuple(arguments), dict(keywords or {}), strict=False
            )
            program = _expand(exported, fixed)
        except EXPORT_ERRORS as error:
            raise export_failure(error) from error
    return _read(program)


@contextmanager
def quiet() -> Iterator[None]:
    """torch 2.13 warns about its own use of a class that it deprecates, and about what it does to
    keep a state_dict complete.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Manually populate")
        yield


def _expand(program: ExportedProgram, fixed: Collection[int]) -> ExportedProgram:
    """Functional, and composite ops without a row decomposed until all that is left has one or is
    elementary. A graph that is all that already, as most are but for in-place writes, is kept.
    """
    make_activations_functional(program.graph)
    if writes_in_place(program.graph):
        bypass_idle_dropout(program.graph)
    written = writes_in_place(program.graph)
    if not written and not _without_row(program, fixed):
        return program
    available = default_decompositions()
    # Beside a write every op has to say what it shares: those that do not are decomposed.
    doubtful = {
        target
        for target in _targets(program)
        if written and may_share_memory(target) and target._schema.name not in REFUSED_NAMES
    }
    table = _chosen(available, doubtful)
    for _ in range(_MOST_EXPANSIONS):
        program = program.run_decompositions(table)  # functional, and views elementary
        table = _chosen(available, _without_row(program, fixed))
        if not table:
            break
    return program


def _targets(program: ExportedProgram) -> set[OpOverload]:
    return {node.target for node in program.graph.nodes if isinstance(node.target, OpOverload)}


def _chosen(available: Any, targets: Collection[OpOverload]) -> dict[OpOverload, Any]:
    """The decompositions that torch has for some of the targets."""
    return {target: available[target] for target in targets if target in available}


def _without_row(program: ExportedProgram, fixed: Collection[int]) -> set[OpOverload]:
    return {
        target
        for target in _varying_targets(program, fixed)
        if target not in ATEN and target._schema.name not in REFUSED_NAMES
    }


def _varying_targets(program: ExportedProgram, fixed: Collection[int]) -> set[OpOverload]:
    """The ops whose result depends on an input of the program."""
    user_inputs = program.graph_signature.user_inputs
    varying = {name for index, name in enumerate(user_inputs) if index not in fixed}
    targets = set()
    for node in program.graph.nodes:
        if not any(argument.name in varying for argument in node.all_input_nodes):
            continue
        varying.add(node.name)
        if isinstance(node.target, OpOverload):
            targets.add(node.target)
    return targets


def _read(program: ExportedProgram) -> Traced:
    signature = program.graph_signature
    tensors: dict[str, Any] = {**program.state_dict, **program.constants}
    user_inputs = [s.arg.name for s in signature.input_specs if s.kind == InputKind.USER_INPUT]
    carried = [s for s in signature.input_specs if s.kind != InputKind.USER_INPUT]
    outputs: list[Any] = []
    written: dict[int, str] = {}
    for output in signature.output_specs:
        if output.kind == OutputKind.USER_OUTPUT:
            is_tensor = isinstance(output.arg, TensorArgument)
            outputs.append(output.arg.name if is_tensor else getattr(output.arg, "value", None))
        elif output.kind == OutputKind.USER_INPUT_MUTATION:
            written[user_inputs.index(str(output.target))] = output.arg.name
        else:
            raise CompilationError(
                f"the model overwrites its own state {output.target!r} in forward; "
                "the machine keeps none between runs"
            )
    return Traced(
        graph=program.graph,
        inputs=tuple(user_inputs),
        constants={spec.arg.name: _carried_tensor(spec, tensors) for spec in carried},
        outputs=tuple(outputs),
        written=written,
    )


def _carried_tensor(spec: InputSpec, tensors: Mapping[str, Any]) -> tuple[str, torch.Tensor]:
    name = spec.target or spec.arg.name
    if not isinstance(tensors.get(name), torch.Tensor):
        raise CompilationError(f"the model needs {name!r}, which is no tensor ({spec.kind.name})")
    return name, tensors[name]
