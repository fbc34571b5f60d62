"""How a pass makes a new graph of an old one: what is read how often, names for new values."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from kpuc.graph import Graph, Node
from kpurun.ops.checks import type_of
from kpurun.ops.types import TensorType


def rename(nodes: Iterable[Node], names: Mapping[str, str]) -> tuple[Node, ...]:
    """Nodes that read `names[v]` where they read v."""
    return tuple(
        replace(node, inputs=tuple(names.get(value, value) for value in node.inputs))
        for node in nodes
    )


def read_counts(graph: Graph) -> Counter[str]:
    """Value -> how many operands it is; being an output of the program counts as one more."""
    counts = Counter(value for node in graph.nodes for value in node.inputs)
    counts.update(graph.outputs)
    return counts


def scalar_of(graph: Graph, value: str) -> float | None:
    """The one element of a float constant, whatever its rank; None for anything else."""
    array = graph.constants.get(value)
    if array is None or array.size != 1 or array.dtype != np.float32:
        return None
    return float(array.reshape(()))


@dataclass
class Additions:
    """Constants that a pass adds to a graph, each under a name that is still free."""

    graph: Graph
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def constant(self, wanted: str, array: np.ndarray, readable: str = "") -> str:
        """The id of a new constant: `wanted`, with a number behind it where that is taken."""
        value, number = wanted, 0
        while value in self.graph.types or value in self.types:
            number += 1
            value = f"{wanted}.{number}"
        stored = np.array(array, order="C")
        stored.setflags(write=False)
        self.types[value] = type_of(stored)
        self.constants[value] = stored
        self.names[value] = readable or value
        return value

    def array(self, value: str) -> np.ndarray | None:
        """The array of an old or a new constant; None for what is no constant."""
        return self.constants.get(value, self.graph.constants.get(value))

    def type(self, value: str) -> TensorType:
        """Type of an old value or a new constant."""
        return self.types[value] if value in self.types else self.graph.types[value]

    def applied(self, nodes: Iterable[Node]) -> Graph:
        """The graph with these nodes instead of its own, and what was added."""
        return replace(
            self.graph,
            nodes=tuple(nodes),
            types={**self.graph.types, **self.types},
            constants={**self.graph.constants, **self.constants},
            names={**self.graph.names, **self.names},
        )
