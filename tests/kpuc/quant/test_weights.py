import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from formats.precision import DType
from formats.quantized import CODE_RANGES
from kpuc.graph import Node
from kpuc.quant.coding import Granularity, coded_weights
from kpuc.quant.weights import channel_scales, on_grid, rows_of, scale_axis
from tests.kpuc.quant.networks import residual_network

ROWS = hnp.arrays(np.float32, (3, 12), elements=st.floats(-8, 8, width=32))


def error(rows, scales, dtype):
    return np.square(on_grid(rows, scales[:, None], dtype) - rows).sum(axis=1)


@pytest.mark.parametrize("dtype", [DType.INT8, DType.INT4])
@given(rows=ROWS)
def test_no_channel_is_rounded_worse_than_on_the_scale_that_reaches_its_largest(dtype, rows):
    reach = np.maximum(np.abs(rows).max(axis=1) / CODE_RANGES[dtype][1], 1e-12)
    found = error(rows, channel_scales(rows, dtype), dtype)
    assert (found <= error(rows, reach.astype(np.float32), dtype) * (1 + 1e-5)).all()


def test_a_channel_of_zeros_has_a_scale():
    scales = channel_scales(np.zeros((1, 4), np.float32), DType.INT8)
    assert scales > 0


def test_small_multiples_of_a_step_stay_exact():
    rows = np.arange(16, dtype=np.float32)[None]
    assert error(rows, channel_scales(rows, DType.INT8), DType.INT8) == 0


def test_every_group_has_its_own_scale():
    rows = np.float32([[1, 1, 100, 100, 3]])
    scales = channel_scales(rows, DType.INT4, group_size=2)
    assert scales.shape == (1, 3)
    np.testing.assert_allclose(scales, [[1 / 7, 100 / 7, 3 / 7]], rtol=0.5)
    assert scales[0, 1] > 10 * scales[0, 0]


@pytest.mark.parametrize(
    ("op_type", "attributes", "rank", "axis"),
    [
        ("Conv", {}, 4, 0),
        ("Gemm", {"transB": 1}, 2, 0),
        ("Gemm", {}, 2, 1),
        ("MatMul", {}, 2, 1),
        ("MatMul", {}, 3, None),
    ],
)
def test_scales_follow_the_output_channels(op_type, attributes, rank, axis):
    assert scale_axis(Node("n", op_type, ("x", "w"), ("y",), attributes), rank) == axis


@given(st.integers(0, 2))
def test_rows_come_back_as_the_weight(axis):
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    rows = rows_of(weight, axis)
    assert rows.array.shape == (weight.shape[axis], 24 // weight.shape[axis])
    np.testing.assert_array_equal(rows.restored(rows.array), weight)


def test_one_scale_for_all_where_that_is_asked():
    found = coded_weights(residual_network(), DType.INT8, Granularity(per_channel=False))
    assert {weight.scales.ndim for weight in found.values()} == {0}


def test_a_group_as_long_as_a_channel_is_the_channel():
    found = coded_weights(residual_network(), DType.INT4, Granularity(group_size=32))
    assert found["head.weight"].group_size == 0
    assert found["first.weight"].group_size == 32
