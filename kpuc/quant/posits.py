"""Posit programs from samples: the unit of each tensor in which posits are nearest to its values.

Posits are densest around one. A power of two that every value is divided by moves a tensor there
and rounds nothing itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from formats.codec import round_to
from formats.precision import DType, KPUPrecision
from formats.program import Quantization
from kpuc.graph import Graph
from kpuc.precision import POSIT_OCTAVES, float_storage
from kpuc.quant.measure import differences, op_differences, outputs_of
from kpuc.quant.network import Network, Sample, exact_storage
from kpuc.quant.observers import Histogram, Observer, merged
from kpuc.quant.sharing import shared_codes, sources
from kpuc.storage import QuantParams, Storage

# Within a bin, where values are tried: on no grid that posits are on too (multiples of the golden
# ratio, less what is whole).
PLACES = np.arange(1, 9) * 0.6180339887 % 1


def posit_storage(
    graph: Graph, precision: KPUPrecision, calibration: Iterable[Sample], held_out: Sequence[Sample]
) -> tuple[Storage, Quantization]:
    """How a program of posits is stored, and what that does to its outputs on `held_out`."""
    storage = float_storage(graph, precision)
    narrow = DType(precision.value)
    rounded = frozenset(
        value
        for value, dtype in storage.dtypes.items()
        if dtype is narrow and value not in graph.constants
    )
    groups = {group: sources(graph, group, {}) for group in shared_codes(graph, rounded)}
    exact = Network(graph, exact_storage(graph))
    histograms, count = _observed(exact, [v for own in groups.values() for v in own], calibration)
    params = dict(storage.params)
    for group, own in groups.items():
        scale = nearest_scale(merged([histograms[value] for value in own]), narrow)
        params |= dict.fromkeys(group, QuantParams(scale=scale))
    storage = replace(storage, params=params)
    return storage, _report(graph, exact, storage, count, held_out)


def nearest_scale(histogram: Histogram, dtype: DType) -> float:
    """The power of two in units of which posits are nearest to the values, by squared error."""
    largest = max(-histogram.low, histogram.high)
    if not largest:
        return 1.0
    counts = histogram.counts.copy()
    counts[histogram.zero_bin] -= histogram.zeros
    edges = np.clip(histogram.edges, histogram.low, histogram.high)
    values = (edges[:-1] + PLACES[:, None] * np.diff(edges)).astype(np.float32)
    top = int(np.frexp(np.float32(largest))[1])
    candidates = [float(np.ldexp(1.0, top - below)) for below in range(POSIT_OCTAVES)]
    errors = [
        np.square(round_to(values / np.float32(scale), dtype) * scale - values).sum(axis=0) @ counts
        for scale in candidates
    ]
    return candidates[int(np.argmin(errors))]


def _observed(
    exact: Network, values: Sequence[str], samples: Iterable[Sample]
) -> tuple[dict[str, Histogram], int]:
    """What the exact network makes of these values, and of how many samples."""
    observers = {value: Observer(exact.graph.names.get(value, value)) for value in values}
    count = 0
    for sample in samples:
        found = exact.run(sample, kept=observers)
        for value, observer in observers.items():
            observer.update(found[value])
        count += 1
    return {value: observer.histogram for value, observer in observers.items()}, count


def _report(
    graph: Graph, exact: Network, storage: Storage, samples: int, held_out: Sequence[Sample]
) -> Quantization:
    rounded = Network(graph, storage)
    found = differences(outputs_of(exact, held_out), outputs_of(rounded, held_out))
    per_op = op_differences(exact, rounded, held_out)
    return Quantization(
        method="mse",
        samples=samples,
        held_out=len(held_out),
        sqnr_db={graph.names.get(v, v): each.sqnr_db for v, each in found.items()},
        max_difference={graph.names.get(v, v): each.worst for v, each in found.items()},
        op_sqnr_db={node_id: each.sqnr_db for node_id, each in per_op.items()},
    )
