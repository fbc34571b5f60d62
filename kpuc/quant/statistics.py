"""What the exact network does to the calibration samples: ranges of its values, means of inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kpuc.graph import Graph
from kpuc.quant.assign import Assignment, assign, kernels
from kpuc.quant.network import Network, Sample, exact_storage
from kpuc.quant.observers import Histogram, Observer, merged
from kpuc.quant.ranges import choose_range, uint8_params
from kpuc.quant.sharing import shared_codes, sources
from kpuc.quant.weights import constant_factor
from kpuc.storage import Code


@dataclass(frozen=True)
class Statistics:
    """histograms: of every float activation that a program may store as codes; means: of the first
    factor of every kernel with a weight, over `refining`, the samples that weights and biases are
    corrected on."""

    histograms: Mapping[str, Histogram]
    means: Mapping[str, np.ndarray]
    refining: Sequence[Sample]
    samples: int


@dataclass(frozen=True)
class RangeMethod:
    """How a range is chosen from a histogram: mse, entropy, percentile or minmax."""

    name: str = "mse"
    percentile: float = 99.99


def observe(
    graph: Graph,
    samples: Iterable[Sample],
    refining_count: int,
) -> Statistics:
    """One pass over the samples; the first `refining_count` are kept for the corrections."""
    observers = {value: Observer(graph.names.get(value, value)) for value in coded_values(graph)}
    totals = {value: np.zeros(graph.types[value].shape) for value in weighted_inputs(graph)}
    network = Network(graph, exact_storage(graph))
    kept: list[Sample] = []
    count = 0
    for sample in samples:
        values = network.run(sample, kept=(*observers, *totals))
        for value, observer in observers.items():
            observer.update(values[value])
        if count < refining_count:
            kept.append({name: np.array(array) for name, array in sample.items()})
            for value, total in totals.items():
                total += values[value].numpy()
        count += 1
    means = {value: total / max(1, len(kept)) for value, total in totals.items()}
    histograms = {value: observer.histogram for value, observer in observers.items()}
    return Statistics(histograms, means, kept, count)


def codes_for(
    assignment: Assignment, statistics: Statistics, method: RangeMethod
) -> dict[str, Code]:
    """Scale and zero point of every coded activation; values that share codes share them."""
    found: dict[str, Code] = {}
    graph = assignment.graph
    makers = graph.producers()

    def seen_of(value: str) -> list[Histogram]:
        """Of what the elements were handed on from, where the value itself was not observed: in
        the network that is all of codes it shares their scale."""
        if value in statistics.histograms:
            return [statistics.histograms[value]]
        return [seen for operand in makers[value].inputs for seen in seen_of(operand)]

    for group in shared_codes(graph, assignment.coded):
        own = sources(graph, group, assignment.copies)
        seen = [histogram for value in own for histogram in seen_of(value)]
        low, high = choose_range(merged(seen), method.name, method.percentile)
        found |= dict.fromkeys(group, uint8_params(low, high))
    return found


def coded_values(graph: Graph) -> tuple[str, ...]:
    """Everything that some assignment stores as codes and no op merely hands on."""
    assignment = assign(graph)
    graph = assignment.graph
    groups = shared_codes(graph, assignment.coded)
    return tuple(
        dict.fromkeys(
            value for group in groups for value in sources(graph, group, assignment.copies)
        )
    )


def weighted_inputs(graph: Graph) -> tuple[str, ...]:
    """First factors of the kernels with a weight."""
    weighted = (node for node in kernels(graph) if constant_factor(graph, node) == 1)
    return tuple(dict.fromkeys(node.inputs[0] for node in weighted))
