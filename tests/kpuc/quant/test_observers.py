"""Histograms that grow: counts stay exact, whatever comes in whatever order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from formats.errors import CompilationError
from kpuc.quant.observers import BINS, Histogram, Observer, merged

# Not subnormal, nor so that division by a bin's width makes them so.
NUMBERS = st.one_of(
    st.just(0.0),
    st.floats(2.0**-60, 2.0**60, width=32),
    st.floats(-(2.0**60), -(2.0**-60), width=32),
)
SAMPLES = st.lists(st.lists(NUMBERS, min_size=1, max_size=40), min_size=1, max_size=6)


def observed(*samples: object) -> Histogram:
    observer = Observer("x")
    for sample in samples:
        observer.update(torch.tensor(sample))
    return observer.histogram


def same(one: Histogram, other: Histogram) -> bool:
    extremes = (one.low, one.high, one.zeros) == (other.low, other.high, other.zeros)
    return extremes and bool((one.counts == other.counts).all())


@given(SAMPLES)
def test_a_grown_histogram_is_numpys_at_the_final_bins(samples):
    histogram = observed(*samples)

    values = np.concatenate(samples)
    expected, _ = np.histogram(values, histogram.edges)
    assert (histogram.counts == expected).all()
    assert histogram.total == len(values)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.zeros == np.count_nonzero(values == 0)


@given(SAMPLES)
def test_the_order_of_samples_does_not_matter(samples):
    assert same(observed(*samples), observed(*samples[::-1]))


@given(SAMPLES)
def test_merged_histograms_are_that_of_all_values(samples):
    assert same(merged([observed(sample) for sample in samples]), observed(*samples))


@given(st.lists(NUMBERS, min_size=2, max_size=20).filter(any))
def test_zero_is_an_edge_and_half_of_the_bins_are_in_reach(values):
    histogram = observed(values)

    assert histogram.edges[histogram.zero_bin] == 0
    used = max(max(values), 0) - min(min(values), 0)
    assert BINS / 2 - 1 <= used / (histogram.edges[1] - histogram.edges[0]) <= BINS


def test_many_values_are_counted_in_parts():
    values = np.random.default_rng(0).standard_normal((3, 200_001)).astype(np.float32)
    observer = Observer("x")

    observer.update(values[:, ::2])

    expected, _ = np.histogram(values[:, ::2], observer.histogram.edges)
    assert (observer.histogram.counts == expected).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_refused_by_the_tensors_name(bad):
    with pytest.raises(CompilationError, match=r"tensor 'conv1'.*NaN or infinite"):
        Observer("conv1").update(torch.tensor([0.0, bad, 1.0]))


def test_a_tensor_without_values_has_no_histogram():
    observer = Observer("x")
    observer.update(torch.zeros(0, 3))

    with pytest.raises(CompilationError, match="tensor 'x': calibration saw no values"):
        _ = observer.histogram


def test_halves_and_integers_are_counted_as_the_reals_they_are():
    observer = Observer("x")
    observer.update(torch.tensor([1.5, -2.0], dtype=torch.float16))
    observer.update(np.array([3, 0], np.int64))

    histogram = observer.histogram
    assert (histogram.low, histogram.high, histogram.total, histogram.zeros) == (-2.0, 3.0, 4, 1)
