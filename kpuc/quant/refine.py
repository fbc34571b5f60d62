"""Weights and biases of a quantised network, corrected one node after another on real samples.

Each node sees the inputs that the machine will give it, made by the nodes before it as they were
corrected. So an error is made up for once, where it arises, and not by every node behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from formats.quantized import spread_scales
from kpuc.graph import Graph, Node
from kpuc.passes.edit import Additions
from kpuc.quant.network import Network, Sample, Values, last_reads
from kpuc.quant.rounding import POSITIONS, columns_of, covariance, rounded
from kpuc.quant.weights import constant_factor, rows_of, scale_axis
from kpuc.storage import Storage
from kpurun.ops import OPS, op_named
from kpurun.ops.opdef import Int8Rule, complete


@dataclass(frozen=True)
class Refinements:
    """Which corrections are made."""

    rounding: bool = True
    bias: bool = True


def refined(
    graph: Graph,
    storage: Storage,
    exact: Graph,
    means: Mapping[str, np.ndarray],
    samples: Sequence[Sample],
    wanted: Refinements,
) -> Graph:
    """The graph with corrected constants; of the same nodes and values.

    exact: the graph with its weights as they were trained (the same nodes); means: mean over
    `samples` of the first factor of every kernel in the exact network.
    """
    if not (wanted.rounding or wanted.bias):
        return graph
    network = Network(graph, storage)
    values = [network.enter(sample) for sample in samples]
    rng = np.random.default_rng(0)
    needed = _leading_to_kernels(graph)
    for node, done in zip(graph.nodes, last_reads(graph), strict=True):
        if node.id not in needed:
            continue
        if _has_weight(graph, node):
            graph = _corrected(graph, storage, exact, node, means, values, wanted, rng)
            network = replace(network, graph=graph)
        for each in values:
            network.run_node(node, each)
            for value in done:
                each.pop(value, None)
    return graph


def _leading_to_kernels(graph: Graph) -> frozenset[str]:
    """Ids of kernels with weights and of every node that one of them depends on."""
    needed: set[str] = set()
    read: set[str] = set()
    for node in reversed(graph.nodes):
        if _has_weight(graph, node) or not read.isdisjoint(node.outputs):
            needed.add(node.id)
            read.update(node.inputs)
    return frozenset(needed)


def _has_weight(graph: Graph, node: Node) -> bool:
    is_kernel = op_named(node.op_type).int8 is Int8Rule.KERNEL
    return is_kernel and constant_factor(graph, node) == 1


def _corrected(
    graph: Graph,
    storage: Storage,
    exact: Graph,
    node: Node,
    means: Mapping[str, np.ndarray],
    values: Sequence[Values],
    wanted: Refinements,
    rng: np.random.Generator,
) -> Graph:
    """The graph after the node's weight and bias are corrected."""
    network = Network(graph, storage)
    x = node.inputs[0]
    weight = node.inputs[1]
    constants = dict(graph.constants)
    params = storage.params.get(weight)
    if wanted.rounding and params is not None and params.scales is not None:
        constants[weight] = _rounded_weight(network, exact, node, values, rng)
    mean = means.get(x)
    if wanted.bias and mean is not None and node.operand_count == 3:
        drift = _mean_result(exact, node, mean, exact.constants[weight]) - _mean_result(
            exact, node, _mean_input(network, x, values), constants[weight]
        )
        bias = node.inputs[2]
        constants[bias] = np.asarray(constants[bias] + drift, np.float32)
    return replace(graph, constants=constants)


def _mean_input(network: Network, value: str, values: Sequence[Values]) -> np.ndarray:
    """Mean over all samples of an activation's real numbers, in float64."""
    total = np.zeros(network.graph.types[value].shape)
    for each in values:
        total += network.real(value, each[value])
    total /= len(values)
    return total


def _rounded_weight(
    network: Network, exact: Graph, node: Node, values: Sequence[Values], rng: np.random.Generator
) -> np.ndarray:
    weight = node.inputs[1]
    params, dtype = network.storage.params[weight], network.storage.dtypes[weight]
    assert params.scales is not None, "asked only for weights with scales"
    array = exact.constants[weight]
    scales = network.graph.constants[params.scales]
    spread = spread_scales(scales, array.shape, params.scale_axis, params.group_size)
    rows = rows_of(array, params.scale_axis)
    steps = rows_of(np.broadcast_to(spread, array.shape), params.scale_axis).array
    groups = node.attributes.get("group", 1) if node.op_type == "Conv" else 1
    split = (groups, -1, rows.array.shape[1])
    found = rounded(
        torch.tensor(rows.array.reshape(split)),
        torch.from_numpy(steps.reshape(split)),
        covariance(torch.from_numpy(_columns(network, node, values, rng))),
        dtype,
    )
    return rows.restored(found.numpy().reshape(rows.array.shape))


def _columns(
    network: Network, node: Node, values: Sequence[Values], rng: np.random.Generator
) -> np.ndarray:
    """Real inputs of a kernel over all samples, [groups, products, positions]."""
    x, graph = node.inputs[0], network.graph
    limit = -(-POSITIONS // len(values))
    found = [columns_of(graph, node, network.real(x, each[x]), limit, rng) for each in values]
    return np.concatenate(found, axis=2)


def _mean_result(graph: Graph, node: Node, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean over everything but the channels of a kernel's result without bias, which is linear:
    of the mean input it is the mean result. float64 [channels]."""
    attributes = complete(OPS[node.op_type], node.attributes)
    operands = (x.astype(np.float64), weight.astype(np.float64))
    (result,) = OPS[node.op_type].compute(attributes, *operands)
    channel = 1 if node.op_type == "Conv" else result.ndim - 1
    return np.asarray(result.mean(axis=tuple(a for a in range(result.ndim) if a != channel)))


def with_own_constants(graph: Graph) -> Graph:
    """The graph in which every Conv and Gemm with a constant weight has a weight and a bias of its
    own, so that each can be corrected for itself."""
    added = Additions(graph)
    taken: set[str] = set()
    nodes = [_with_own(graph, node, added, taken) for node in graph.nodes]
    return replace(
        graph,
        nodes=tuple(nodes),
        types={**graph.types, **added.types},
        constants={**graph.constants, **added.constants},
        names={**graph.names, **added.names},
    )


def _with_own(graph: Graph, node: Node, added: Additions, taken: set[str]) -> Node:
    if node.op_type not in ("Conv", "Gemm") or constant_factor(graph, node) != 1:
        return node
    own = list(node.operands)
    weight = graph.constants[own[1]]
    own[1:] = [_unshared(graph, value, added, taken) for value in own[1:]]
    if len(own) == 3:
        return replace(node, inputs=(*own, *node.inputs[3:]))
    channels = weight.shape[scale_axis(node, weight.ndim) or 0]
    bias = added.constant(f"{node.id}.bias", np.zeros(channels, np.float32))
    taken.add(bias)
    stages = tuple(
        stage if stage.operand is None else replace(stage, operand=stage.operand + 1)
        for stage in node.epilogue
    )
    inputs = (*own, bias, *node.inputs[2:])
    return replace(node, inputs=inputs, operand_count=3, epilogue=stages)


def _unshared(graph: Graph, value: str, added: Additions, taken: set[str]) -> str:
    """The constant itself for its first reader, a copy for every other; no constant as it is."""
    if value not in graph.constants:
        return value
    if value not in taken:
        taken.add(value)
        return value
    return added.constant(f"{value}.own", graph.constants[value], graph.names.get(value, value))
