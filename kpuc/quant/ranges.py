"""Which range of real numbers the 256 codes of a tensor span, chosen from its histogram.

Within a bin the values are taken as spread evenly, except that exact zeros are known; the expected
error of a range is then an integral that is computed exactly, clipping included.
"""

import numpy as np

from formats.errors import UsageError
from kpuc.quant.observers import BINS, Histogram

METHODS = ("mse", "entropy", "percentile", "minmax")
TOP_CODE = 255
SMALLEST_SCALE = 2.0**-126  # float32's smallest normal number
COARSE_STEP = 8  # bins between the ends that the search tries first
FINE_SPREAD = 0.12  # of the scale, in the first round of the search around the best
FINE_SCALES = 7  # per round
FINE_ZERO_POINTS = 5
FINE_ROUNDS = 3
ENTROPY_STEP = 16  # bins between the windows tried
NARROW_STEPS = 1e-3  # a bin of less is one value: integrals at its ends would cancel
MOST_ENTROPY_LOSS = 2.0
UNSEEN_SHARE = 1e-4  # what entropy takes for the probability of values that no code stands for

Range = tuple[float, float]


def choose_range(histogram: Histogram, method: str, percentile: float = 99.99) -> Range:
    """low ≤ 0 ≤ high for `uint8_params`.

    mse: least expected squared error. entropy: least Kullback–Leibler divergence, but minmax where
    the squared error would be more than twice minmax's: what is clipped is then no outlier.
    percentile: all but (100 - percentile) / 2 % on each side.
    """
    if method not in METHODS:
        raise UsageError(f"calibration method {method!r} is not one of {', '.join(METHODS)}")
    if not 0 < percentile <= 100:
        raise UsageError(f"percentile {percentile} is not above 0 and at most 100")
    full = (min(histogram.low, 0.0), max(histogram.high, 0.0))
    if method == "minmax" or full == (0.0, 0.0):
        return full
    if method == "percentile":
        return _percentile(histogram, percentile, full)
    chosen = _least_error(histogram, full) if method == "mse" else _entropy(histogram, full)
    errors = _errors(histogram, np.array([full, chosen]))
    worst = errors[0] if method == "mse" else MOST_ENTROPY_LOSS * errors[0]
    return chosen if errors[1] < worst else full


def uint8_params(low: float, high: float) -> tuple[float, int]:
    """Scale, a float32 number, and zero point of uint8 codes for [low, high] and zero.

    Code `zero point` is zero exactly; a tensor that is always zero has scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 1.0, 0
    scale = float(np.float32(max((high - low) / TOP_CODE, SMALLEST_SCALE)))
    return scale, min(TOP_CODE, round(-low * TOP_CODE / (high - low)))


def expected_error(histogram: Histogram, low: float, high: float) -> float:
    """Mean squared error of the tensor's values as codes of `uint8_params(low, high)`."""
    return float(_errors(histogram, np.array([[low, high]]))[0])


def _errors(histogram: Histogram, ranges: np.ndarray) -> np.ndarray:
    """Expected squared error of each range, [n, 2] -> [n]."""
    counts = histogram.counts.copy()
    counts[histogram.zero_bin] -= histogram.zeros
    held = np.flatnonzero(counts)
    if not len(held):
        return np.zeros(len(ranges))
    span = slice(held[0], held[-1] + 1)
    edges = np.clip(histogram.edges, histogram.low, histogram.high)
    left, right = edges[:-1][span], edges[1:][span]
    params = [uint8_params(low, high) for low, high in ranges.tolist()]
    scales = np.array([[scale] for scale, _ in params])
    zero_points = np.array([[zero_point] for _, zero_point in params])
    integrals = _integral(np.append(left, right[-1]), scales, zero_points)
    widths = right - left
    means = np.diff(integrals, axis=1) / np.where(widths > 0, widths, 1.0)
    for end in (0, -1):  # bins that the extremes cut, perhaps to a single value
        middle = (left[end] + right[end]) / 2
        points = _point_error(middle, scales[:, 0], zero_points[:, 0])
        narrow = widths[end] <= NARROW_STEPS * scales[:, 0]
        means[:, end] = np.where(narrow, points, means[:, end])
    return np.asarray(np.maximum(means, 0.0) @ counts[span] / histogram.total)


def _point_error(value: float, scales: np.ndarray, zero_points: np.ndarray) -> np.ndarray:
    steps = value / scales
    codes = np.clip(np.rint(steps), -zero_points, TOP_CODE - zero_points)
    return np.asarray(((steps - codes) * scales) ** 2)


def _integral(values: np.ndarray, scales: np.ndarray, zero_points: np.ndarray) -> np.ndarray:
    """Antiderivative of the squared error at `values`: 1/12 step³ per code, a cubic beyond."""
    steps = values / scales
    codes = np.clip(np.rint(steps), -zero_points, TOP_CODE - zero_points)
    return np.asarray((codes / 12 + (steps - codes) ** 3 / 3) * scales**3)


def _least_error(histogram: Histogram, full: Range) -> Range:
    """Coarse: every few bins, by a model of the error; fine: codes around the best, exactly.

    The fine search is over what the codes can be, a zero point and a scale: over the ends, rounding
    of the zero point would make it jump.
    """
    scale, zero_point = uint8_params(*_coarse(histogram, full))
    most = (full[1] - full[0]) / (TOP_CODE - 1)
    spread = FINE_SPREAD
    for _ in range(FINE_ROUNDS):
        codes = [
            (zero, min(scale * ratio, most))
            for zero in _zero_points_near(zero_point, full)
            for ratio in np.linspace(1 - spread, 1 + spread, FINE_SCALES).tolist()
        ]
        ranges = np.array([(-zero * step, (TOP_CODE - zero) * step) for zero, step in codes])
        zero_point, scale = codes[int(np.argmin(_errors(histogram, ranges)))]
        spread /= FINE_SCALES // 2
    return -zero_point * scale, (TOP_CODE - zero_point) * scale


def _zero_points_near(zero_point: int, full: Range) -> range:
    """Those of a range with one end at zero stay there."""
    least, most = int(full[0] < 0), TOP_CODE - int(full[1] > 0)
    reach = FINE_ZERO_POINTS // 2
    return range(
        max(min(zero_point - reach, most), least if full[1] > 0 else TOP_CODE),
        min(max(zero_point + reach, least), most if full[0] < 0 else 0) + 1,
    )


def _coarse(histogram: Histogram, full: Range) -> Range:
    """Of a grid of both ends: step²/12 for what is inside, the squared distance of the rest."""
    centres = (histogram.edges[:-1] + histogram.edges[1:]) / 2
    lows = np.append(histogram.edges[: histogram.zero_bin : COARSE_STEP], 0.0)
    highs = np.append(histogram.edges[BINS : histogram.zero_bin : -COARSE_STEP], 0.0)
    lows, highs = np.unique(np.maximum(lows, full[0])), np.unique(np.minimum(highs, full[1]))
    left, left_error = _tail(centres, histogram.counts, lows)
    right, right_error = _tail(-centres[::-1], histogram.counts[::-1], -highs)
    inside = histogram.total - histogram.zeros - left[:, None] - right[None, :]
    steps = (highs[None, :] - lows[:, None]) / TOP_CODE
    errors = np.maximum(inside, 0) * steps**2 / 12 + left_error[:, None] + right_error[None, :]
    errors[steps <= 0] = np.inf
    row, column = np.unravel_index(np.argmin(errors), errors.shape)
    return float(lows[row]), float(highs[column])


def _tail(
    centres: np.ndarray, counts: np.ndarray, lows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How many values lie below each of `lows`, and their squared distances from it together."""
    sums = [np.concatenate(([0.0], np.cumsum(counts * centres**power))) for power in range(3)]
    zeroth, first, second = (each[np.searchsorted(centres, lows)] for each in sums)
    return zeroth, np.maximum(second - 2 * lows * first + lows**2 * zeroth, 0.0)


def _percentile(histogram: Histogram, percentile: float, full: Range) -> Range:
    """Evenly cut on both sides; minmax when all that is left is zero."""
    zero_bin = histogram.zero_bin
    counts = np.insert(histogram.counts, zero_bin, histogram.zeros)  # in a bin of no width
    counts[zero_bin + 1] -= histogram.zeros
    edges = np.clip(histogram.edges, histogram.low, histogram.high)
    edges = np.insert(edges, zero_bin, edges[zero_bin])
    sums = np.cumsum(counts)
    cut = (100 - percentile) / 200 * histogram.total
    low = _value_at(cut, counts, sums, edges)
    high = _value_at(histogram.total - cut, counts, sums, edges)
    chosen = (min(low, 0.0), max(high, 0.0))
    return full if chosen == (0.0, 0.0) else chosen


def _value_at(rank: float, counts: np.ndarray, sums: np.ndarray, edges: np.ndarray) -> float:
    """The value that `rank` of all values do not exceed; at rank 0 the least of all."""
    place = int(np.searchsorted(sums, rank if rank > 0 else 1))
    part = min((rank - (sums[place] - counts[place])) / counts[place], 1.0)
    return float(edges[place] + max(part, 0.0) * (edges[place + 1] - edges[place]))


def _entropy(histogram: Histogram, full: Range) -> Range:
    """The window around zero whose 256 levels lose least information, as TensorRT chooses it.

    Exact zeros are left out: every window represents them, and their spike would hide the rest.
    """
    counts = histogram.counts.astype(np.float64)
    counts[histogram.zero_bin] -= histogram.zeros
    held = np.flatnonzero(counts)
    zero, edges = histogram.zero_bin, histogram.edges
    first, last = min(held[0], zero), max(held[-1] + 1, zero)
    farthest = max(zero - first, last - zero)
    least = (TOP_CODE + 1) // (2 if first < zero < last else 1)
    windows = [
        (max(zero - reach, first), min(zero + reach, last))
        for reach in range(min(least, farthest), farthest + ENTROPY_STEP, ENTROPY_STEP)
    ]
    divergences = [_divergence(counts, start, end) for start, end in windows]
    start, end = windows[int(np.argmin(divergences))]
    return max(float(edges[start]), full[0]), min(float(edges[end]), full[1])


def _divergence(counts: np.ndarray, start: int, end: int) -> float:
    """Of the window with what is clipped at its ends, from what its 256 levels tell of it."""
    inside = counts[start:end]
    clipped = inside.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[end:].sum()
    levels = np.arange(end - start) * (TOP_CODE + 1) // (end - start)
    held = inside > 0
    sums = np.bincount(levels, inside, TOP_CODE + 1)
    bins = np.maximum(np.bincount(levels, held, TOP_CODE + 1), 1)
    told = np.where(held, (sums / bins)[levels], 0.0)
    present = clipped > 0
    if not told.any():
        return np.inf
    p = clipped[present] / clipped.sum()
    q = np.maximum(told[present] / told.sum(), UNSEEN_SHARE / len(p))
    return float(np.sum(p * np.log(p / q)))
