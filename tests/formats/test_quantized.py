"""Codes of real numbers, checked by hand and by what must hold for all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from formats.precision import DType
from formats.program import KPUTensor
from formats.quantized import CODE_RANGES, dequantize, kept, quantize, reals, spread_scales

INF = np.inf


def codes(values, dtype=DType.INT8, scale=1.0, zero_point=0) -> list[int]:
    return quantize(np.float32(values), dtype, scale, zero_point).tolist()


def test_a_half_is_rounded_to_the_even_code():
    # in units of 0.5: -1.5, -0.5, 0.5, 1.5, 2.5
    assert codes([-0.75, -0.25, 0.25, 0.75, 1.25], scale=0.5) == [-2, 0, 0, 2, 2]


def test_the_zero_point_is_added_after_the_rounding():
    # 0.5 and 1.5 are rounded to 0 and 2, then moved by the odd zero point
    assert codes([0.5, 1.5], DType.UINT8, zero_point=3) == [3, 5]


@pytest.mark.parametrize(
    ("dtype", "zero_point", "low", "high"),
    [(DType.UINT8, 128, 0, 255), (DType.INT8, 0, -127, 127), (DType.INT4, 0, -7, 7)],
)
def test_what_lies_beyond_the_codes_is_clamped(dtype, zero_point, low, high):
    values = [-INF, -3e38, -1000, 1000, 3e38, INF]
    assert codes(values, dtype, 1e-3, zero_point) == [low, low, low, high, high, high]


def test_nan_becomes_zero():
    assert codes([np.nan, 0.0], DType.UINT8, 0.1, 17) == [17, 17]


def test_codes_are_of_their_storage_type():
    assert {dtype: quantize(np.zeros(1), dtype, 1.0).dtype.name for dtype in CODE_RANGES} == {
        DType.UINT8: "uint8",
        DType.INT8: "int8",
        DType.INT4: "int8",  # a nibble each, packed by the codec
    }


def test_a_scalar_has_a_code():
    code = quantize(np.float32(2.6).reshape(()), DType.UINT8, 0.5, 10)
    assert (code.shape, code.item()) == ((), 15)  # 5.2 -> 5, + 10
    assert dequantize(code, 0.5, 10).shape == ()


def test_a_code_stands_for_its_distance_from_the_zero_point():
    found = dequantize(np.uint8([0, 3, 255]), 0.25, 3)
    assert found.dtype == np.float32
    assert found.tolist() == [-0.75, 0.0, 63.0]


ARRAYS = hnp.arrays(np.float32, 20, elements=st.floats(-1e6, 1e6, width=32))


@given(ARRAYS, st.sampled_from(list(CODE_RANGES)), st.floats(1e-4, 1e4), st.integers(0, 7))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_codes_stand_for_has_these_codes(values, dtype, scale, zero_point):
    once = quantize(values, dtype, scale, zero_point)
    again = quantize(dequantize(once, scale, zero_point), dtype, scale, zero_point)
    np.testing.assert_array_equal(again, once)


@given(ARRAYS, st.sampled_from(list(CODE_RANGES)), st.floats(1e-2, 1e4), st.integers(0, 7))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_inside_the_range_a_code_is_within_half_a_step(values, dtype, scale, zero_point):
    step = float(np.float32(scale))
    low, high = ((code - zero_point) * step for code in CODE_RANGES[dtype])
    inside = values[(values >= low) & (values <= high)].astype(np.float64)
    found = dequantize(quantize(inside, dtype, scale, zero_point), scale, zero_point)
    # 255 steps in float32: a rounding of 2^-24 of them at most, three times
    assert (np.abs(found - inside) <= step * (0.5 + 3 * 255 * 2**-24)).all()


def test_scales_of_channels_are_spread_along_their_axis():
    scales = np.float32([1, 2, 4])
    spread = spread_scales(scales, (2, 3, 2), axis=1)
    whole = np.broadcast_to(spread, (2, 3, 2))
    assert spread.shape == (1, 3, 1)
    assert whole[1].tolist() == [[1, 1], [2, 2], [4, 4]]


def test_groups_count_the_weights_of_a_channel_in_the_order_of_the_other_axes():
    # two filters of 2·3 = 6 weights: groups of 4 and of the 2 left over
    spread = spread_scales(np.float32([[1, 2], [3, 4]]), (2, 2, 3), axis=0, group_size=4)
    assert spread.tolist() == [[[1, 1, 1], [1, 2, 2]], [[3, 3, 3], [3, 4, 4]]]


def test_groups_of_columns_run_down_the_rows():
    # [K, N] = [3, 2]: each column has groups of rows 0–1 and of row 2
    spread = spread_scales(np.float32([[1, 2], [3, 4]]), (3, 2), axis=1, group_size=2)
    assert spread.tolist() == [[1, 3], [1, 3], [2, 4]]


def tensor(dtype: DType, scale: float | None = None, zero_point: int | None = None) -> KPUTensor:
    return KPUTensor("x", "x", (2,), dtype, scale=scale, zero_point=zero_point)


def test_a_coded_tensor_keeps_codes_and_a_float_its_rounded_values():
    values = np.float32([1.0, 2049.0])
    assert kept(values, tensor(DType.UINT8, 0.5, 1)).tolist() == [3, 255]
    assert kept(values, tensor(DType.FP16)).tolist() == [1.0, 2048.0]


def test_a_posit_keeps_its_nearest_value_times_the_scale():
    # in units of 16, 33/32 is the neighbour of 1, and 64 the largest posit8
    values = np.float32([16.0, 16.4, 5000.0, -1e30])
    assert kept(values, tensor(DType.POSIT8, 16.0)).tolist() == [16.0, 16.5, 1024.0, -1024.0]


def test_a_number_that_leaves_float32_by_its_scale_is_the_largest_posit():
    values = np.float32([3e38, np.inf])
    found = kept(values, tensor(DType.POSIT8, 2.0**-10))
    assert found[0] == 2.0**-4  # 64 · 2^-10
    assert np.isnan(found[1])


def test_reals_of_a_weight_take_the_scales_of_its_channels():
    weight = KPUTensor("w", "w", (2, 2), DType.INT8, scales="s", scale_axis=1)
    stored = np.int8([[1, -2], [3, 4]])
    assert reals(stored, weight, np.float32([0.5, 10])).tolist() == [[0.5, -20], [1.5, 40]]
