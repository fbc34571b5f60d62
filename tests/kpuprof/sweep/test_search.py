"""Which points a search asks for."""

from itertools import islice

import pytest

from kpuprof.sweep.search import at_random, grid, guided
from kpuprof.sweep.space import Axis

AXES = [Axis("a", (1, 2, 3)), Axis("b", (True, False)), Axis("c", tuple(range(10)))]


def asked(samples, seed=0, refuse=frozenset()):
    """Points of a guided search of a bowl whose bottom is at (0, 0, 0)."""
    batches = guided(AXES, samples, seed)
    points, batch = [], next(batches)
    while batch is not None:
        points += batch
        judged = [None if point in refuse else tuple(map(float, point)) for point in batch]
        try:
            batch = batches.send(judged)
        except StopIteration:
            batch = None
    return points


def test_the_grid_has_every_point_once_the_last_axis_fastest():
    points = list(grid(AXES))
    assert points[:2] == [(0, 0, 0), (0, 0, 1)]
    assert points[-1] == (2, 1, 9)
    assert len(set(points)) == len(points) == 60


def test_a_random_search_has_every_point_once():
    assert sorted(at_random(AXES, 0)) == list(grid(AXES))


def test_a_longer_sample_begins_like_a_shorter_one():
    assert list(islice(at_random(AXES, 3), 20))[:7] == list(islice(at_random(AXES, 3), 7))


def test_a_seed_gives_its_own_sample():
    assert list(at_random(AXES, 1)) != list(at_random(AXES, 2))


def test_a_large_space_is_not_listed():
    axes = [Axis(name, tuple(range(10_000))) for name in "abcdef"]
    assert len(set(islice(at_random(axes, 0), 100))) == 100


@pytest.mark.parametrize("samples", [1, 16, 33, 60, 99])
def test_a_guided_search_asks_for_different_points_as_many_as_there_are(samples):
    points = asked(samples)
    assert len(set(points)) == len(points) == min(samples, 60)


def test_a_guided_search_is_the_same_every_time():
    assert asked(40, seed=5) == asked(40, seed=5)


def test_a_guided_search_goes_on_past_refused_points():
    refused = frozenset(list(grid(AXES))[::2])
    assert len(set(asked(60, refuse=refused))) == 60


def test_a_guided_search_finds_the_bottom_sooner_than_chance():
    """32 of 60 points at random have it with a chance of 32/60: 17 of 20 seeds would, in 0.2 %."""
    assert sum((0, 0, 0) in asked(32, seed) for seed in range(20)) >= 17
