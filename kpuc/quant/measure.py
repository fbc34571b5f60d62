"""How far a quantised network is from the exact one, on samples that calibration has not seen."""

from collections.abc import Mapping, Sequence

import numpy as np

from kpuc.graph import Graph
from kpuc.quant.difference import Difference
from kpuc.quant.network import Network, Sample

Outputs = Mapping[str, np.ndarray]


def float_outputs(graph: Graph) -> tuple[str, ...]:
    """Outputs that quantisation can change."""
    return tuple(dict.fromkeys(value for value in graph.outputs if graph.types[value].is_float))


def outputs_of(network: Network, samples: Sequence[Sample]) -> Sequence[Outputs]:
    """Float outputs of every sample."""
    wanted = float_outputs(network.graph)
    found = []
    for sample in samples:
        values = network.run(sample)
        found.append({value: np.array(network.real(value, values[value])) for value in wanted})
    return found


def differences(exact: Sequence[Outputs], other: Sequence[Outputs]) -> dict[str, Difference]:
    """Output -> its difference over all samples."""
    found: dict[str, Difference] = {}
    for baseline, outputs in zip(exact, other, strict=True):
        for value, array in baseline.items():
            found.setdefault(value, Difference()).add(array, outputs[value])
    return found


def op_differences(
    exact: Network, other: Network, samples: Sequence[Sample]
) -> dict[str, Difference]:
    """Node id -> difference of its first float result, of nodes that both networks have."""
    made = {
        node.id: node.outputs[0]
        for node in other.graph.nodes
        if node.outputs[0] in exact.graph.types and other.graph.types[node.outputs[0]].is_float
    }
    found: dict[str, Difference] = {node_id: Difference() for node_id in made}
    for sample in samples:
        baseline = exact.run(sample, kept=made.values())
        values = other.run(sample, kept=made.values())
        for node_id, value in made.items():
            found[node_id].add(baseline[value].numpy(), other.real(value, values[value]))
    return found
