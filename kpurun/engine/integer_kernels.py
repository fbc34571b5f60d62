"""Whether oneDNN's integer kernels are exact on this processor, found out by asking them.

Without the VNNI instructions oneDNN adds pairs of products in 16 bits, which saturate: two of
255 · 127 are 64,770. The engine must know, as the results would differ silently.
"""

from functools import cache

import torch
from torch import Tensor

GEOMETRY = [1, 1], [0, 0], [1, 1]  # strides, padding, dilations of the trial convolutions
CHANNELS = 64


@cache
def are_integer_kernels_exact() -> bool:
    """Extreme codes through every kind of kernel: dense, pointwise, depthwise, linear."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's
        return False
    with torch.inference_mode():
        try:
            convolutions = [_tried_convolution(3, 1), _tried_convolution(1, 1)]
            results = [*convolutions, _tried_convolution(3, CHANNELS), _tried_linear()]
        except RuntimeError:  # a build or a processor without these kernels
            return False
    return all(bool((result == expected).all()) for result, expected in results)


def _tried_convolution(size: int, groups: int) -> tuple[Tensor, int]:
    """(result, what each element of it must be)"""
    depth = CHANNELS // groups
    x = torch.full((1, CHANNELS, 8, 8), 255, dtype=torch.uint8)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.full((CHANNELS, depth, size, size), 127, dtype=torch.int8)
    ones, zeros = torch.ones(CHANNELS), torch.zeros(CHANNELS, dtype=torch.int32)
    packed = torch.ops.onednn.qconv_prepack(weight, ones, 1.0, 0, *GEOMETRY, groups, list(x.shape))
    result = torch.ops.onednn.qconv2d_pointwise(
        x, 1.0, 0, packed, ones, zeros, None, *GEOMETRY, groups, 1.0, 0, torch.float32,
        "none", [], "",
    )  # fmt: skip
    return result, 255 * 127 * depth * size * size


def _tried_linear() -> tuple[Tensor, int]:
    x = torch.full((2, CHANNELS), 255, dtype=torch.uint8)
    weight = torch.full((CHANNELS, CHANNELS), 127, dtype=torch.int8)
    ones, zeros = torch.ones(CHANNELS), torch.zeros(CHANNELS, dtype=torch.int32)
    packed = torch.ops.onednn.qlinear_prepack(weight, list(x.shape))
    result = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 0, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return result, 255 * 127 * CHANNELS
