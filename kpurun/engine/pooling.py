"""Pooling for the fast engine: torch's kernels, padded beforehand where torch's rule is narrower.

torch pads both ends alike and by at most half the window, and has its own idea of partial windows;
a padded map without either gives the record's meaning for every attribute.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from formats.quantized import CODE_RANGES, is_coded
from kpurun.engine.conversions import quantized
from kpurun.engine.kernel import Prepared, Site, look_up
from kpurun.ops.window import Window, window_of

LARGEST_TABLE = 1 << 16  # bytes: as many as codes of a map of 16x16 have sums

MAX_POOLS: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}


def prepare_max_pool(site: Site) -> Prepared:
    """Padding is -inf, NaN wins: as the record says, and torch does."""
    window = _window(site)
    sizes, outputs = site.shapes[0][2:], site.output_shapes[0][2:]
    pool = MAX_POOLS[window.rank]
    margins = [] if _torch_pads_alike(window, sizes, outputs) else _margins(window, sizes, outputs)
    padding = (0,) * window.rank if margins else window.begins

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        x = functional.pad(operands[0], margins, value=-torch.inf) if margins else operands[0]
        return (pool(x, window.kernel, window.strides, padding, window.dilations),)

    return Prepared(kernel)


def prepare_max_pool_of_codes(site: Site) -> Prepared:
    """Integers of two spatial axes: one axis after the other, as the maximum of shifted slices.

    torch's own kernel takes hundreds of times as long. Padding is the least code, so never wins
    against an element; every window has one.
    """
    window = _window(site)
    margins = _margins(window, site.shapes[0][2:], site.output_shapes[0][2:])
    axes = list(zip((2, 3), window.kernel, window.strides, window.dilations, strict=True))
    outputs = site.output_shapes[0]

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        x = operands[0].contiguous(memory_format=torch.channels_last)
        if any(margins):
            x = functional.pad(x, margins, value=torch.iinfo(x.dtype).min)
        for axis, taps, stride, dilation in axes:
            x = _largest_along(x, axis, taps, stride, dilation, outputs[axis])
        return (x,)

    return Prepared(kernel)


def _largest_along(
    x: Tensor, axis: int, taps: int, stride: int, dilation: int, count: int
) -> Tensor:
    """Maximum over `taps` positions `dilation` apart, of `count` windows `stride` apart.

    The maximum of 2n taps is that of two maxima of n, so that few passes are needed.
    """
    length = x.shape[axis]
    reached = 1  # taps that each position of x stands for
    while 2 * reached <= taps:
        step = reached * dilation
        length -= step
        x = torch.maximum(x.narrow(axis, 0, length), x.narrow(axis, step, length))
        reached *= 2
    first = _every(x, axis, 0, stride, count)
    if reached == taps:
        return first
    return torch.maximum(first, _every(x, axis, (taps - reached) * dilation, stride, count))


def _every(x: Tensor, axis: int, start: int, stride: int, count: int) -> Tensor:
    picked = [slice(None)] * x.dim()
    picked[axis] = slice(start, start + (count - 1) * stride + 1, stride)
    return x[tuple(picked)]


def prepare_average_pool(site: Site) -> Prepared:
    """Sums of the padded map over the counts of each window, which are known now."""
    window = _window(site)
    sizes, outputs = site.shapes[0][2:], site.output_shapes[0][2:]
    margins = _margins(window, sizes, outputs)
    sums = _window_sums(window)
    counts = sums(_counted(window, site, sizes, margins))

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        x = functional.pad(operands[0], margins) if any(margins) else operands[0]
        return (sums(x).div_(counts),)

    return Prepared(kernel)


def prepare_global_average_pool(site: Site) -> Prepared:
    """Sums in float64, as the record's."""
    axes = list(range(2, len(site.shapes[0])))
    return Prepared(
        lambda operands: (
            operands[0].mean(axes, keepdim=True, dtype=torch.float64).to(torch.float32),
        )
    )


def prepare_global_average_pool_of_codes(site: Site) -> Prepared | None:
    """The sum of the codes, and for each sum there is the code of its mean, or the mean itself.

    None where the sum may be beyond int32.
    """
    (x,), (target,), count = site.inputs, site.outputs, prod(site.shapes[0][2:])
    low, high = (count * code for code in CODE_RANGES[x.dtype])
    if x.scale is None or max(-low, high) > torch.iinfo(torch.int32).max:
        return None
    scale, zero_point = float(np.float32(x.scale)), x.zero_point or 0
    shape = site.output_shapes[0]

    def sums(operands: Sequence[Tensor]) -> Tensor:
        rows = operands[0].movedim(1, -1).flatten(1, -2)  # of channels
        return rows.sum(1, dtype=torch.int32).view(shape)

    def means(sums: Tensor) -> Tensor:
        return sums.double().div_(count).sub_(zero_point).mul_(scale).to(torch.float32)

    gives_codes = is_coded(target) and target.scale is not None and not site.op.epilogue
    if not gives_codes or high - low >= LARGEST_TABLE:
        return Prepared(lambda operands: (means(sums(operands)),), takes_codes=True)
    table = quantized(means(torch.arange(low, high + 1)), target)
    return Prepared(
        lambda operands: (look_up(table, sums(operands).sub_(low)),),
        takes_codes=True,
        gives_codes=True,
    )


def _window(site: Site) -> Window:
    return window_of(site.op.op_type, site.attributes, tuple(site.attributes["kernel_shape"]))


def _torch_pads_alike(window: Window, sizes: Sequence[int], outputs: Sequence[int]) -> bool:
    is_small = all(
        2 * begin <= size for begin, size in zip(window.begins, window.kernel, strict=True)
    )
    return (
        window.begins == window.ends and is_small and list(outputs) == _whole_windows(window, sizes)
    )


def _whole_windows(window: Window, sizes: Sequence[int]) -> list[int]:
    """Number of windows that lie within the padded map, per axis."""
    return [
        (size + begin + end - extent) // stride + 1
        for size, begin, end, extent, stride in zip(
            sizes, window.begins, window.ends, window.extents, window.strides, strict=True
        )
    ]


def _margins(window: Window, sizes: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """What to pad, last axis first as `pad` takes it, so that exactly `outputs` windows fit."""
    margins: list[int] = []
    for size, begin, count, stride, extent in zip(
        sizes, window.begins, outputs, window.strides, window.extents, strict=True
    ):
        reach = (count - 1) * stride + extent
        margins = [begin, max(0, reach - begin - size), *margins]
    return margins


def _counted(window: Window, site: Site, sizes: Sequence[int], margins: list[int]) -> Tensor:
    """The map with margins, 1 where an element counts: padding if the attribute says so, but never
    what ceil_mode adds beyond it."""
    ones = torch.ones(1, 1, *sizes)
    if not site.attributes["count_include_pad"]:
        return functional.pad(ones, margins)
    padding = [end for both in zip(window.begins, window.ends, strict=True) for end in both[::-1]]
    beyond = [margin - pad for margin, pad in zip(margins, padding[::-1], strict=True)]
    return functional.pad(functional.pad(ones, padding[::-1], value=1.0), beyond)


def _window_sums(window: Window) -> Callable[[Tensor], Tensor]:
    """Sum of every window: an average whose divisor is 1. torch has none in one dimension."""
    kernel, strides = window.kernel, window.strides
    if window.rank == 3:
        return lambda x: functional.avg_pool3d(x, kernel, strides, divisor_override=1)
    if window.rank == 2:
        return lambda x: functional.avg_pool2d(x, kernel, strides, divisor_override=1)
    return lambda x: functional.avg_pool2d(
        x.unsqueeze(2), (1, *kernel), (1, *strides), divisor_override=1
    ).squeeze(2)
