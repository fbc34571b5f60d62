"""How far numbers are from those they should be: the formulas of docs/numerics.md, each once."""

import math
from dataclasses import dataclass

import numpy as np

MOST_DB = 200.0  # of signals that are equal


@dataclass
class Difference:
    """Sums over samples of one output: signal and noise power, the worst sample's largest
    difference as a share of its largest value, and the largest difference of all."""

    signal: float = 0.0
    noise: float = 0.0
    worst: float = 0.0
    largest: float = 0.0

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
        self.largest = max(self.largest, worst)

    def include(self, other: "Difference") -> None:
        """What was added to another."""
        self.signal += other.signal
        self.noise += other.noise
        self.worst = max(self.worst, other.worst)
        self.largest = max(self.largest, other.largest)

    @property
    def noise_share(self) -> float:
        """Noise over signal power; infinite where there is nothing but noise, or it overflowed."""
        if not self.noise:
            return 0.0
        is_lost = not self.signal or math.isinf(self.noise)
        return math.inf if is_lost else self.noise / self.signal

    @property
    def sqnr_db(self) -> float:
        """10·log10(signal / noise), at most MOST_DB."""
        return decibels(self.signal, self.noise)


def decibels(signal: float, noise: float) -> float:
    """SQNR of two powers, at most MOST_DB."""
    if not noise:
        return MOST_DB
    if not signal or math.isinf(noise):
        return -MOST_DB
    return float(min(MOST_DB, 10 * np.log10(signal / noise)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over axis 1."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@dataclass
class Classification:
    """Of logits [rows, classes]: in how many rows both have the largest at the same place, and the
    largest difference of their softmax."""

    rows: int = 0
    agreeing: int = 0
    max_abs_softmax: float = 0.0

    def add(self, exact: np.ndarray, other: np.ndarray) -> None:
        """More rows."""
        wide, given = exact.astype(np.float64), other.astype(np.float64)
        self.rows += len(wide)
        self.agreeing += int((wide.argmax(1) == given.argmax(1)).sum())
        apart = np.abs(softmax(wide) - softmax(given)).max(initial=0.0)
        self.max_abs_softmax = max(self.max_abs_softmax, float(apart))

    @property
    def top1_agreement(self) -> float:
        """Share of the rows."""
        return self.agreeing / self.rows if self.rows else 1.0
