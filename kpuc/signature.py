"""Names for what goes in and comes out: arguments as `forward` calls them, outputs by place."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from formats.errors import LimitError, UsageError


@dataclass(frozen=True)
class NamedTensor:
    """A tensor leaf of the arguments or results and its unique, readable name."""

    name: str
    tensor: torch.Tensor


def fresh_inputs(
    example_inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(arguments, keywords) with copies of the tensors; a tuple or list of whole numbers stands for
    a float32 tensor of that shape.
    """
    if isinstance(example_inputs, Mapping):
        return (), {name: _fresh(value) for name, value in example_inputs.items()}
    if isinstance(example_inputs, (torch.Tensor, np.ndarray)) or _is_shape(example_inputs):
        return (_fresh(example_inputs),), {}
    return tuple(_fresh(value) for value in example_inputs), {}


def bind_inputs(
    forward: Callable[..., Any], example_inputs: Sequence[Any] | Mapping[str, Any] | torch.Tensor
) -> tuple[tuple[Any, ...], dict[str, Any], list[NamedTensor]]:
    """(arguments, keywords, every tensor among them by name) for a call of `forward`."""
    arguments, keywords = fresh_inputs(example_inputs)
    try:
        bound = inspect.signature(forward).bind(*arguments, **keywords)
    except TypeError as error:
        raise UsageError(f"the model's forward does not take these inputs: {error}") from None
    parts = [((name,), value) for name, value in bound.arguments.items()]
    leaves = [leaf for name, value in parts for leaf in _leaves(value, name)]
    named = [(path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor)]
    names = unique_names([_joined(path) for path, _ in named])
    tensors = [NamedTensor(n, leaf) for n, (_, leaf) in zip(names, named, strict=True)]
    return arguments, keywords, tensors


def name_outputs(results: Any) -> list[tuple[str, Any]]:
    """Every leaf of the results, depth first, with a unique name.

    A lone tensor is "output", a sequence "output_0", "output_1"…, a dict goes by its keys.
    """
    leaves = _leaves(results, ())
    names = unique_names([_output_name(path) for path, _ in leaves])
    return [(name, leaf) for name, (_, leaf) in zip(names, leaves, strict=True)]


def unique_names(wanted: Sequence[str]) -> list[str]:
    """Each name once: a repeated one gets the first free number behind it."""
    taken: set[str] = set()
    names = []
    for name in wanted:
        candidate, number = name, 1
        while candidate in taken or (number > 1 and candidate in wanted):
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        names.append(candidate)
    return names


def _output_name(path: tuple[str, ...]) -> str:
    if not path or path[0].isdigit():
        path = ("output", *path)
    return _joined(path)


def _joined(path: tuple[str, ...]) -> str:
    return re.sub(r"\W+", "_", "_".join(path)).strip("_") or "value"


def _leaves(value: Any, prefix: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """(path, leaf) of a nested structure."""
    flat, _ = pytree.tree_flatten_with_path(value)
    return [((*prefix, *(_key_text(key) for key in path)), leaf) for path, leaf in flat]


def _key_text(key: Any) -> str:
    for attribute in ("idx", "key", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) > 0
        and all(isinstance(size, int) and not isinstance(size, bool) for size in value)
    )


def _zeros(shape: tuple[int, ...]) -> torch.Tensor:
    try:
        return torch.zeros(shape)
    except (RuntimeError, TypeError):  # no memory; a size or a number of bytes beyond 64 bits
        raise LimitError(f"input shape {shape} is too large for this computer's memory") from None


def _fresh(value: Any) -> Any:
    """A copy that shares nothing with the caller's: Dynamo would specialise on shared memory."""
    if _is_shape(value):
        if min(value) < 1:
            raise UsageError(f"input shape {tuple(value)} must be positive sizes")
        return _zeros(tuple(value))
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, (tuple, list, dict)):
        return pytree.tree_map(_fresh, value, is_leaf=_is_shape) if value else value
    return value
