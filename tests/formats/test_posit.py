"""Posits against the definition, exact rational arithmetic and values worked out by hand."""

from fractions import Fraction

import numpy as np
import pytest

from formats.codec import decode, encode, round_to
from formats.posit import posit_value, posit_values
from formats.precision import DType

FORMATS = [(DType.POSIT8, 8, 0), (DType.POSIT16, 16, 1)]
NAR = {DType.POSIT8: 0x80, DType.POSIT16: 0x8000}

# posit8, es 0: sign, regime run, fraction; useed 2.
POSIT8 = {
    0x01: Fraction(1, 64),  # 0 0000001          minpos = 2^-6
    0x02: Fraction(1, 32),  # 0 000001 0         2^-5
    0x20: Fraction(1, 2),  # 0 01 00000          2^-1
    0x30: Fraction(3, 4),  # 0 01 10000          2^-1 · 1.5
    0x40: Fraction(1),  # 0 10 00000             2^0
    0x50: Fraction(3, 2),  # 0 10 10000          2^0 · 1.5
    0x41: Fraction(33, 32),  # 0 10 00001        2^0 · (1 + 1/32)
    0x60: Fraction(2),  # 0 110 0000             2^1
    0x7E: Fraction(32),  # 0 111111 0            2^5
    0x7F: Fraction(64),  # 0 1111111             maxpos = 2^6
    0xC0: Fraction(-1),
    0x81: Fraction(-64),
}
# posit16, es 1: useed 4.
POSIT16 = {
    0x0001: Fraction(1, 2**28),  # minpos = 4^-14
    0x0002: Fraction(1, 2**26),  # the exponent bit is cut off: 4^-13
    0x0003: Fraction(1, 2**25),  # 0 00000000000001 1: 4^-13 · 2
    0x4000: Fraction(1),
    0x5000: Fraction(2),  # 0 10 1 000000000000
    0x5800: Fraction(3),  # 0 10 1 100000000000: 2 · 1.5
    0x4001: Fraction(4097, 4096),
    0x6000: Fraction(4),  # 0 110 0 …
    0x7FFE: Fraction(2**26),
    0x7FFF: Fraction(2**28),  # maxpos = 4^14
    0xC000: Fraction(-1),
    0xB000: Fraction(-2),
}


@pytest.mark.parametrize(
    ("bits", "exponent_bits", "code", "value"),
    [(8, 0, *item) for item in POSIT8.items()] + [(16, 1, *item) for item in POSIT16.items()],
)
def test_codes_worked_out_by_hand(bits, exponent_bits, code, value):
    assert Fraction(posit_value(code, bits, exponent_bits)) == value


@pytest.mark.parametrize(("dtype", "bits", "exponent_bits"), FORMATS)
def test_values_rise_with_their_codes_and_are_exact_in_float32(dtype, bits, exponent_bits):
    values = posit_values(bits, exponent_bits)
    as_integers = np.arange(1 << bits).astype(np.int16 if bits == 16 else np.int8)
    ordered = values[np.argsort(as_integers)][1:]
    assert np.isnan(values[NAR[dtype]])
    assert (np.diff(ordered) > 0).all()
    exact = [posit_value(code, bits, exponent_bits) for code in range(1, 1 << (bits - 1))]
    assert values[1 : 1 << (bits - 1)].tolist() == exact


@pytest.mark.parametrize(("dtype", "bits", "exponent_bits"), FORMATS)
def test_every_code_survives(dtype, bits, exponent_bits):
    codes = np.arange(1 << bits)
    assert encode(decode(codes, dtype, codes.shape), dtype).tolist() == codes.tolist()


@pytest.mark.parametrize(("dtype", "bits", "exponent_bits"), FORMATS)
def test_between_neighbours_the_nearer_in_the_encoding_wins_and_ties_go_to_the_even_code(
    dtype, bits, exponent_bits
):
    """The border between code c and c + 1 is the value of 2c + 1 one bit wider."""
    codes = np.arange(1, (1 << (bits - 1)) - 1)
    borders = np.array([posit_value(2 * c + 1, bits + 1, exponent_bits) for c in codes], np.float32)
    even = codes + codes % 2
    assert encode(borders, dtype).tolist() == even.tolist()
    assert encode(np.nextafter(borders, np.float32(0)), dtype).tolist() == codes.tolist()
    assert encode(np.nextafter(borders, np.float32(np.inf)), dtype).tolist() == (codes + 1).tolist()
    negative = encode(-borders, dtype).astype(int)
    assert ((1 << bits) - negative).tolist() == even.tolist()


@pytest.mark.parametrize(("dtype", "bits", "exponent_bits"), FORMATS)
def test_a_number_never_becomes_zero_or_nar(dtype, bits, exponent_bits):
    extremes = np.float32([1e-45, 1e-30, 3.4e38, -1e-45, -3.4e38])
    maxpos = 2.0 ** ((bits - 2) << exponent_bits)
    expected = [1 / maxpos, 1 / maxpos, maxpos, -1 / maxpos, -maxpos]
    assert round_to(extremes, dtype).tolist() == expected


@pytest.mark.parametrize("dtype", [DType.POSIT8, DType.POSIT16])
def test_zero_is_zero_and_what_is_not_real_is_nar(dtype):
    assert encode(np.float32([0.0, -0.0]), dtype).tolist() == [0, 0]
    assert set(encode(np.float32([np.nan, np.inf, -np.inf]), dtype).tolist()) == {NAR[dtype]}
