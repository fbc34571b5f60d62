"""Which kernels to keep in FP16 so that a bar on accuracy holds at the fewest cycles.

Each kernel's noise is measured alone: it runs on codes while everything else is exact. Kernels are
then ranked by noise per cycle that its integers save. How many of the ranking are needed is found
on networks that are built and measured whole: from few to many, because the worst sample does not
get steadily better along the ranking. Then those that cost most are tried without.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from formats.errors import CheckError
from formats.precision import DType
from kpuc.graph import Graph
from kpuc.precision import is_representable
from kpuc.quant.assign import assign, kernels
from kpuc.quant.coding import with_codes
from kpuc.quant.difference import Difference
from kpuc.quant.measure import float_outputs
from kpuc.quant.network import Network, Sample, exact_storage
from kpuc.quant.quantize import Quantizer, Trial
from kpuc.quant.statistics import codes_for

RANKING_SAMPLES = 8
REMOVALS = 8  # kernels of those kept in FP16 that are tried as integers again


@dataclass(frozen=True)
class Bar:
    """max |d| / max |baseline| of the worst sample, and SQNR, that every output must keep to."""

    max_difference: float | None = None
    min_sqnr_db: float | None = None

    def holds(self, trial: Trial) -> bool:
        """Whether a network keeps to the bar."""
        near = self.max_difference is None or trial.worst <= self.max_difference
        return near and (self.min_sqnr_db is None or trial.sqnr_db >= self.min_sqnr_db)


def cheapest(
    quantizer: Quantizer,
    bar: Bar,
    saved_cycles: Mapping[str, int],
    always: frozenset[str] = frozenset(),
) -> Trial:
    """The network of fewest cycles found that keeps to the bar.

    saved_cycles: kernel's id -> cycles that its integers save; always: kernels that stay in FP16
    in any case. CheckError says how near all-FP16 gets where that is not enough.
    """
    settled = always | _beyond_fp16(quantizer.graph)
    ranking = [node_id for node_id in ranked(quantizer, saved_cycles) if node_id not in settled]

    def trial(count: int) -> Trial:
        return quantizer.trial(always.union(ranking[:count]))

    low, high = trial(0), trial(len(ranking))
    if bar.holds(low):
        return low
    if not bar.holds(high):
        raise CheckError(_out_of_reach(bar, high))
    least, most, best = 0, len(ranking), high
    while most - least > 1:
        # twice as many as were too few, until that is nearer to what is enough
        middle = min(max(1, 2 * least), (least + most) // 2)
        found = trial(middle)
        least, most, best = (least, middle, found) if bar.holds(found) else (middle, most, best)
    return _without_needless(quantizer, bar, best, saved_cycles, always)


def _beyond_fp16(graph: Graph) -> frozenset[str]:
    """Kernels with a weight that only codes can hold."""
    return frozenset(
        node.id
        for node in kernels(graph)
        for value in node.inputs[:2]
        if value in graph.constants and not is_representable(graph.constants[value], DType.FP16)
    )


def ranked(quantizer: Quantizer, saved_cycles: Mapping[str, int]) -> list[str]:
    """Kernels by noise per cycle saved, the worst first."""
    noise = sensitivities(quantizer, quantizer.held_out[:RANKING_SAMPLES])
    return sorted(noise, key=lambda each: -noise[each] / max(1, saved_cycles.get(each, 1)))


def sensitivities(quantizer: Quantizer, samples: Sequence[Sample]) -> dict[str, float]:
    """Kernel's id -> noise power at the outputs when it alone runs on codes, as a share of the
    signal, summed over samples and outputs."""
    every = [node.id for node in kernels(quantizer.graph)]
    exact = quantizer.exact
    alone = {node_id: _alone(quantizer, node_id, every) for node_id in every}
    noise = dict.fromkeys(every, 0.0)
    for sample in samples:
        values = exact.run(sample, kept=quantizer.graph.types)
        for node_id, network in alone.items():
            outputs = network.run_from(sample, exact, values)
            noise[node_id] += sum(
                _noise(values[value].numpy(), outputs[value].numpy())
                for value in float_outputs(quantizer.graph)
            )
    return noise


def _alone(quantizer: Quantizer, node_id: str, every: Sequence[str]) -> Network:
    """The network in which one kernel runs on codes and all else is exact."""
    assignment = assign(quantizer.graph, [each for each in every if each != node_id])
    codes = codes_for(assignment, quantizer.statistics, quantizer.options.method)
    # Not the corrected weights: those make up for errors that are not there.
    graph, storage = with_codes(assignment, codes, quantizer.nearest, quantizer.precision)
    dtypes = dict(exact_storage(graph).dtypes)
    dtypes |= {value: storage.dtypes[value] for value in storage.params}
    return Network(graph, replace(storage, dtypes=dtypes), quantizer.known)


def _noise(exact: np.ndarray, other: np.ndarray) -> float:
    found = Difference()
    found.add(exact, other)
    return found.noise / found.signal if found.signal else 0.0


def _without_needless(
    quantizer: Quantizer,
    bar: Bar,
    best: Trial,
    saved_cycles: Mapping[str, int],
    always: frozenset[str],
) -> Trial:
    """The bar does not fall steadily along the ranking, so some kernels in it may not be needed."""
    costly = sorted(best.floats - always, key=lambda each: -saved_cycles.get(each, 0))
    for node_id in costly[:REMOVALS]:
        found = quantizer.trial(best.floats - {node_id})
        if bar.holds(found):
            best = found
    return best


def _out_of_reach(bar: Bar, nearest: Trial) -> str:
    wanted = []
    if bar.max_difference is not None:
        wanted.append(f"max difference {bar.max_difference:g} (reached: {nearest.worst:.3g})")
    if bar.min_sqnr_db is not None:
        wanted.append(f"SQNR {bar.min_sqnr_db:g} dB (reached: {nearest.sqnr_db:.1f} dB)")
    bars = " and ".join(wanted)
    return f"not even with every kernel in FP16 that it can hold does the program keep to {bars}"
