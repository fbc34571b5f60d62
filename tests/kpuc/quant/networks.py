"""A small residual network as a graph, and samples of its input."""

from dataclasses import replace

import numpy as np

from formats.program import EpilogueStage
from kpuc.graph import Graph
from tests.kpuc.passes.draft import Draft


def residual_network() -> Graph:
    """Two convolutions around a shortcut, a max-pool, a mean and a linear layer."""
    draft = Draft()
    stem = draft.conv("stem", draft.input("x", 1, 3, 12, 12), 8)
    pool = draft.op("pool", "MaxPool", stem, kernel_shape=(2, 2), strides=(2, 2))
    first = draft.conv("first", pool, 8)
    second = draft.conv("second", first, 8)
    mean = draft.op("mean", "GlobalAveragePool", second)
    flat = draft.op("flat", "Flatten", mean)
    weight = draft.weights("head.weight", 5, 8)
    head = draft.op("head", "Gemm", flat, weight, draft.weights("head.bias", 5), transB=1)
    graph = draft.graph(head)
    return replace(graph, nodes=tuple(_fused(graph)))


def _fused(graph):
    """A Relu behind every convolution, and the shortcut on the last."""
    relu = EpilogueStage("Relu")
    for node in graph.nodes:
        if node.id == "second":
            stages = (EpilogueStage("Add", operand=3), relu)
            node = replace(node, inputs=(*node.inputs, "pool"), operand_count=3, epilogue=stages)
        elif node.op_type == "Conv":
            node = replace(node, operand_count=3, epilogue=(relu,))
        yield node


def samples_of(graph: Graph, count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Smooth noise: neighbouring pixels are alike, as in photos."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        sample = {}
        for value in graph.inputs:
            noise = random.normal(size=graph.types[value].shape)
            sample[value] = (noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3)).astype(np.float32)
        found.append(sample)
    return found
