"""A captured program as data: what `lower` reads, whichever way it was captured."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class InputSlot:
    """A user's input: its name in `forward` and the placeholder that carries it in the graph.

    An input that the model does not use has a placeholder of its own, which no node reads.
    """

    name: str
    placeholder: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class OutputSlot:
    """An output of the model and the node or placeholder of the graph that carries it."""

    name: str
    value: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Captured:
    """A functional ATen graph and what its placeholders and results are to the user.

    constants: placeholder -> (name in the model, tensor). inputs and outputs are in the model's own
    order, nested ones flattened depth first.
    """

    name: str
    graph: torch.fx.Graph
    inputs: tuple[InputSlot, ...]
    constants: Mapping[str, tuple[str, torch.Tensor]]
    outputs: tuple[OutputSlot, ...]
