"""Small graphs for tests of passes, written op by op, and what it means that two are the same."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from formats.precision import DType
from kpuc.check import check
from kpuc.graph import Graph, Node
from kpurun.ops import op_named
from kpurun.ops.checks import NUMPY_DTYPES, type_of
from kpurun.ops.opdef import infer_types
from kpurun.ops.types import TensorType
from tests.kpuc.interpret import interpret


@dataclass
class Draft:
    """A graph in the making. Constants come from a fixed seed; an op is named as its result."""

    inputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def input(self, name: str, *shape: int, dtype: DType = DType.FP32) -> str:
        self.inputs.append(name)
        self.types[name] = TensorType(shape, dtype)
        return name

    def constant(self, name: str, array: Any) -> str:
        stored = np.asarray(array)
        self.constants[name] = stored.astype(np.float32) if stored.dtype == np.float64 else stored
        self.types[name] = type_of(self.constants[name])
        return name

    def weights(self, name: str, *shape: int) -> str:
        return self.constant(name, self.random.normal(size=shape) / np.sqrt(np.prod(shape[1:])))

    def op(self, name: str, op_type: str, *operands: str, **attributes: Any) -> str:
        """A node with one result."""
        return self.parts(name, op_type, *operands, **attributes)[0]

    def parts(self, name: str, op_type: str, *operands: str, **attributes: Any) -> tuple[str, ...]:
        """A node with all its results: name, name.1, …"""
        types = infer_types(op_named(op_type), attributes, tuple(self.types[v] for v in operands))
        outputs = tuple(name if index == 0 else f"{name}.{index}" for index in range(len(types)))
        self.types.update(zip(outputs, types, strict=True))
        self.nodes.append(
            Node(
                name, op_type, operands, outputs, attributes, name=f"model.{name}", source="m.py:1"
            )
        )
        return outputs

    def conv(self, name: str, x: str, filters: int, kernel: int = 3, **attributes: Any) -> str:
        """A convolution with a bias that keeps the size."""
        group = attributes.get("group", 1)
        weight = self.weights(
            f"{name}.weight", filters, self.types[x].shape[1] // group, kernel, kernel
        )
        bias = self.weights(f"{name}.bias", filters)
        given = {"pads": (kernel // 2,) * 4, **attributes}
        return self.op(name, "Conv", x, weight, bias, **given)

    def batch_norm(self, name: str, x: str, **attributes: Any) -> str:
        channels = self.types[x].shape[1]
        draw = self.random.uniform
        parameters = (
            self.constant(f"{name}.weight", draw(0.5, 2, channels)),
            self.constant(f"{name}.bias", draw(-1, 1, channels)),
            self.constant(f"{name}.mean", draw(-1, 1, channels)),
            self.constant(f"{name}.variance", draw(0.2, 3, channels)),
        )
        return self.op(name, "BatchNormalization", x, *parameters, **attributes)

    def graph(self, *outputs: str) -> Graph:
        """The graph, checked."""
        interface = (*self.inputs, *outputs)
        graph = Graph(
            name="draft",
            inputs=tuple(self.inputs),
            outputs=outputs,
            nodes=tuple(self.nodes),
            types=dict(self.types),
            constants=dict(self.constants),
            host_dtypes={v: NUMPY_DTYPES[self.types[v].dtype].name for v in interface},
            names={value: value for value in (*interface, *self.constants)},
        )
        check(graph)
        return graph


def node_of(graph: Graph, node_id: str) -> Node:
    """The node with this id."""
    (node,) = (node for node in graph.nodes if node.id == node_id)
    return node


def op_types(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def stage_types(node: Node) -> list[str]:
    return [stage.op_type for stage in node.epilogue]


def assert_same_meaning(before: Graph, after: Graph, tolerance: float = 2e-5) -> None:
    """`after` is well formed, has the same interface and gives the same outputs.

    tolerance: of the largest output, for fusions that change the order of roundings.
    """
    check(after)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    assert after.host_dtypes == before.host_dtypes
    for value in (*before.inputs, *before.outputs):
        assert after.types[value] == before.types[value]
        assert after.names[value] == before.names[value]
    inputs = random_inputs(before)
    for expected, got in zip(interpret(before, inputs), interpret(after, inputs), strict=True):
        assert got.dtype == expected.dtype
        scale = float(np.abs(expected).max(initial=0)) if expected.dtype == np.float32 else 0.0
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale)


def random_inputs(graph: Graph, seed: int = 3) -> Sequence[np.ndarray]:
    random = np.random.default_rng(seed)
    arrays = []
    for value in graph.inputs:
        type_ = graph.types[value]
        drawn = random.normal(size=type_.shape) * (1 if type_.is_float else 5)
        arrays.append(np.asarray(drawn).astype(NUMPY_DTYPES[type_.dtype]))
    return arrays
