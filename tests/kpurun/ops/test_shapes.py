"""Shapes nobody thought of: the ops with geometry against PyTorch on generated sizes."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from kpurun.ops import OPS, evaluate
from kpurun.ops.checks import type_of
from kpurun.ops.opdef import infer_types
from kpurun.ops.types import OpError, TensorType
from tests.kpurun.ops.tiling import assert_tiles_depend_only_on_what_they_read
from tests.op_case import OpCase, Values

sizes = st.integers(1, 9)
small = st.integers(1, 3)
quickly = settings(max_examples=60, deadline=None, derandomize=True)


def random_array(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(-2, 2, shape).astype(np.float32)


def assert_same(result: np.ndarray, expected: torch.Tensor) -> None:
    assert result.shape == tuple(expected.shape)
    np.testing.assert_allclose(result, expected.numpy(), 1e-5, 1e-5)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, tuple[int, ...]]:
    """Two spatial axes, each with a size, kernel, stride, dilation and symmetric padding."""
    two = st.tuples
    return {
        "size": draw(two(sizes, sizes)),
        "kernel": draw(two(small, small)),
        "stride": draw(two(small, small)),
        "dilation": draw(two(small, small)),
        "pad": draw(two(st.integers(0, 2), st.integers(0, 2))),
    }


def fits(window: dict[str, tuple[int, ...]], dilated: bool = True) -> bool:
    dilations = window["dilation"] if dilated else (1, 1)
    extents = [d * (k - 1) + 1 for k, d in zip(window["kernel"], dilations, strict=True)]
    return all(
        size + 2 * pad >= extent
        for size, pad, extent in zip(window["size"], window["pad"], extents, strict=True)
    )


@quickly
@given(windows(), small, small, small, small)
def test_convolution(window, batch, groups, channels_per_group, filters_per_group):
    x = random_array(batch, groups * channels_per_group, *window["size"])
    w = random_array(groups * filters_per_group, channels_per_group, *window["kernel"])
    attributes = {
        "strides": window["stride"],
        "dilations": window["dilation"],
        "pads": window["pad"] * 2,
        "group": groups,
    }
    if not fits(window):
        with pytest.raises(OpError, match="does not fit"):
            evaluate("Conv", attributes, (x, w))
        return

    (result,) = evaluate("Conv", attributes, (x, w))

    tensors = torch.from_numpy(x), torch.from_numpy(w)
    geometry = window["stride"], window["pad"], window["dilation"], groups
    assert_same(result, functional.conv2d(*tensors, None, *geometry))


@settings(quickly, max_examples=30)
@given(windows(), small, small, small)
def test_tiles_of_a_convolution_read_their_halo(window, groups, channels_per_group, filters):
    assume(fits(window))
    attributes = {
        "strides": window["stride"],
        "dilations": window["dilation"],
        "pads": window["pad"] * 2,
        "group": groups,
    }
    x = Values((2, groups * channels_per_group, *window["size"]))
    w = Values((groups * filters, channels_per_group, *window["kernel"]))
    assert_tiles_depend_only_on_what_they_read(OpCase("", "Conv", (x, w), max, attributes))


@quickly
@given(windows(), st.booleans())
def test_max_pool(window, ceil_mode):
    assume(all(2 * p <= k for p, k in zip(window["pad"], window["kernel"], strict=True)))
    assume(fits(window))
    x = random_array(1, 2, *window["size"])
    attributes = {
        "kernel_shape": window["kernel"],
        "strides": window["stride"],
        "dilations": window["dilation"],
        "pads": window["pad"] * 2,
        "ceil_mode": ceil_mode,
    }

    (result,) = evaluate("MaxPool", attributes, (x,))

    geometry = window["kernel"], window["stride"], window["pad"], window["dilation"], ceil_mode
    assert_same(result, functional.max_pool2d(torch.from_numpy(x), *geometry))


@quickly
@given(windows(), st.booleans(), st.booleans())
def test_average_pool(window, ceil_mode, count_include_pad):
    assume(all(2 * p <= k for p, k in zip(window["pad"], window["kernel"], strict=True)))
    assume(fits(window, dilated=False))
    x = random_array(1, 2, *window["size"])
    attributes = {
        "kernel_shape": window["kernel"],
        "strides": window["stride"],
        "pads": window["pad"] * 2,
        "ceil_mode": ceil_mode,
        "count_include_pad": count_include_pad,
    }

    (result,) = evaluate("AveragePool", attributes, (x,))

    geometry = window["kernel"], window["stride"], window["pad"], ceil_mode, count_include_pad
    assert_same(result, functional.avg_pool2d(torch.from_numpy(x), *geometry))


@quickly
@given(st.lists(small, max_size=2), st.lists(st.booleans(), min_size=2, max_size=2), sizes, sizes)
def test_matmul(batch, stretched, depth, columns):
    a_batch = [1 if stretched[0] else size for size in batch]
    b_batch = [1 if stretched[1] else size for size in batch]
    a = random_array(*a_batch, 4, depth)
    b = random_array(*b_batch, depth, columns)

    (result,) = evaluate("MatMul", {}, (a, b))

    assert_same(result, torch.from_numpy(a) @ torch.from_numpy(b))


@quickly
@given(sizes, st.integers(-12, 12), st.integers(-12, 12), small)
def test_slice(size, start, end, step):
    x = random_array(size, 2)
    expected = x[start:end:step]
    attributes = {"starts": (start,), "ends": (end,), "axes": (0,), "steps": (step,)}
    if not expected.size:
        with pytest.raises(OpError, match="empty tensor"):
            evaluate("Slice", attributes, (x,))
        return

    (result,) = evaluate("Slice", attributes, (x,))

    np.testing.assert_array_equal(result, expected)


@quickly
@given(st.lists(small, min_size=1, max_size=4), st.data())
def test_reshape_nests_cover_any_pair_of_shapes(before, data):
    """A copy of a view, tile by tile, whatever the factors of the two shapes have in common."""
    elements = int(np.prod(before))
    first = data.draw(st.sampled_from([n for n in range(1, elements + 1) if elements % n == 0]))
    after = (first, elements // first)
    types = (TensorType(tuple(before)),)
    attributes = {"shape": after}
    nest = OPS["Reshape"].loop_nest(
        attributes, types, infer_types(OPS["Reshape"], attributes, types)
    )
    tile = {dim.name: 1 if dim.splittable else dim.size for dim in nest.dims}

    assert nest.points == elements
    assert nest.writes_once(tile)
    assert nest.reads[0].elements(tile) == nest.writes[0].elements(tile)


@quickly
@given(st.lists(sizes, max_size=3), st.lists(sizes, max_size=3))
def test_broadcasting_is_numpys(left, right):
    a, b = random_array(*left), random_array(*right)
    try:
        expected = a + b
    except ValueError:
        with pytest.raises(OpError, match="do not broadcast"):
            evaluate("Add", {}, (a, b))
        return

    (result,) = evaluate("Add", {}, (a, b))

    assert type_of(result) == TensorType(expected.shape)
    np.testing.assert_array_equal(result, expected)
