"""A model as it was trained, run by PyTorch or onnxruntime: what programs are compared with."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from formats.errors import CompilationError, InputError, KPUError, UsageError
from formats.program import KPUProgram, KPUTensor
from kpuc.capture import ExampleInputs
from kpuc.capture_exported import as_exported
from kpuc.example import example_inputs, parse_shapes
from kpuc.failures import MODEL_ERRORS, model_failure, one_line
from kpuc.load import LoadedModel, Model
from kpuc.signature import NamedTensor, bind_inputs, fresh_inputs, name_outputs
from kpuc.torchscript import exported_from_torchscript
from kpurun.feed import host_dtype

Arrays = Mapping[str, np.ndarray]
RECORDED_SHAPES = "input_shapes"  # of a program's options


@dataclass(frozen=True)
class Reference:
    """A model as a function of arrays. runtime: who runs it; inputs: shape by name, in order;
    run: all inputs by name to all outputs by name, in order."""

    name: str
    runtime: str
    inputs: Mapping[str, tuple[int, ...]]
    run: Callable[[Arrays], dict[str, np.ndarray]]


def quiet() -> AbstractContextManager[object]:
    """While the model's own code runs: what it prints is not what was asked for on stdout."""
    return redirect_stdout(sys.stderr)


def torch_reference(
    loaded: LoadedModel, program: KPUProgram, input_shapes: Sequence[str] = ()
) -> tuple[Reference, ExampleInputs]:
    """The loaded model in eval mode, and the example inputs with which to capture it.

    Its inputs have the shapes of `--input-shape`, of the options that the program was compiled
    with, its own, or the program's, whichever is known first. What the model prints goes to stderr.
    """
    example = _example(loaded.module, program, input_shapes)
    try:
        with quiet():
            call, named, arguments, keywords = _prepared(loaded.module, example)
    except CompilationError as error:
        fed = {tensor.name: tensor.shape for tensor in program.get_input_tensors()}
        raise UsageError(
            f"{loaded.name} is not the model of {program.name}: the program takes {_listed(fed)}; "
            f"{str(error).splitlines()[0]}"
        ) from error

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        for slot in named:
            slot.tensor.copy_(torch.from_numpy(np.array(inputs[slot.name], order="C")))
        try:
            with torch.no_grad(), quiet():
                results = call(*arguments, **keywords)
        except MODEL_ERRORS as error:
            raise InputError(f"{loaded.name} fails: {one_line(error)}") from error
        return {
            name: _array(leaf)
            for name, leaf in name_outputs(results)
            if isinstance(leaf, torch.Tensor)
        }

    shapes = {slot.name: tuple(slot.tensor.shape) for slot in named}
    return Reference(loaded.name, "PyTorch", shapes, run), example


def _prepared(
    module: Model, example: ExampleInputs
) -> tuple[Callable[..., Any], list[NamedTensor], tuple[Any, ...], dict[str, Any]]:
    """The function to call, the tensors among its arguments by name, and the arguments."""
    if isinstance(module, torch.jit.ScriptModule):
        exported = exported_from_torchscript(module, *fresh_inputs(example))
        arguments, keywords, named = bind_inputs(exported.module().forward, example)
        return module.eval(), named, arguments, keywords
    if isinstance(module, ExportedProgram):
        call = module.module()
        arguments, keywords, named = bind_inputs(call.forward, example)
        return call, named, *as_exported(module, named, arguments, keywords)
    module.eval()
    arguments, keywords, named = bind_inputs(module.forward, example)
    try:
        with torch.no_grad():  # says what is wrong with the inputs as a compilation would
            module(*arguments, **keywords)
    except MODEL_ERRORS as error:
        raise model_failure(error) from error
    return module, named, arguments, keywords


def _example(module: Model, program: KPUProgram, input_shapes: Sequence[str]) -> ExampleInputs:
    recorded = program.options.get(RECORDED_SHAPES) or ()
    if input_shapes or recorded:
        return parse_shapes(input_shapes or recorded)
    try:
        own = example_inputs(module)
    except UsageError:  # the model says nothing
        return zeros_of(program)
    return own if _has_shapes_of(program, own) else zeros_of(program)


def zeros_of(program: KPUProgram) -> tuple[torch.Tensor, ...]:
    """Inputs of the program in its order, in the model's own dtypes."""
    return tuple(_zeros(tensor) for tensor in program.get_input_tensors())


def _zeros(tensor: KPUTensor) -> torch.Tensor:
    if tensor.host_dtype == "bfloat16":
        return torch.zeros(tensor.shape, dtype=torch.bfloat16)
    return torch.from_numpy(np.zeros(tensor.shape, host_dtype(tensor)))


def _has_shapes_of(program: KPUProgram, example: ExampleInputs) -> bool:
    arguments, keywords = fresh_inputs(example)
    leaves = torch.utils._pytree.tree_leaves((arguments, keywords))
    shapes = [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return shapes == [tensor.shape for tensor in program.get_input_tensors()]


def _array(value: torch.Tensor) -> np.ndarray:
    """In memory of its own: the next run may overwrite what the model returns."""
    plain = value.float() if value.dtype is torch.bfloat16 else value
    return np.array(plain.detach().cpu().numpy())


def require_alike(program: KPUProgram, reference: Reference) -> dict[str, str]:
    """Output of the program -> the reference's that it is compared with: the one of its name, or,
    where the names are others, the one at its place.

    UsageError, saying what does not fit, for a model that the program is not one of.
    """
    fed = {tensor.name: tensor.shape for tensor in program.get_input_tensors()}
    if fed != dict(reference.inputs):
        raise _unlike(program, reference, "takes", fed, reference.inputs)
    zeros = {t.name: np.zeros(t.shape, host_dtype(t)) for t in program.get_input_tensors()}
    try:
        found = reference.run(zeros)
    except KPUError as error:
        raise UsageError(
            f"{reference.name} is not the model of {program.name}: of zeros in its shapes "
            f"({_listed(fed)}) {str(error).splitlines()[0]}"
        ) from error
    wanted = {tensor.name: tensor.shape for tensor in program.get_output_tensors()}
    given = {name: array.shape for name, array in found.items()}
    others = wanted if wanted.keys() == given.keys() else given
    if [*wanted.values()] != [given[name] for name in others]:
        raise _unlike(program, reference, "gives", wanted, given)
    return dict(zip(wanted, others, strict=True))


def _unlike(
    program: KPUProgram,
    reference: Reference,
    verb: str,
    own: Mapping[str, tuple[int, ...]],
    other: Mapping[str, tuple[int, ...]],
) -> UsageError:
    return UsageError(
        f"{reference.name} is not the model of {program.name}: the program {verb} {_listed(own)}, "
        f"the reference {_listed(other)}"
    )


def _listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    texts = (f"{name} ({','.join(map(str, shape))})" for name, shape in shapes.items())
    return ", ".join(texts) or "nothing"
