"""Which points of a space are computed, and in which order.

Every search is a function of its arguments alone: interrupted and begun again, it asks for the same
points, and those that are in the results file cost nothing.
"""

import random
from collections.abc import Generator, Iterator, Sequence
from math import prod
from typing import Any

from kpuprof.sweep.pareto import Objectives
from kpuprof.sweep.space import Axis, Point

SEARCHES = ("grid", "random", "pareto")
BATCH = 16  # proposals between two looks at results, whatever the number of workers
PROPOSALS_PER_POINT = 8  # in which the sampler may repeat itself before chance takes over


def grid(axes: Sequence[Axis]) -> Iterator[Point]:
    """Every point, the last axis fastest."""
    return (_point(index, axes) for index in range(_size(axes)))


def at_random(axes: Sequence[Axis], seed: int) -> Iterator[Point]:
    """Every point once, in an order that is the seed's; a longer sample begins like a shorter."""
    chance = random.Random(seed)
    moved: dict[int, int] = {}  # of Fisher and Yates' shuffle, what is not in its place
    for last in range(_size(axes) - 1, -1, -1):
        drawn = chance.randint(0, last)
        yield _point(moved.get(drawn, drawn), axes)
        moved[drawn] = moved.pop(last, last)


def guided(
    axes: Sequence[Axis], samples: int, seed: int
) -> Generator[list[Point], list[Objectives | None], None]:
    """`samples` different points in batches, where optuna's sampler expects the front to be.

    After each batch `send` takes its objectives in order, None for a point that was refused. As the
    sampler learns of whole batches, its points do not depend on which worker was the fastest.
    """
    guide = _Guide(axes, seed)
    left = min(samples, _size(axes))
    while left > 0:
        batch = guide.proposed(min(BATCH, left))
        guide.learn(batch, (yield list(batch)))
        left -= len(batch)


class _Guide:
    """A multi-objective tree-structured Parzen estimator, which models all axes together."""

    def __init__(self, axes: Sequence[Axis], seed: int) -> None:
        optuna = _optuna()
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        self._axes = axes
        self._study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
        self._distributions = {axis.name: _distribution(axis) for axis in axes}
        self._failed = optuna.trial.TrialState.FAIL
        self._known: dict[Point, Objectives | None] = {}
        self._others = at_random(axes, seed)

    def proposed(self, count: int) -> dict[Point, int]:
        """New points with the numbers of their trials. Where the sampler repeats itself, it is told
        what came of it; where it does nothing else, chance takes over."""
        batch: dict[Point, int] = {}
        for _ in range(PROPOSALS_PER_POINT * count):
            if len(batch) == count:
                return batch
            trial = self._study.ask(self._distributions)
            point = tuple(trial.params[axis.name] for axis in self._axes)
            if point in batch or point in self._known:
                self._tell(trial.number, self._known.get(point))
            else:
                batch[point] = trial.number
        while len(batch) < count:
            point = next(self._others)
            if point not in batch and point not in self._known:
                places = zip(self._axes, point, strict=True)
                self._study.enqueue_trial({axis.name: place for axis, place in places})
                batch[point] = self._study.ask(self._distributions).number
        return batch

    def learn(self, batch: dict[Point, int], found: Sequence[Objectives | None]) -> None:
        for (point, number), each in zip(batch.items(), found, strict=True):
            self._tell(number, each)
            self._known[point] = each

    def _tell(self, number: int, found: Objectives | None) -> None:
        self._study.tell(number, found, state=self._failed if found is None else None)


def _size(axes: Sequence[Axis]) -> int:
    return prod(len(axis.values) for axis in axes)


def _point(index: int, axes: Sequence[Axis]) -> Point:
    places = []
    for axis in reversed(axes):
        index, place = divmod(index, len(axis.values))
        places.append(place)
    return tuple(reversed(places))


def _distribution(axis: Axis) -> object:
    """Places of an ordered axis are numbers, so that the sampler knows which are near."""
    distributions = _optuna().distributions
    if axis.is_ordered:
        return distributions.IntDistribution(0, len(axis.values) - 1)
    return distributions.CategoricalDistribution(range(len(axis.values)))


def _optuna() -> Any:
    """Imported when it is needed: it takes half a second. It would log every trial."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna
