"""Number formats against numpy, torch and values worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from formats.codec import INTEGER_RANGES, STORAGE, decode, encode, round_to
from formats.precision import FLOAT_DTYPES, DType, size_in_bytes

# Every sign and exponent with the fractions around which rounding happens, and random ones.
PATTERNS = np.concatenate(
    [
        (np.arange(1 << 16, dtype=np.uint32) << 16) + low
        for low in (0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF)
    ]
    + [np.random.default_rng(0).integers(0, 1 << 32, 1 << 18, dtype=np.uint32)]
)
SINGLES = PATTERNS.view(np.float32)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal bit for bit but for the payload of a NaN."""
    equal = np.array_equal(one, other, equal_nan=True)
    return equal and np.array_equal(np.signbit(one[one == 0]), np.signbit(other[other == 0]))


@pytest.mark.parametrize(("dtype", "cast"), [(DType.FP16, "half"), (DType.BF16, "bfloat16")])
def test_half_formats_round_as_torch_does(dtype, cast):
    expected = getattr(torch.from_numpy(SINGLES), cast)().float().numpy()
    assert same(round_to(SINGLES, dtype), expected)


@pytest.mark.parametrize("dtype", [DType.FP16, DType.BF16])
def test_every_code_of_a_half_format_survives(dtype):
    codes = np.arange(1 << 16, dtype=np.uint16).view(STORAGE[dtype])
    values = decode(codes, dtype, codes.shape)
    assert same(round_to(values, dtype), values)
    finite = np.isfinite(values)
    assert np.array_equal(encode(values, dtype)[finite], codes[finite])


@pytest.mark.parametrize("dtype", sorted(FLOAT_DTYPES))
@given(
    array=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=5),
        elements=st.floats(width=32),
    )
)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_rounding_keeps_the_shape_and_is_idempotent(dtype, array):
    once = round_to(array, dtype)
    assert once.shape == array.shape
    assert once.dtype == np.float32
    assert same(round_to(once, dtype), once)
    assert encode(array, dtype).dtype == STORAGE[dtype]


def test_an_overflow_to_half_is_infinity_without_a_warning():
    assert encode(np.float32([65519.9, 65520, -1e9]), DType.FP16).tolist() == [
        65504,
        float("inf"),
        -float("inf"),
    ]


def test_arrays_that_are_not_contiguous_are_read_in_their_order():
    values = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3]
    for dtype in FLOAT_DTYPES:
        np.testing.assert_array_equal(
            encode(values, dtype), encode(np.ascontiguousarray(values), dtype)
        )


@pytest.mark.parametrize("dtype", sorted(INTEGER_RANGES))
def test_integers_are_stored_exactly(dtype):
    low, high = INTEGER_RANGES[dtype]
    values = np.array([low, 0, 1, high], np.int64).reshape(2, 2)
    stored = encode(values, dtype)
    assert stored.nbytes == size_in_bytes(values.size, dtype)
    np.testing.assert_array_equal(decode(stored, dtype, values.shape).astype(np.int64), values)


@pytest.mark.parametrize("dtype", sorted(INTEGER_RANGES.keys() - {DType.INT64}))
def test_an_integer_out_of_range_is_refused_not_wrapped(dtype):
    for value in (INTEGER_RANGES[dtype][0] - 1, INTEGER_RANGES[dtype][1] + 1):
        with pytest.raises(ValueError, match=dtype.value):
            encode(np.array([value]), dtype)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 2.0**63])
def test_what_is_no_whole_number_is_not_stored_as_one(value):
    with pytest.raises(ValueError, match="int64"):
        encode(np.array([value]), DType.INT64)


def test_int4_packs_two_to_a_byte_low_half_first():
    packed = encode(np.array([1, -2, 7, -8, 3]), DType.INT4)
    assert packed.tolist() == [0xE1, 0x87, 0x03]
    assert decode(packed, DType.INT4, (5,)).tolist() == [1, -2, 7, -8, 3]


@given(hnp.arrays(np.int8, st.integers(0, 9), elements=st.integers(-8, 7)))
@settings(deadline=None, derandomize=True)
def test_int4_keeps_any_count(values):
    np.testing.assert_array_equal(
        decode(encode(values, DType.INT4), DType.INT4, values.shape), values
    )
