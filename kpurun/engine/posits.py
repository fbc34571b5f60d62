"""fp32 values to the nearest posits on torch: formats.posit's rounding through tables of exponents.

Rounding is to nearest in the encoding: far from one, a tie is not the mean of its neighbours.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from formats.codec import round_to
from formats.posit import EXPONENT_BIAS, FRACTION_BITS
from formats.precision import DType
from kpurun.engine.kernel import look_up

# Of a posit(16, es 1): scales in which at least one bit of the fraction is stored. There rounding
# in the encoding is rounding the number to a whole multiple of its last place.
PLAIN_SCALES = range(-24, 24)
MOST_FRACTION_BITS = 12


def round_to_posit(values: Tensor, dtype: DType) -> Tensor:
    """New fp32 tensor of the nearest posits; infinities become NaN, as NaR is all there is."""
    return _posit8(values) if dtype is DType.POSIT8 else _posit16(values)


def _posit8(values: Tensor) -> Tensor:
    """By the upper half of the bit pattern, its last bit set if any lower bit is: a posit(8, es 0)
    stores at most 5 bits of the fraction, so 7 of them tell every tie."""
    pattern = values.view(torch.int32)
    has_lower_bits = (pattern & 0xFFFF).ne_(0)
    upper = (pattern >> 16).bitwise_and_(0xFFFF).bitwise_or_(has_lower_bits)
    return look_up(_posit8_of_upper_half(), upper)


@cache
def _posit8_of_upper_half() -> Tensor:
    patterns = np.arange(1 << 16, dtype=np.uint32) << 16
    return torch.from_numpy(round_to(patterns.view(np.float32), DType.POSIT8))


def _posit16(values: Tensor) -> Tensor:
    """Adding and taking away 1.5 · 2^23 last places rounds to whole ones, half to even; what lies
    in another range is rare and goes through the definition."""
    exponent = (values.view(torch.int32) >> FRACTION_BITS).bitwise_and_(0xFF)
    magic = look_up(_posit16_magic(), exponent)
    result = (values + magic).sub_(magic)
    is_beyond = magic.isnan() | (magic.eq(0) & values.ne(0))
    if is_beyond.any():
        rest = round_to(values[is_beyond].numpy(), DType.POSIT16)
        result[is_beyond] = torch.from_numpy(rest)
    return result


@cache
def _posit16_magic() -> Tensor:
    """By the exponent field of float32: NaN beyond PLAIN_SCALES, 0 for zero, which is frequent and
    stays itself, and for the subnormal numbers, which do not."""
    magic = np.full(256, np.nan, np.float32)
    magic[0] = 0
    for scale in PLAIN_SCALES:
        regime = scale >> 1
        fraction_bits = MOST_FRACTION_BITS - (regime if regime >= 0 else -regime - 1)
        magic[scale + EXPONENT_BIAS] = 1.5 * 2.0 ** (FRACTION_BITS + scale - fraction_bits)
    return torch.from_numpy(magic)
