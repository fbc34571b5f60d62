"""Which points of a space are computed, and in which order.

Every search is a function of its arguments alone: interrupted and begun again, it asks for the same
points, and those that are in the results file cost nothing.
"""

import random
from collections.abc import Generator, Iterable, Iterator, Sequence
from math import prod
from typing import Any

from kpuprof.sweep.pareto import Objectives
from kpuprof.sweep.space import Axis, Point

SEARCHES = ("grid", "random", "pareto")
BATCH = 16  # proposals between two looks at results, whatever the number of workers
PROPOSALS_PER_POINT = 4  # that the sampler may repeat itself before chance takes over


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

    After each batch `send` takes its objectives in order, None for a point that was refused. The
    sampler is a multi-objective tree-structured Parzen estimator; as it learns of whole batches,
    its points do not depend on which worker was the fastest.
    """
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    distributions = {axis.name: _distribution(axis) for axis in axes}
    left = min(samples, _size(axes))
    others = at_random(axes, seed)
    seen: set[Point] = set()
    while left > 0:
        batch: dict[Point, int] = {}  # -> number of the trial
        for _ in range(PROPOSALS_PER_POINT * BATCH):
            if len(batch) == min(BATCH, left):
                break
            trial = study.ask(distributions)
            point = _chosen(trial.params, axes)
            if point in seen or point in batch:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            else:
                batch[point] = trial.number
        for point in _unseen(others, seen | set(batch), min(BATCH, left) - len(batch)):
            study.enqueue_trial(_parameters(point, axes))
            batch[point] = study.ask(distributions).number
        judged = yield list(batch)
        for number, found in zip(batch.values(), judged, strict=True):
            failed = None if found is not None else optuna.trial.TrialState.FAIL
            study.tell(number, found, state=failed)
        seen |= set(batch)
        left -= len(batch)


def _size(axes: Sequence[Axis]) -> int:
    return prod(len(axis.values) for axis in axes)


def _point(index: int, axes: Sequence[Axis]) -> Point:
    places = []
    for axis in reversed(axes):
        index, place = divmod(index, len(axis.values))
        places.append(place)
    return tuple(reversed(places))


def _unseen(points: Iterable[Point], seen: set[Point], count: int) -> list[Point]:
    found: list[Point] = []
    while len(found) < count:
        point = next(iter(points))
        if point not in seen:
            found.append(point)
    return found


def _distribution(axis: Axis) -> object:
    """Places of an ordered axis are numbers, so that the sampler knows which are near."""
    distributions = _optuna().distributions
    if axis.is_ordered:
        return distributions.IntDistribution(0, len(axis.values) - 1)
    return distributions.CategoricalDistribution(range(len(axis.values)))


def _chosen(parameters: dict[str, int], axes: Sequence[Axis]) -> Point:
    return tuple(parameters[axis.name] for axis in axes)


def _parameters(point: Point, axes: Sequence[Axis]) -> dict[str, int]:
    return {axis.name: place for axis, place in zip(axes, point, strict=True)}


def _optuna() -> Any:
    """Imported when it is needed: it takes half a second. It would log every trial."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna
