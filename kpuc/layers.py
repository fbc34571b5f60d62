"""A program's values op by op, beside those of the same graph in fp32: where precision is lost.

The fp32 graph is the reference's own, taken through the compiler's passes, so that it has the ops
and values of the program and the weights as they were trained. Where that is not to be had (ONNX,
or another capture) it is the program's graph with the weights as they are stored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from formats.errors import KPUError
from formats.program import KPUProgram
from formats.quantized import is_coded, reals
from kpuc.capture import ExampleInputs, capture
from kpuc.compiler import optimise
from kpuc.graph import Graph, Node
from kpuc.load import Model
from kpuc.lower import lower
from kpuc.quant.equalize import along_makers, tied_values, with_group_factors
from kpuc.quant.network import Network, Sample, exact_storage
from kpuc.quant.refine import with_own_constants
from kpuc.retile import graph_of, storage_of
from kpurun.engine.storage import weight_values
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule

EQUALISATION = "equalisation"  # of a program's gains


@dataclass(frozen=True)
class Layers:
    """stored: the program's ops one at a time; exact: in fp32; values: op id -> its first float
    result, of the ops that both have; why_own: why `exact` has the program's weights, if it has."""

    stored: Network
    exact: Network
    values: Mapping[str, str]
    why_own: str

    def run(self, sample: Sample) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(op id, in fp32, as the program has it) in the program's order; inputs by tensor id."""
        wanted = self.values.values()
        exact = self.exact.run(sample, kept=wanted)
        stored = self.stored.run(sample, kept=wanted)
        for op_id, value in self.values.items():
            yield op_id, exact[value].numpy(), self.stored.real(value, stored[value])


def layers(program: KPUProgram, model: Model | None, example: ExampleInputs | None) -> Layers:
    """model: the reference and the inputs to capture it with; None where it cannot be captured."""
    own = _with_constants(graph_of(program), program)
    stored = Network(own, storage_of(program))
    trained, why = None, "the reference is not a PyTorch model"
    if model is not None and example is not None:
        trained, why = _trained(program, own, model, example)
    graph = without_scales(own) if trained is None else trained
    return Layers(stored, Network(graph, exact_storage(graph)), _common(own, graph), why)


def _trained(
    program: KPUProgram, own: Graph, model: Model, example: ExampleInputs
) -> tuple[Graph | None, str]:
    """The reference's graph with the program's values, or why there is none."""
    try:
        lowered = lower(capture(model, example))
        graph = with_own_constants(optimise(lowered, program.target_config))
    except KPUError as error:
        return None, f"the reference does not compile: {str(error).splitlines()[0]}"
    if not _has_kernels_of(own, graph):
        return None, "the reference, compiled as it is here, has other ops"
    found = program.quantization
    if found is None or EQUALISATION not in found.gains_db:
        return graph, ""
    return _equalised_as(own, graph), ""


def _has_kernels_of(own: Graph, trained: Graph) -> bool:
    """Whether all that multiplies, and every input and output, is in both, of the same shapes."""
    interface = (*own.inputs, *own.outputs)
    return all(value in trained.types for value in interface) and _kernels(own) == _kernels(trained)


def _kernels(graph: Graph) -> dict[str, tuple[object, ...]]:
    """Id of what multiplies -> its type, and the shapes of its factors and its result."""
    return {
        node.id: (
            node.op_type,
            *(tuple(graph.types[value].shape) for value in (*node.inputs[:2], *node.outputs)),
        )
        for node in graph.nodes
        if op_named(node.op_type).int8 is Int8Rule.KERNEL
    }


def _common(own: Graph, other: Graph) -> dict[str, str]:
    """Op id -> its first result, a float that an op of the same kind makes in both graphs."""
    makers = other.producers()
    return {
        node.id: value
        for node in own.nodes
        if (value := node.outputs[0]) in makers
        and own.types[value].is_float
        and makers[value].op_type == node.op_type
        and tuple(own.types[value].shape) == tuple(other.types[value].shape)
    }


def _equalised_as(own: Graph, graph: Graph) -> Graph:
    """The graph with the channels of the program: calibration divided them by powers of two, which
    the weights of whatever makes them still show."""
    makers = {node.id: node for node in own.nodes}
    for group in tied_values(graph):
        first = group.makers[0]
        factors = _factors(own, makers[first.id], graph, first)
        graph = with_group_factors(graph, group, factors)
    return graph


def _factors(own: Graph, stored: Node, graph: Graph, node: Node) -> np.ndarray:
    """Power of two by channel that makes the trained weights those that are stored."""
    trained = along_makers(graph, node)
    share = (trained * along_makers(own, stored)).sum(axis=1)
    energy = np.square(trained).sum(axis=1)
    has_any = (share > 0) & (energy > 0)
    ratios = np.where(has_any, share, 1) / np.where(has_any, energy, 1)
    return np.asarray(np.exp2(-np.rint(np.log2(ratios))), np.float32)


def _with_constants(graph: Graph, program: KPUProgram) -> Graph:
    """The graph with the real numbers that the program's weights stand for."""
    stored = weight_values(program)
    constants = {}
    for value, array in stored.items():
        tensor = program.tensors[value]
        scales = None if tensor.scales is None else stored[tensor.scales]
        constants[value] = reals(array, tensor, scales) if is_coded(tensor) else array
    return replace(graph, constants=constants)


def without_scales(graph: Graph) -> Graph:
    """The graph whose kernels read real numbers: no scales beside their operands."""
    return replace(graph, nodes=tuple(map(_without_scales, graph.nodes)))


def _without_scales(node: Node) -> Node:
    last = len(node.operands) + sum(stage.operand is not None for stage in node.epilogue)
    return replace(node, inputs=node.inputs[:last])
