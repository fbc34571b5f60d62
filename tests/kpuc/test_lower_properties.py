"""Ops whose lowering depends on sizes equal eager PyTorch at any size."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kpuc.capture import capture
from kpuc.lower import lower
from tests.kpuc.module_case import Function
from tests.kpuc.test_lower import interpret

EXAMPLES = settings(max_examples=20, deadline=None, derandomize=True)
SIZES = st.integers(1, 19)


def assert_equals_eager(function, shape: tuple[int, ...]) -> None:
    x = torch.linspace(-2, 2, int(np.prod(shape))).reshape(shape)
    graph = lower(capture(Function(function), (x,)))
    (got,) = interpret(graph, {graph.inputs[0]: x.numpy()})
    expected = function(x).numpy()
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, 1e-5, 1e-5)


@EXAMPLES
@given(height=SIZES, width=SIZES, rows=SIZES, columns=SIZES)
def test_adaptive_average_of_any_size(height, width, rows, columns):
    assert_equals_eager(
        lambda x: functional.adaptive_avg_pool2d(x, (rows, columns)), (1, 2, height, width)
    )


@EXAMPLES
@given(size=SIZES, target=SIZES, mode=st.sampled_from(["nearest", "nearest-exact", "linear"]))
def test_resampling_to_any_size(size, target, mode):
    assert_equals_eager(lambda x: functional.interpolate(x, target, mode=mode), (1, 2, size))


@EXAMPLES
@given(
    size=SIZES,
    start=st.none() | st.integers(-25, 25),
    end=st.none() | st.integers(-25, 25),
    step=st.integers(1, 5),
)
def test_slices_with_any_bounds(size, start, end, step):
    assert_equals_eager(lambda x: torch.cat((x[:, start:end:step], x), 1), (2, size))


@EXAMPLES
@given(
    size=st.integers(7, 15),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    ceil_mode=st.booleans(),
    divisor=st.none() | st.integers(1, 9),
)
def test_average_pools_with_any_window(size, kernel, stride, padding, ceil_mode, divisor):
    assert_equals_eager(
        lambda x: functional.avg_pool2d(
            x, kernel, stride, min(padding, kernel // 2), ceil_mode, True, divisor
        ),
        (1, 2, size, size + 1),
    )
