"""Joins what was traced with what the user passed and gets: names, order, constants, outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from formats.errors import CompilationError
from kpuc.captured import Captured, InputSlot, OutputSlot
from kpuc.failures import no_tensor
from kpuc.signature import NamedTensor, name_outputs
from kpuc.source import clean_path
from kpuc.trace import Traced


@dataclass
class Recording:
    """What Dynamo handed to a backend: the graph, its arguments, where they live in the user's
    program, and stand-ins for its results.
    """

    module: torch.fx.GraphModule
    arguments: list[Any]
    sources: list[str]
    results: list[Any]


def assemble(
    name: str,
    recording: Recording,
    traced: Traced,
    named: Sequence[NamedTensor],
    own_tensors: Mapping[int, str],
    results: Any,
) -> Captured:
    """named: the user's inputs; own_tensors: id of a tensor the module holds -> its path there;
    results: what the compiled module returned, with the stand-ins in their places.
    """
    position = {id(tensor): index for index, tensor in enumerate(recording.arguments)}
    inputs = tuple(
        InputSlot(
            given.name,
            traced.inputs[position[id(given.tensor)]]
            if id(given.tensor) in position
            else f"unused {given.name}",
            tuple(given.tensor.shape),
            given.tensor.dtype,
        )
        for given in named
    )
    makers = {
        id(stand_in): node for stand_in, node in zip(recording.results, traced.outputs, strict=True)
    }
    return Captured(
        name=name,
        graph=traced.graph,
        inputs=inputs,
        constants=constants_of(
            recording, traced, {id(given.tensor) for given in named}, own_tensors
        ),
        outputs=_outputs(results, makers),
    )


def constants_of(
    recording: Recording, traced: Traced, inputs: set[int], own_tensors: Mapping[int, str]
) -> dict[str, tuple[str, torch.Tensor]]:
    """Placeholder -> (name, tensor) of every argument that is not among the ids in `inputs`."""
    constants = dict(traced.constants)
    for index, tensor in enumerate(recording.arguments):
        if id(tensor) in inputs:
            continue
        path = own_tensors.get(id(tensor)) or clean_path(recording.sources[index])
        if not isinstance(tensor, torch.Tensor):
            raise CompilationError(
                f"the model reads {path!r}, a {type(tensor).__name__}, when it runs; "
                "a program's constants are tensors"
            )
        if index in traced.written:
            raise CompilationError(
                f"the model overwrites its own state {path!r} in forward; "
                "the machine keeps none between runs"
            )
        constants[traced.inputs[index]] = (path, tensor)
    return constants


def _outputs(results: Any, makers: Mapping[int, str]) -> tuple[OutputSlot, ...]:
    """None among the results is left out: a program returns tensors."""
    outputs = []
    for name, leaf in name_outputs(results):
        if leaf is None:
            continue
        if not isinstance(leaf, torch.Tensor):
            raise no_tensor(name, leaf)
        outputs.append(OutputSlot(name, makers[id(leaf)], leaf.dtype))
    if not outputs:
        raise CompilationError("the model returns no tensor")
    return tuple(outputs)
