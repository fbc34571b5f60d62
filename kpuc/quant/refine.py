"""Weights and biases of a quantised network, corrected one node after another on real samples.

Each node sees the inputs that the machine will give it, made by the nodes before it as they were
corrected. So an error is made up for once, where it arises, and not by every node behind it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from formats.quantized import spread_scales
from kpuc.graph import Graph, Node
from kpuc.passes.edit import Additions
from kpuc.quant.network import Network, Sample, Values, exact_storage, last_reads
from kpuc.quant.rounding import MOST_PRODUCTS, POSITIONS, columns_of, rounded
from kpuc.quant.weights import constant_factor, rows_of, scale_axis
from kpuc.storage import Storage
from kpurun.ops import OPS, op_named
from kpurun.ops.opdef import Int8Rule, complete


@dataclass(frozen=True)
class Refinements:
    """Which corrections are made; equalisation: of channels, before calibration."""

    equalisation: bool = True
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
    `samples` of the first factor of every kernel in the exact network. Rounding runs that network
    beside the coded one; the biases alone need no more than the means.
    """
    if not (wanted.rounding or wanted.bias):
        return graph
    coded, truth = Network(graph, storage), Network(exact, exact_storage(exact))
    values = [coded.enter(sample) for sample in samples]
    true_values = [truth.enter(sample) for sample in samples] if wanted.rounding else []
    rng = np.random.default_rng(0)
    needed = _leading_to_kernels(graph)
    for node, true_node, done in zip(graph.nodes, exact.nodes, last_reads(graph), strict=True):
        if node.id not in needed:
            continue
        if wanted.rounding and _has_codes(coded, node) and _can_be_rounded(coded, node):
            weight = _rounded_weight(coded, truth, node, values, true_values, rng)
            coded = _with_constant(coded, node.inputs[1], weight)
        if wanted.bias and _has_bias(coded.graph, node) and node.inputs[0] in means:
            bias = _corrected_bias(coded, exact, node, means[node.inputs[0]], values)
            coded = _with_constant(coded, node.inputs[2], bias)
        _run_node(coded, node, values, done)
        _run_node(truth, true_node, true_values, done)
    return coded.graph


def _run_node(network: Network, node: Node, values: Sequence[Values], done: Sequence[str]) -> None:
    """On every sample; values in `done` are not needed after it."""
    for each in values:
        network.run_node(node, each)
        for value in done:
            each.pop(value, None)


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


def _has_codes(network: Network, node: Node) -> bool:
    """Whether the node multiplies by codes that have a scale for each channel or group."""
    if not _has_weight(network.graph, node):
        return False
    params = network.storage.params.get(node.inputs[1])
    return params is not None and params.scales is not None


def _can_be_rounded(network: Network, node: Node) -> bool:
    """To second order; a longer sum would take more time and memory than it is worth."""
    weight = network.graph.constants[node.inputs[1]]
    axis = network.storage.params[node.inputs[1]].scale_axis
    return bool(rows_of(weight, axis).array.shape[1] <= MOST_PRODUCTS)


def _has_bias(graph: Graph, node: Node) -> bool:
    return _has_weight(graph, node) and node.operand_count == 3


def _with_constant(network: Network, name: str, value: np.ndarray) -> Network:
    constants = {**network.graph.constants, name: value}
    return replace(network, graph=replace(network.graph, constants=constants))


def _corrected_bias(
    network: Network, exact: Graph, node: Node, mean: np.ndarray, values: Sequence[Values]
) -> np.ndarray:
    """The bias with which the node's mean result is that of the exact network."""
    x, weight, bias = node.operands
    wanted = _mean_result(exact, node, mean, exact.constants[weight])
    mean_input = _mean_input(network, x, values)
    given = _mean_result(exact, node, mean_input, network.graph.constants[weight])
    return np.asarray(network.graph.constants[bias] + (wanted - given), np.float32)


def _mean_input(network: Network, value: str, values: Sequence[Values]) -> np.ndarray:
    """Mean over all samples of an activation's real numbers, in float64."""
    total = np.zeros(network.graph.types[value].shape)
    for each in values:
        total += network.real(value, each[value])
    total /= len(values)
    return total


def _rounded_weight(
    network: Network,
    truth: Network,
    node: Node,
    values: Sequence[Values],
    true_values: Sequence[Values],
    rng: np.random.Generator,
) -> np.ndarray:
    """Weights on their grid with which the node makes of its inputs what it should have made of the
    exact network's."""
    weight = node.inputs[1]
    params, dtype = network.storage.params[weight], network.storage.dtypes[weight]
    assert params.scales is not None, "asked only for weights with scales"
    array = truth.graph.constants[weight]
    scales = network.graph.constants[params.scales]
    spread = spread_scales(scales, array.shape, params.scale_axis, params.group_size)
    rows = rows_of(array, params.scale_axis)
    steps = rows_of(np.broadcast_to(spread, array.shape), params.scale_axis).array
    groups = node.attributes.get("group", 1) if node.op_type == "Conv" else 1
    split = (groups, -1, rows.array.shape[1])
    drawn = int(rng.integers(1 << 32))  # the same positions of both
    found = rounded(
        torch.tensor(rows.array.reshape(split)),
        torch.tensor(steps.reshape(split)),
        _columns(network, node, values, drawn),
        _columns(truth, node, true_values, drawn),
        dtype,
    )
    return rows.restored(found.numpy().reshape(rows.array.shape))


def _columns(network: Network, node: Node, values: Sequence[Values], seed: int) -> Tensor:
    """Real inputs of a kernel over all samples, [groups, products, positions]."""
    x, rng = node.inputs[0], np.random.default_rng(seed)
    limit = -(-POSITIONS // len(values))
    reals = (network.real(x, each[x]) for each in values)
    found = [columns_of(network.graph, node, array, limit, rng) for array in reals]
    return torch.from_numpy(np.concatenate(found, axis=2))


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
