"""A sweep itself: a search asks for points, an engine computes those that are not there yet, and
every result is kept as soon as it is done."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from formats.precision import KPUPrecision
from kpuprof.sweep.engines import Evaluator
from kpuprof.sweep.journal import Journal
from kpuprof.sweep.models import Model
from kpuprof.sweep.pareto import Objectives, objectives
from kpuprof.sweep.result import Result, Task, task_key
from kpuprof.sweep.search import at_random, grid, guided
from kpuprof.sweep.space import Axis, Point, Space, Value

Batches = Generator[Iterable[Point], list[Objectives | None], None]


@dataclass(frozen=True)
class Plan:
    """What is to be computed. samples: of each model; None for all points of the grid."""

    space: Space
    models: Sequence[Model]
    search: str
    samples: int | None
    seed: int

    def axes(self, model: Model) -> list[Axis]:
        return model.axes(self.space)

    @property
    def total(self) -> int:
        """How many results it asks for."""
        sizes = [self.space.size * len(model.programs) for model in self.models]
        return sum(size if self.samples is None else min(size, self.samples) for size in sizes)

    def batches(self, model: Model) -> Batches:
        """Points to be computed; `send` takes the objectives of those before."""
        axes = self.axes(model)
        if self.samples is None:
            return _at_once(grid(axes))
        if self.search == "random":
            return _at_once(islice(at_random(axes, self.seed), self.samples))
        return guided(axes, self.samples, self.seed)

    def task(self, model: Model, point: Point) -> Task:
        axes = self.axes(model)
        values = {axis.name: axis.values[at] for axis, at in zip(axes, point, strict=True)}
        precision = KPUPrecision(values.pop("precision"))
        return self.task_of(model, precision, values)

    def task_of(self, model: Model, precision: KPUPrecision, values: Mapping[str, Value]) -> Task:
        config = self.space.config(values)
        key = task_key(model.digests[precision], config)
        return Task(key, (model.label, precision), values, config)


def _at_once(points: Iterable[Point]) -> Batches:
    yield points


def explore(plan: Plan, journal: Journal, evaluate: Evaluator) -> Iterator[Result]:
    """Every result that the plan asks for, in the order in which they are there."""
    for model in plan.models:
        batches = plan.batches(model)
        points: Iterable[Point] | None = next(batches)
        while points is not None:
            asked = _Asked(plan, model, journal)
            for result in evaluate(asked.missing(points)):
                journal.append(result)
                yield from asked.drained()
                yield result
            yield from asked.drained()
            try:
                points = batches.send([_objectives(journal, key) for key in asked.keys])
            except StopIteration:
                points = None


class _Asked:
    """The points of one batch, as the engine draws them."""

    def __init__(self, plan: Plan, model: Model, journal: Journal) -> None:
        self._plan, self._model, self._journal = plan, model, journal
        self._there: list[Result] = []
        self.keys: list[str] = []

    def missing(self, points: Iterable[Point]) -> Iterator[Task]:
        for point in points:
            task = self._plan.task(self._model, point)
            self.keys.append(task.key)
            if task.key in self._journal.results:
                self._there.append(self._journal.results[task.key])
            else:
                yield task

    def drained(self) -> list[Result]:
        """What was there already, each once."""
        drained, self._there = self._there, []
        return drained


def _objectives(journal: Journal, key: str) -> Objectives | None:
    figures = journal.results[key].figures
    return None if figures is None else objectives(figures)


def in_space(plan: Plan, results: Mapping[str, Result]) -> list[tuple[Model, Point, Result]]:
    """The results that are of the plan's models and space, in the order of its grid."""
    found = [
        (number, place, result)
        for result in results.values()
        for number, model in enumerate(plan.models)
        if (place := _place(plan, model, result)) is not None
    ]
    ordered = sorted(found, key=lambda entry: entry[:2])
    return [(plan.models[number], place, result) for number, place, result in ordered]


def _place(plan: Plan, model: Model, result: Result) -> Point | None:
    """Where a result lies in the space of a model; None if it is of another program or machine."""
    values = {"precision": result.precision, **result.fields}
    axes = plan.axes(model)
    if values.keys() != {axis.name for axis in axes}:
        return None
    if any(values[axis.name] not in axis.values for axis in axes):
        return None
    task = plan.task_of(model, KPUPrecision(result.precision), result.fields)
    if task.key != result.key:
        return None
    return tuple(axis.values.index(values[axis.name]) for axis in axes)
