"""Which convolutions oneDNN's integer kernels may be asked for: those that it is seen to get right.

Some of its kernels (torch 2.13) give wrong sums, silently: with one channel and several filters per
group, or where a stride is wider than what is left of a narrow map; windows that lie wholly in the
padding end the process. So every geometry is tried once, when a program is loaded, on codes whose
sums fp32 holds exactly.

The trial has a zero point exactly if the op has one. torch remembers by geometry alone how it packs
weights, so that the first packing decides for the process; weights packed for the other case are
packed anew at every call, which takes as long as a small convolution.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch.nn import functional

TRIAL_CODES = 16  # activations from 0, weights up to half of it: sums of 150,000 products are exact
TRIAL_ZERO_POINT = 3


class Geometry(NamedTuple):
    """A convolution of maps [N, C, H, W] as oneDNN is given it.

    is_shifted: the code of zero is not 0.
    """

    maps: tuple[int, ...]
    weight: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    is_shifted: bool


@cache
def convolves_exactly(geometry: Geometry) -> bool:
    """Whether the integer kernel gives the sums that the fp32 kernel gives."""
    taps = zip(geometry.padding, geometry.weight[2:], geometry.dilations, strict=True)
    if any(pad > dilation * (kernel - 1) for pad, kernel, dilation in taps):
        return False  # a window may lie in the padding
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, TRIAL_CODES, geometry.maps, dtype=torch.uint8, generator=random)
    zero_point = TRIAL_ZERO_POINT if geometry.is_shifted else 0
    half = TRIAL_CODES // 2
    weight = torch.randint(1 - half, half, geometry.weight, dtype=torch.int8, generator=random)
    expected = functional.conv2d(
        codes.float() - zero_point, weight.float(), None,
        geometry.strides, geometry.padding, geometry.dilations, geometry.groups,
    )  # fmt: skip
    return torch.equal(_sums(geometry, codes, zero_point, weight), expected)


def _sums(
    geometry: Geometry, codes: torch.Tensor, zero_point: int, weight: torch.Tensor
) -> torch.Tensor:
    window = (geometry.strides, geometry.padding, geometry.dilations, geometry.groups)
    scales = torch.ones(len(weight))
    packed = torch.ops.onednn.qconv_prepack(weight, scales, 1.0, zero_point, *window, geometry.maps)
    found: torch.Tensor = torch.ops.onednn.qconv2d_pointwise.default(
        codes.contiguous(memory_format=torch.channels_last), 1.0, zero_point, packed, scales,
        torch.zeros(len(weight), dtype=torch.int64), None, *window,
        1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return found
