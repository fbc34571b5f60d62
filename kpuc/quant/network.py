"""A graph executed node by node on the engine that will execute the program, before there is one.

What is calibrated and corrected here is therefore what the machine computes, code for code.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from formats import tensors
from formats.precision import DType, KPUPrecision
from formats.program import KPUOp, KPUProgram, KPUTensor
from kpuc.graph import Graph, Node
from kpuc.storage import QuantParams, Storage
from kpurun.engine.arithmetic import ieee_fp32
from kpurun.engine.onednn.trials import are_integer_kernels_exact
from kpurun.engine.plan import make_plan
from kpurun.engine.storage import keep, weight_values

Sample = Mapping[str, np.ndarray]
Values = dict[str, Tensor]
Kernel = Callable[[Values], Values]


def exact_storage(graph: Graph) -> Storage:
    """Every float in fp32: the network that was trained."""
    dtypes = {
        value: DType.FP32 if type_.is_float else type_.dtype for value, type_ in graph.types.items()
    }
    return Storage(KPUPrecision.FP16, dtypes)


@dataclass
class Network:
    """Kernels of a graph's nodes, prepared when they are first needed.

    known: kernels of earlier networks by what they depend on, so that networks which differ in a
    few nodes prepare those alone.
    """

    graph: Graph
    storage: Storage
    known: dict[object, tuple[Kernel, object]] = field(default_factory=dict)

    def enter(self, sample: Sample) -> Values:
        """The inputs as the network stores them."""
        return {value: self._entered(value, sample[value]) for value in self.graph.inputs}

    def run_node(self, node: Node, values: Values) -> None:
        """Adds the node's results to `values`."""
        values.update(self.kernel(node)(values))

    def run(self, sample: Sample, kept: Iterable[str] = ()) -> Values:
        """Outputs and the values in `kept`; the others are freed after their last reader."""
        wanted = {*self.graph.outputs, *kept}
        values = self.enter(sample)
        for node, done in zip(self.graph.nodes, last_reads(self.graph, wanted), strict=True):
            self.run_node(node, values)
            for value in done:
                del values[value]
        return values

    def real(self, value: str, stored: Tensor) -> np.ndarray:
        """float32 numbers of what is stored of an activation."""
        params = self.storage.params.get(value)
        plain: np.ndarray = stored.numpy()
        if params is None or params.scale is None or plain.dtype != np.uint8:
            return plain
        return (plain.astype(np.float32) - params.zero_point) * np.float32(params.scale)

    def kernel(self, node: Node) -> Kernel:
        """The node on the engine: values it reads to values it makes."""
        key = self.key(node)
        if key not in self.known:
            arrays = [self.graph.constants.get(value) for value in node.inputs]
            # With the arrays, so that none is freed and its id given to another.
            self.known[key] = _prepared(self.graph, self.storage, node), arrays
        return self.known[key][0]

    def run_from(self, sample: Sample, exact: "Network", values: Mapping[str, Tensor]) -> Values:
        """Outputs, where `values` are all those of another network on the same sample: only what
        differs from that network is computed."""
        known = {node.id: exact.key(node) for node in exact.graph.nodes}
        found: Values = dict(values)
        entered = self.enter(sample)
        changed = {v for v in self.graph.inputs if not torch.equal(entered[v], found[v])}
        found.update(entered)
        for node in self.graph.nodes:
            if changed.isdisjoint(node.inputs) and known.get(node.id) == self.key(node):
                continue
            self.run_node(node, found)
            changed.update(node.outputs)
        return {value: found[value] for value in self.graph.outputs}

    def key(self, node: Node) -> object:
        """What the node's kernel depends on."""
        touched = (*node.inputs, *node.outputs)
        stored = tuple((self.storage.dtypes[v], self.storage.params.get(v)) for v in touched)
        constants = tuple(id(self.graph.constants.get(value)) for value in node.inputs)
        return node.id, touched, len(node.operands), stored, constants

    def _entered(self, value: str, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(keep(array, _tensor(self.graph, self.storage, value))))


def last_reads(graph: Graph, kept: Iterable[str] = ()) -> list[tuple[str, ...]]:
    """Per node, the activations that are not needed after it."""
    wanted = set(kept)
    last: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        for value in (*node.inputs, *node.outputs):
            if value not in graph.constants and value not in wanted:
                last[value] = position
    done: list[list[str]] = [[] for _ in graph.nodes]
    for value, position in last.items():
        done[position].append(value)
    return [tuple(values) for values in done]


def _prepared(graph: Graph, storage: Storage, node: Node) -> Kernel:
    """The kernel of a program of this one op."""
    program = _one_op(graph, storage, node)
    with ieee_fp32():
        plan = make_plan(program, weight_values(program), are_integer_kernels_exact())
    (step,) = plan.steps
    held = {
        value: plan.initial[slot]
        for value, slot in zip(node.inputs, step.reads, strict=True)
        if value in graph.constants
    }

    def kernel(values: Values) -> Values:
        operands = [held[value] if value in held else values[value] for value in node.inputs]
        with ieee_fp32():
            results, _ = step.run(operands)
        return dict(zip(node.outputs, results, strict=True))

    return kernel


def _one_op(graph: Graph, storage: Storage, node: Node) -> KPUProgram:
    values = dict.fromkeys((*node.inputs, *node.outputs))
    constants = {v: storage.encoded(graph, v) for v in values if v in graph.constants}
    op = KPUOp(
        id=node.id,
        op_type=node.op_type,
        input_ids=node.inputs,
        output_ids=node.outputs,
        attributes=dict(node.attributes),
        epilogue=node.epilogue,
        operand_count=len(node.operands),
    )
    return KPUProgram(
        name=node.id,
        ops=(op,),
        tensors={value: _tensor(graph, storage, value) for value in values},
        output_ids=node.outputs,
        weights_blob=tensors.pack(constants, storage.dtypes) if constants else None,
    )


def _tensor(graph: Graph, storage: Storage, value: str) -> KPUTensor:
    params = storage.params.get(value, QuantParams())
    return KPUTensor(
        id=value,
        name=value,
        shape=tuple(graph.types[value].shape),
        dtype=storage.dtypes[value],
        is_weight=value in graph.constants,
        scale=params.scale,
        zero_point=None if params.scale is None else params.zero_point,
        scales=params.scales,
        scale_axis=params.scale_axis,
        group_size=params.group_size,
    )
