"""Capture of a program of torch.export."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from formats.errors import shape_mismatch
from kpuc.captured import Captured, InputSlot, OutputSlot
from kpuc.failures import no_tensor
from kpuc.signature import NamedTensor, bind_inputs, name_outputs
from kpuc.trace import functional_aten


def capture_exported(program: ExportedProgram, example_inputs: Any) -> Captured:
    """An exported program is ATen already: it is only fixed to the shapes of the example."""
    module = program.module()
    arguments, keywords, named = bind_inputs(module.forward, example_inputs)
    arguments, keywords = as_exported(program, named, arguments, keywords)
    _check_shapes(program, [slot.tensor for slot in named])
    traced = functional_aten(module, arguments, keywords)
    leaves = pytree.tree_leaves((arguments, keywords))
    position = {id(leaf): index for index, leaf in enumerate(leaves)}
    inputs = tuple(
        InputSlot(
            slot.name,
            traced.inputs[position[id(slot.tensor)]],
            tuple(slot.tensor.shape),
            slot.tensor.dtype,
        )
        for slot in named
    )
    dtypes = {node.name: node.meta["val"].dtype for node in traced.graph.nodes if _is_tensor(node)}
    structure = pytree.tree_unflatten(list(traced.outputs), program.call_spec.out_spec)
    results = [(name, leaf) for name, leaf in name_outputs(structure) if leaf is not None]
    for name, leaf in results:
        if leaf not in dtypes:
            raise no_tensor(name, leaf)
    outputs = tuple(OutputSlot(name, leaf, dtypes[leaf]) for name, leaf in results)
    return Captured(_class_name(program), traced.graph, inputs, traced.constants, outputs)


def as_exported(
    program: ExportedProgram,
    named: Sequence[NamedTensor],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs given by name, those of them by position that were when the program was exported."""
    if not keywords or program.call_spec.in_spec is None:
        return arguments, keywords
    by_keyword = program.call_spec.in_spec.child(1).context
    positional = [slot.tensor for slot in named if slot.name not in by_keyword]
    return tuple(positional), {name: keywords[name] for name in by_keyword}


def _class_name(program: ExportedProgram) -> str:
    """The class of the module that was exported, which every node remembers."""
    for node in program.graph.nodes:
        for _, kind in (node.meta.get("nn_module_stack") or {}).values():
            return str(getattr(kind, "__name__", kind)).rpartition(".")[2]
    return "program"


def _is_tensor(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _check_shapes(program: ExportedProgram, tensors: Sequence[torch.Tensor]) -> None:
    """The fixed sizes that the program was exported with must be those of the example."""
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs
    expected = [placeholders[name].meta["val"] for name in names if name in placeholders]
    shapes = [value.shape for value in expected if isinstance(value, torch.Tensor)]
    for shape, tensor in zip(shapes, tensors, strict=True):
        fits = len(shape) == tensor.dim() and all(
            size == given
            for size, given in zip(shape, tensor.shape, strict=True)
            if isinstance(size, int)
        )
        if not fits:
            raise shape_mismatch(shape, tuple(tensor.shape))
