"""The compiler's graph: immutable, valid between passes, with ONNX op names.

A pass is `Graph -> Graph`. Decisions (precision, order, tiles, addresses) are kept apart from the
graph, as mappings, until `emit` joins them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from formats.program import EpilogueStage
from kpurun.ops.types import TensorType


@dataclass(frozen=True)
class Node:
    """One op. `inputs` are its own operands (the first `operand_count`), then its epilogue's.

    attributes: as the op's record names them; name: module path in the model; source: "file:line:
    code" of the user; fused: names of the source operations folded into this node.
    """

    id: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    epilogue: tuple[EpilogueStage, ...] = ()
    operand_count: int = -1  # -1: all inputs are the op's own
    name: str = ""
    source: str = ""
    fused: tuple[str, ...] = ()

    @property
    def operands(self) -> tuple[str, ...]:
        """The op's own operands, without those of the epilogue."""
        return self.inputs if self.operand_count < 0 else self.inputs[: self.operand_count]


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order. `types` covers every value; constants are float32, int or bool.

    `host_dtypes` gives the numpy dtype name a user feeds or gets for each input and output
    ("float32", "float64", "int64" …); names gives inputs, outputs and constants readable names.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    host_dtypes: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def producers(self) -> dict[str, Node]:
        """Value -> the node that makes it."""
        return {value: node for node in self.nodes for value in node.outputs}

    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """Value -> the nodes that read it (each once), in graph order."""
        readers: dict[str, tuple[Node, ...]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                readers[value] = (*readers.get(value, ()), node)
        return readers


def graph_hash(graph: Graph) -> str:
    """SHA-256 of what a graph computes, in hexadecimal: its ops, its constants, its interface; not
    where its source lies or what things are called for people."""
    ops = [
        (
            node.op_type,
            node.inputs,
            node.outputs,
            len(node.operands),
            sorted(node.attributes.items()),
            node.epilogue,
        )
        for node in graph.nodes
    ]
    interface = [(value, graph.types[value]) for value in (*graph.inputs, *graph.outputs)]
    digest = hashlib.sha256(repr((interface, ops)).encode())
    for name in sorted(graph.constants):
        digest.update(repr((name, graph.types[name])).encode())
        digest.update(graph.constants[name].tobytes())
    return digest.hexdigest()
