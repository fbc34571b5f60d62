"""How far a quantised network is from the exact one, on samples that calibration has not seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kpuc.graph import Graph
from kpuc.quant.network import Network, Sample

MOST_DB = 200.0  # of signals that are equal

Outputs = Mapping[str, np.ndarray]


@dataclass
class Difference:
    """Sums over samples of one output: signal and noise power, and the worst sample's largest
    difference as a share of its largest value."""

    signal: float = 0.0
    noise: float = 0.0
    worst: float = 0.0

    def add(self, exact: np.ndarray, other: np.ndarray) -> None:
        """One sample of the output, exact and as computed: infinitely far if that overflowed."""
        wide = exact.astype(np.float64)
        difference = np.abs(other.astype(np.float64) - wide)
        difference[np.isnan(difference)] = np.inf
        self.signal += float(np.square(wide).sum())
        self.noise += float(np.square(difference).sum())
        largest = float(np.abs(wide).max(initial=0.0))
        worst = float(difference.max(initial=0.0))
        self.worst = max(self.worst, worst / largest if largest else float(worst > 0))

    @property
    def sqnr_db(self) -> float:
        """10·log10(signal / noise), at most MOST_DB."""
        if not self.noise:
            return MOST_DB
        if not self.signal or math.isinf(self.noise):
            return -MOST_DB
        return float(min(MOST_DB, 10 * np.log10(self.signal / self.noise)))


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
