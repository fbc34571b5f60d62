"""Which results nothing else beats: the front in latency, energy and area proxy."""

from collections.abc import Iterable

from kpuprof.sweep.result import Figures, Result

Objectives = tuple[float, float, float]


def objectives(figures: Figures) -> Objectives:
    """What is best low."""
    return figures.time_us, figures.energy_uj, figures.area_proxy


def on_front(results: Iterable[tuple[str, Result]]) -> set[str]:
    """Keys of the results of each model that no other result of that model beats: at least as good
    in all three and better in one. Precisions are compared too; accuracy is not.

    results: with the model that each is of.
    """
    by_model: dict[str, dict[str, Objectives]] = {}
    for model, result in results:
        if result.figures is not None:
            by_model.setdefault(model, {})[result.key] = objectives(result.figures)
    return {key for points in by_model.values() for key in _front(points)}


def _front(points: dict[str, Objectives]) -> list[str]:
    """In order of latency, then energy and area, only an earlier one can beat a later one."""
    kept: list[Objectives] = []
    keys = []
    for key, point in sorted(points.items(), key=lambda entry: entry[1]):
        if not any(_beats(other, point) for other in kept):
            kept.append(point)
            keys.append(key)
    return keys


def _beats(one: Objectives, other: Objectives) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
