"""Posit numbers: every code's value by definition, and float32 to the nearest code.

Posit(8, es 0) and posit(16, es 1), rounded as the Posit Standard (2022) says: to nearest in the
encoding, ties to the even code, so that no number becomes zero or NaR (not a real).
"""

from functools import cache
from typing import Any

import numpy as np

FRACTION_BITS = 23  # of float32
EXPONENT_BIAS = 127


@cache
def posit_values(bits: int, exponent_bits: int) -> np.ndarray:
    """Value of every code as float32, exact; NaR is NaN. Read-only, 2^bits entries."""
    codes = range(1 << bits)
    values = np.array([posit_value(code, bits, exponent_bits) for code in codes], np.float32)
    values.setflags(write=False)
    return values


def posit_value(code: int, bits: int, exponent_bits: int) -> float:
    """One code, by the definition: sign, run of the regime, exponent, fraction."""
    if code == 0:
        return 0.0
    if code == 1 << (bits - 1):
        return float("nan")
    if code >> (bits - 1):
        return -posit_value((1 << bits) - code, bits, exponent_bits)
    body = format(code, f"0{bits}b")[1:]
    run = len(body) - len(body.lstrip(body[0]))
    regime = run - 1 if body[0] == "1" else -run
    rest = body[run + 1 :]
    exponent = int(rest[:exponent_bits].ljust(exponent_bits, "0") or "0", 2)
    fraction_bits = rest[exponent_bits:]
    fraction = int(fraction_bits, 2) / (1 << len(fraction_bits)) if fraction_bits else 0.0
    return float((1 + fraction) * 2.0 ** (regime * (1 << exponent_bits) + exponent))


def posit_codes(values: np.ndarray, bits: int, exponent_bits: int) -> np.ndarray:
    """Nearest code of each float32, as uint8 or uint16; infinities and NaN become NaR.

    The encoding of a number is its regime, exponent and fraction as one string of bits, cut to the
    width. Regime and exponent follow from float32's own exponent through a table of 256 entries,
    and rounding the string to even is rounding the number.
    """
    prefix, cut = _encoding_of_exponent(bits, exponent_bits)
    pattern = np.ascontiguousarray(values, np.float32).view(np.uint32)
    exponent = (pattern >> FRACTION_BITS) & 0xFF
    fraction = (pattern & ((1 << FRACTION_BITS) - 1)).astype(np.int64)
    string, dropped = prefix[exponent] | fraction, cut[exponent]
    kept = string >> dropped
    half_less_one = (np.int64(1) << (dropped - 1)) - 1
    code = (string + half_less_one + (kept & 1)) >> dropped
    code = np.clip(code, 1, (1 << (bits - 1)) - 1)
    code = np.where(pattern >> 31, (1 << bits) - code, code)
    code[exponent == 0xFF] = 1 << (bits - 1)
    code[(pattern << 1) == 0] = 0
    storage: np.ndarray = code.astype(np.uint8 if bits == 8 else np.uint16)
    return storage.reshape(np.shape(values))


@cache
def _encoding_of_exponent(bits: int, exponent_bits: int) -> tuple[Any, Any]:
    """For each exponent field of float32: regime and exponent above 23 zero bits, and how many low
    bits of that string do not fit. Numbers outside the range are taken to its nearest regime.
    """
    prefixes, cuts = [], []
    largest_regime = bits - 2
    for field in range(256):
        scale = field - EXPONENT_BIAS
        regime, exponent = scale >> exponent_bits, scale & ((1 << exponent_bits) - 1)
        if abs(regime) > largest_regime:
            regime, exponent = (largest_regime if regime > 0 else -largest_regime - 1), 0
        run, length = _regime_bits(regime)
        prefixes.append(((run << exponent_bits) | exponent) << FRACTION_BITS)
        cuts.append(length + exponent_bits + FRACTION_BITS - (bits - 1))
    return np.array(prefixes, np.int64), np.array(cuts, np.int64)


def _regime_bits(regime: int) -> tuple[int, int]:
    """The run of ones (from 0 up) or zeros (below 0) with the bit that ends it, and its length."""
    if regime >= 0:
        return ((1 << (regime + 1)) - 1) << 1, regime + 2
    return 1, -regime + 1
