"""Histograms and means as arrays of a file, and back: what no observer can have seen is refused."""

from collections.abc import Mapping, Sequence

import numpy as np

from formats.errors import FileError
from kpuc.graph import Graph
from kpuc.quant.observers import BINS, Histogram, grid
from kpuc.quant.statistics import coded_values, weighted_inputs

MOST_VALUES = 2**53  # of one tensor, so that no sum overflows
LARGEST = float(np.finfo(np.float32).max)

Arrays = dict[str, np.ndarray]  # of a file, by name; whoever reads one takes it out


def taken(
    arrays: Arrays, name: str, shape: tuple[int, ...], *dtypes: type[np.generic]
) -> np.ndarray:
    """The array, no longer among `arrays`; FileError if it is not there or of another kind."""
    array = arrays.pop(name, None)
    if array is None:
        raise FileError(f"{name} is missing")
    if array.dtype not in dtypes or array.shape != tuple(shape):
        kinds = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise FileError(f"{name} is not {kinds} of shape {tuple(shape)}")
    return array


def packed_histograms(histograms: Mapping[str, Histogram]) -> Arrays:
    """Rows in order of the names."""
    ordered = [histograms[name] for name in sorted(histograms)]
    counts = [histogram.counts for histogram in ordered]
    extremes = [(histogram.low, histogram.high) for histogram in ordered]
    return {
        "counts": np.array(counts, np.int64).reshape(-1, BINS),
        "extremes": np.array(extremes, np.float64).reshape(-1, 2),
        "zeros": np.array([histogram.zeros for histogram in ordered], np.int64),
    }


def taken_histograms(arrays: Arrays, graph: Graph, names: Sequence[str]) -> dict[str, Histogram]:
    """By value; FileError unless they are those of the graph, and consistent."""
    if list(names) != sorted(coded_values(graph)):
        raise FileError("its tensors are not those that are observed of this model")
    count = len(names)
    counts = taken(arrays, "counts", (count, BINS), np.int64)
    extremes = taken(arrays, "extremes", (count, 2), np.float64).tolist()
    zeros = taken(arrays, "zeros", (count,), np.int64).tolist()
    return {
        name: _histogram(name, low, high, row, nothing)
        for name, (low, high), row, nothing in zip(names, extremes, counts, zeros, strict=True)
    }


def packed_means(means: Mapping[str, np.ndarray]) -> Arrays:
    """One array for each."""
    return {f"mean/{value}": mean for value, mean in means.items()}


def taken_means(arrays: Arrays, graph: Graph) -> dict[str, np.ndarray]:
    """By value, of every first factor of a kernel with a weight."""
    means = {}
    for value in weighted_inputs(graph):
        name = f"mean/{value}"
        means[value] = taken(arrays, name, graph.types[value].shape, np.float64)
        if not (np.abs(means[value]) <= LARGEST).all():  # false for NaN too
            raise FileError(f"{name}: NaN, infinite or too large")
    return means


def _histogram(name: str, low: float, high: float, counts: np.ndarray, zeros: int) -> Histogram:
    """With every relation between its parts that `Observer` keeps."""
    if not -LARGEST <= low <= high <= LARGEST:  # false for NaN too
        raise FileError(f"tensor {name!r}: its extremes are not finite or not in order")
    if counts.min() < 0 or counts.max() > MOST_VALUES or counts.sum(dtype=np.float64) > MOST_VALUES:
        raise FileError(f"tensor {name!r}: counts below zero or too large")
    histogram = Histogram(low, high, counts, zeros)
    exponent, first = grid(low, high)
    held = np.flatnonzero(counts)
    ends = [int(np.floor(np.ldexp(end, -exponent))) - first for end in (low, high)]
    if not len(held) or [held[0], held[-1]] != ends:
        raise FileError(f"tensor {name!r}: counts where its extremes allow none, or none at them")
    if not 0 <= zeros <= counts[histogram.zero_bin]:
        raise FileError(f"tensor {name!r}: more zeros than values around zero")
    return histogram
