"""What calibration sees of a tensor: a histogram that grows in one pass and forgets no extreme.

Bins are as wide as a power of two and lie on a grid through zero, so growing merges neighbours and
every count stays exact; the extremes alone fix the grid, whatever the order of the samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from formats.errors import CompilationError

BINS = 2048
CHUNK = 1 << 16  # values at a time: they stay in the cache
SMALLEST_EXPONENT = -100  # of a bin's width, so that float32 divides by it


@dataclass(frozen=True)
class Histogram:
    """How often values of a tensor fell into each bin.

    low, high: smallest and largest value, exactly. counts: int64 [BINS]; bin i holds the values of
    [edges[i], edges[i + 1]). zeros: how many of all were exactly zero.
    """

    low: float
    high: float
    counts: np.ndarray
    zeros: int

    @property
    def total(self) -> int:
        """How many values."""
        return int(self.counts.sum())

    @property
    def edges(self) -> np.ndarray:
        """float64 [BINS + 1], zero among them."""
        exponent, first = grid(self.low, self.high)
        return np.ldexp(np.arange(first, first + BINS + 1, dtype=np.float64), exponent)

    @property
    def zero_bin(self) -> int:
        """The bin that begins at zero."""
        return -grid(self.low, self.high)[1]


class Observer:
    """Grows the histogram of one tensor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._seen: Histogram | None = None

    @property
    def histogram(self) -> Histogram:
        """Of all values so far; there must have been one."""
        if self._seen is None:
            raise CompilationError(f"tensor {self.name!r}: calibration saw no values of it")
        return self._seen

    def update(self, values: torch.Tensor | np.ndarray) -> None:
        """Count the values of one sample, of any shape. CompilationError if one is not finite."""
        flat = torch.as_tensor(values).detach().to("cpu", torch.float32).reshape(-1).numpy()
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CompilationError(
                f"tensor {self.name!r}: NaN or infinite on a calibration sample, "
                "computed in float32 by the model itself"
            )
        low, high = low + 0.0, high + 0.0  # never -0.0: what is saved is compared by its bytes
        if self._seen is None:
            self._seen = Histogram(low, high, np.zeros(BINS, np.int64), 0)
        grown = _grown(self._seen, low, high)
        counts, zeros = _counted(flat, *grid(grown.low, grown.high))
        self._seen = replace(grown, counts=grown.counts + counts, zeros=grown.zeros + zeros)


def grid(low: float, high: float) -> tuple[int, int]:
    """Exponent of the bins' width and index of the first bin, for values of [low, high] and zero.

    Bin i of the grid holds [i · 2^exponent, (i + 1) · 2^exponent). The width is the smallest for
    which BINS bins suffice.
    """
    below, above = min(low, 0.0), max(high, 0.0)
    span = above - below
    exponent = max(math.frexp(span)[1] - 11 if span else SMALLEST_EXPONENT, SMALLEST_EXPONENT)
    while _bin(above, exponent) - _bin(below, exponent) >= BINS:
        exponent += 1
    return exponent, _bin(below, exponent)


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """One histogram of the values of several tensors, such as those that share a scale."""
    low = min(histogram.low for histogram in histograms)
    high = max(histogram.high for histogram in histograms)
    grown = [_grown(histogram, low, high) for histogram in histograms]
    counts = np.stack([histogram.counts for histogram in grown]).sum(axis=0)
    return Histogram(low, high, counts, sum(histogram.zeros for histogram in grown))


def _bin(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _grown(histogram: Histogram, low: float, high: float) -> Histogram:
    """The same counts on the grid of a range that includes [low, high] too."""
    low, high = min(low, histogram.low), max(high, histogram.high)
    exponent, first = grid(histogram.low, histogram.high)
    grown_exponent, grown_first = grid(low, high)
    doublings = grown_exponent - exponent
    bins = ((np.arange(BINS) + first) >> min(doublings, 62)) - grown_first
    held = histogram.counts > 0
    counts = np.zeros(BINS, np.int64)
    np.add.at(counts, bins[held], histogram.counts[held])
    return Histogram(low, high, counts, histogram.zeros)


def _counted(flat: np.ndarray, exponent: int, first: int) -> tuple[np.ndarray, int]:
    """int64 [BINS] and the zeros: division by a power of two is exact, so is every value's bin.

    In numpy: torch's threads would wait for one another at every step of every part.
    """
    counts = np.zeros(BINS, np.int64)
    nonzeros = 0
    scaled = np.empty(min(CHUNK, flat.size), np.float32)
    bins = np.empty(scaled.shape, np.intp)
    for start in range(0, flat.size, CHUNK):
        chunk = flat[start : start + CHUNK]
        part, places = scaled[: chunk.size], bins[: chunk.size]
        np.multiply(chunk, np.float32(2.0**-exponent), out=part)
        np.floor(part, out=part)
        np.subtract(part, np.float32(first), out=places, casting="unsafe")
        counts += np.bincount(places, minlength=BINS)
        nonzeros += int(np.count_nonzero(chunk))
    return counts, flat.size - nonzeros
