"""Which convolutions oneDNN may be asked for: those that it is seen to get right.

Without the VNNI instructions it adds pairs of products in 16 bits, which saturate: two of 255 · 127
are 64,770. And kernels of some versions give wrong sums for rare geometries, such as one channel
and several filters per group or a stride wider than what is left of a narrow map. Either would be
silent: so the processor is tried once, and every geometry once, when a program is loaded.
"""

from functools import cache

import torch
from torch.nn import functional

from kpurun.engine.onednn.convolution import Convolution, Factors, Finish, Geometry
from kpurun.engine.onednn.library import UnimplementedError

CHANNELS = 64
TRIAL_CODES = 16  # activations from 0, weights up to half of it: sums of 150,000 products are exact
TRIAL_ZERO_POINT = 3


@cache
def are_integer_kernels_exact() -> bool:
    """Extreme codes through every kind of kernel: dense, pointwise, depthwise, a row of one map."""
    maps, row = (1, CHANNELS, 8, 8), (1, CHANNELS, 1, 2)
    trials = ((maps, 3, 1), (maps, 1, 1), (maps, 3, CHANNELS), (row, 1, 1))
    try:
        return all(_adds_extreme_codes(*trial) for trial in trials)
    except UnimplementedError:
        return False


def _adds_extreme_codes(maps: tuple[int, ...], size: int, groups: int) -> bool:
    depth = CHANNELS // groups
    geometry = Geometry(
        maps, (CHANNELS, depth, size, size), (1, 1), (0, 0), (0, 0), (1, 1), groups, False
    )
    weight = torch.full(geometry.weight, 127, dtype=torch.int8)
    convolve = Convolution(geometry, weight, Factors(1.0, 0, torch.ones(CHANNELS)), Finish())
    result = convolve(torch.full(maps, 255, dtype=torch.uint8))
    return bool((result == 255 * 127 * depth * size * size).all())


@cache
def convolves_exactly(geometry: Geometry) -> bool:
    """Whether the integer kernel gives the sums that the fp32 kernel gives."""
    taps = zip(geometry.weight[2:], geometry.dilations, strict=True)
    margins = zip(geometry.begins, geometry.ends, strict=True)
    extents = (dilation * (kernel - 1) for kernel, dilation in taps)
    if any(max(pads) > extent for pads, extent in zip(margins, extents, strict=True)):
        return False  # a window may lie in the padding
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, TRIAL_CODES, geometry.maps, dtype=torch.uint8, generator=random)
    half = TRIAL_CODES // 2
    weight = torch.randint(1 - half, half, geometry.weight, dtype=torch.int8, generator=random)
    zero_point = TRIAL_ZERO_POINT if geometry.is_shifted else 0
    factors = Factors(1.0, zero_point, torch.ones(geometry.weight[0]))
    try:
        found = Convolution(geometry, weight, factors, Finish())(
            codes.contiguous(memory_format=torch.channels_last)
        )
    except UnimplementedError:
        return False
    (top, left), (bottom, right) = geometry.begins, geometry.ends
    expected = functional.conv2d(
        functional.pad(codes.float() - zero_point, (left, right, top, bottom)), weight.float(),
        None, geometry.strides, 0, geometry.dilations, geometry.groups,
    )  # fmt: skip
    return torch.equal(found, expected)
