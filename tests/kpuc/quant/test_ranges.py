"""Ranges chosen from histograms, held against the values that the histograms were made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.errors import UsageError
from formats.precision import DType
from formats.quantized import dequantize, quantize
from kpuc.quant.observers import Histogram, Observer
from kpuc.quant.ranges import METHODS, choose_range, expected_error, uint8_params

FLOATS = st.floats(-(2.0**60), 2.0**60, width=32).map(lambda x: 0.0 if abs(x) < 2**-60 else x)
GENERATOR = np.random.default_rng(0)
NORMAL = GENERATOR.standard_normal(200_000).astype(np.float32)
OUTLIERS = np.append(NORMAL, np.array([60.0, -45.0], np.float32))
VALUES = {
    "normal": NORMAL,
    "relu": np.maximum(NORMAL, 0),
    "relu6": np.clip(NORMAL * 6, 0, 6),
    "sparse relu6": np.clip(NORMAL * 6 - 12, 0, 6),
    "silu": NORMAL / (1 + np.exp(-NORMAL)),
    "outliers": OUTLIERS,
    "offset": NORMAL * 0.1 + 5,
    "negative": -np.abs(NORMAL) - 1,
    "few levels": GENERATOR.integers(-3, 4, 10_000).astype(np.float32),
    "constant": np.full(100, 2.5, np.float32),
    "zero": np.zeros(100, np.float32),
}


def histogram_of(values: np.ndarray) -> Histogram:
    observer = Observer("x")
    observer.update(values)
    return observer.histogram


def measured_error(values: np.ndarray, low: float, high: float) -> float:
    scale, zero_point = uint8_params(low, high)
    codes = quantize(values, DType.UINT8, scale, zero_point)
    return float(np.mean((dequantize(codes, scale, zero_point) - values.astype(np.float64)) ** 2))


@given(FLOATS, FLOATS)
def test_zero_is_a_code_exactly(one, other):
    scale, zero_point = uint8_params(min(one, other), max(one, other))

    assert 0 <= zero_point <= 255
    assert scale > 0
    assert scale == np.float32(scale)
    assert quantize(np.zeros(1, np.float32), DType.UINT8, scale, zero_point)[0] == zero_point


def test_always_zero_has_scale_one():
    assert uint8_params(0.0, 0.0) == (1.0, 0)


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0.0, 2.55, 0), (-2.55, 0.0, 255), (-1.0, 1.0, 128)]
)
def test_codes_span_the_range(low, high, zero_point):
    scale, actual = uint8_params(low, high)

    assert actual == zero_point
    assert scale == pytest.approx((high - low) / 255)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", VALUES)
def test_a_range_holds_zero_and_hardly_more_than_was_seen(name, method):
    values = VALUES[name]

    low, high = choose_range(histogram_of(values), method)

    slack = np.ptp(np.append(values, 0)) * 0.05
    assert min(values.min(), 0) - slack <= low <= 0 <= high <= max(values.max(), 0) + slack
    assert low < high or not values.any()


@pytest.mark.parametrize(("method", "most"), [("mse", 1), ("entropy", 2)])
@given(values=st.lists(FLOATS, min_size=1, max_size=50))
def test_expected_error_against_minmax_is_bounded(values, method, most):
    histogram = histogram_of(np.array(values, np.float32))

    chosen = expected_error(histogram, *choose_range(histogram, method))

    assert chosen <= most * expected_error(histogram, *choose_range(histogram, "minmax"))


@pytest.mark.parametrize("name", VALUES)
def test_expected_error_is_about_what_is_measured(name):
    histogram = histogram_of(VALUES[name])
    for shrink in (1.0, 0.7, 0.3):
        low, high = (end * shrink for end in choose_range(histogram, "minmax"))
        step = uint8_params(low, high)[0]

        measured = measured_error(VALUES[name], low, high)

        assert expected_error(histogram, low, high) == pytest.approx(
            measured, rel=0.05, abs=step**2 / 12
        )


@pytest.mark.parametrize("name", ["normal", "relu", "silu", "outliers", "relu6", "sparse relu6"])
def test_mse_finds_what_a_search_over_the_values_finds(name):
    values = VALUES[name]
    low, high = min(values.min(), 0), max(values.max(), 0)
    shares = np.geomspace(0.05, 1, 24)
    by_search = min(
        measured_error(values, low * left, high * right)
        for left in (shares if low < 0 else shares[-1:])
        for right in shares
    )

    chosen = measured_error(values, *choose_range(histogram_of(values), "mse"))

    assert chosen <= by_search * 1.03


@pytest.mark.parametrize("name", ["relu6", "sparse relu6", "relu", "silu", "few levels"])
def test_entropy_does_not_collapse_on_spikes(name):
    histogram = histogram_of(VALUES[name])

    chosen = measured_error(VALUES[name], *choose_range(histogram, "entropy"))

    full = measured_error(VALUES[name], *choose_range(histogram, "minmax"))
    assert chosen <= full * 1.1 + 1e-9


def test_entropy_cuts_outliers_off():
    values = np.append(NORMAL, np.array([20, -18], np.float32))

    low, high = choose_range(histogram_of(values), "entropy")

    assert -10 < low < -2
    assert 2 < high < 10


def test_a_percentile_cuts_both_tails_alike():
    low, high = choose_range(histogram_of(NORMAL), "percentile", 99.0)

    assert (low, high) == pytest.approx((-2.576, 2.576), abs=0.03)


def test_the_whole_percentile_is_minmax():
    histogram = histogram_of(NORMAL)

    assert choose_range(histogram, "percentile", 100.0) == choose_range(histogram, "minmax")


def test_a_percentile_of_zeros_alone_is_minmax():
    values = np.append(np.zeros(1_000_000, np.float32), np.float32(3))

    assert choose_range(histogram_of(values), "percentile") == (0.0, 3.0)


@pytest.mark.parametrize("percentile", [0.0, -1.0, 100.1, float("nan")])
def test_a_percentile_out_of_range_is_refused(percentile):
    with pytest.raises(UsageError, match="percentile"):
        choose_range(histogram_of(NORMAL), "percentile", percentile)


def test_an_unknown_method_is_refused():
    with pytest.raises(UsageError, match="'mean' is not one of mse, entropy, percentile, minmax"):
        choose_range(histogram_of(NORMAL), "mean")
