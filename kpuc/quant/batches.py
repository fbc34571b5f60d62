"""Samples in the model's batch: what was given whole stays whole, and every sample counts as often
as any other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import gcd
from typing import Protocol

import numpy as np

from formats.errors import UsageError


class Store(Protocol):
    """Single samples by index, without the batch axis."""

    def __len__(self) -> int: ...

    def sample(self, index: int) -> dict[str, np.ndarray]:
        """By input name; InputError or FileError names the sample that does not fit."""
        ...

    def label(self, index: int) -> str:
        """What a person calls the sample."""
        ...

    @property
    def given(self) -> Sequence[range]:
        """Indices in order: those of one full input of the model together, others alone."""
        ...


@dataclass(frozen=True)
class Samples:
    """Inputs of the model by name, float32 (or int64, bool) of its shapes; iterable repeatedly.

    `count` is the number of different samples in it, `len` that of batches. Single samples are
    stacked when the model's batch is larger than one; those that fill no batch are left out. Where
    there is no full batch at all, samples repeat, each as often as any other.
    """

    store: Store
    given: Sequence[range]
    batch: int  # 0: the inputs have no batch axis in common

    @property
    def count(self) -> int:
        return len({index for group in self._groups for index in group})

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return map(self.stacked, self._groups)

    def stacked(self, group: Sequence[int]) -> dict[str, np.ndarray]:
        """One batch."""
        rows = [self.store.sample(index) for index in group]
        if not self.batch:
            return rows[0]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def first(self, count: int) -> "Samples":
        """So many, or a few more: none that was given whole is torn."""
        ends = accumulate(map(len, self.given), initial=0)
        kept = [group for group, before in zip(self.given, ends, strict=False) if before < count]
        return Samples(self.store, kept, self.batch)

    def labelled(self) -> "Labelled":
        """Every sample once."""
        batch = max(1, self.batch)
        singles = [group[0] for group in self.given if len(group) < batch]
        starts = range(0, len(singles), batch)
        whole = [group for group in self.given if len(group) == batch]
        return Labelled(self, [*whole, *(singles[start : start + batch] for start in starts)])

    @cached_property
    def _groups(self) -> Sequence[Sequence[int]]:
        """The samples of each batch."""
        if self.batch <= 1:
            return self.given
        whole = [group for group in self.given if len(group) == self.batch]
        singles = [group[0] for group in self.given if len(group) == 1]
        filled = singles[: _filling(len(singles), self.batch)]
        if len(filled) < self.batch:
            filled = [] if whole else filled * (self.batch // gcd(len(filled), self.batch))
        starts = range(0, len(filled), self.batch)
        return [*whole, *(filled[start : start + self.batch] for start in starts)]

    def split(self, held_out: int) -> tuple["Samples", "Samples"]:
        """(for calibration, held out), the latter `held_out` samples spread evenly over all, or a
        few more: none that was given whole is torn, and where two batches can be filled a batch of
        single samples is full."""
        count, rows = len(self.given), sum(map(len, self.given))
        aside = -(-held_out * count // rows)
        full = -(-aside // max(1, self.batch)) * self.batch
        if count == rows and full + self.batch <= count:
            aside = max(aside, full)
        if not 0 <= aside < count:
            raise UsageError(_too_few_to_split(held_out, count, rows))
        places = {place * count // aside for place in range(aside)}
        kept = [group for place, group in enumerate(self.given) if place not in places]
        taken = [group for place, group in enumerate(self.given) if place in places]
        return Samples(self.store, kept, self.batch), Samples(self.store, taken, self.batch)


@dataclass(frozen=True)
class Labelled:
    """Batches with what a person calls the samples in them. One that samples do not fill is filled
    up from its beginning; only the others have labels."""

    samples: Samples
    groups: Sequence[Sequence[int]]

    @property
    def count(self) -> int:
        return sum(map(len, self.groups))

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[tuple[list[str], dict[str, np.ndarray]]]:
        size = max(1, self.samples.batch)
        for group in self.groups:
            labels = [self.samples.store.label(index) for index in group]
            yield labels, self.samples.stacked([group[at % len(group)] for at in range(size)])


def _filling(count: int, batch: int) -> int:
    """How many of single samples fill whole batches; of too few for one, the half or more of them
    that fills the fewest batches when each is repeated equally often."""
    if count >= batch or not count:
        return count - count % batch
    return min(range(count // 2 + 1, count + 1), key=lambda used: (used // gcd(used, batch), -used))


def _too_few_to_split(held_out: int, count: int, rows: int) -> str:
    if count == rows:
        return f"{held_out} samples cannot be held out of {count}"
    return (
        f"{rows} samples in {count} of the model's full input shape: these stay whole, and one is "
        "held out, so give at least 2"
    )
