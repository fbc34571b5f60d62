"""The sliding window that convolution and pooling share: its geometry, samples and input axes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from kpurun.ops.checks import at_least, integers
from kpurun.ops.loopnest import Axis
from kpurun.ops.types import OpError

SPATIAL_NAMES = {1: "W", 2: "HW", 3: "DHW"}


@dataclass(frozen=True)
class Window:
    """Per spatial axis: kernel size, stride, dilation, and padding before and after."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def extents(self) -> tuple[int, ...]:
        """Input positions from the first to the last tap: dilation·(kernel - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        return tuple(zip(self.begins, self.ends, strict=True))


def window_of(op: str, attributes: Mapping[str, Any], kernel: tuple[int, ...]) -> Window:
    """The window that ONNX attributes describe; None stands for stride 1, dilation 1, no padding.

    `pads` is every beginning, then every end, as in ONNX.
    """
    rank = len(kernel)

    def per_axis(name: str, default: int, length: int, least: int) -> tuple[int, ...]:
        value = attributes.get(name)
        values = (default,) * length if value is None else integers(op, name, value, length)
        at_least(op, name, values, least)
        return values

    at_least(op, "kernel_shape", kernel, 1)
    pads = per_axis("pads", 0, 2 * rank, 0)
    return Window(
        kernel=kernel,
        strides=per_axis("strides", 1, rank, 1),
        dilations=per_axis("dilations", 1, rank, 1),
        begins=pads[:rank],
        ends=pads[rank:],
    )


def spatial_rank(op: str, rank: int) -> int:
    """Number of spatial axes of an operand [N, C, spatial…]; 1, 2 or 3, or OpError."""
    if rank - 2 not in SPATIAL_NAMES:
        raise OpError(
            f"{op}: the input must be [batch, channels, 1 to 3 spatial axes], got {rank} dimensions"
        )
    return rank - 2


def output_sizes(
    op: str, window: Window, sizes: tuple[int, ...], ceil_mode: bool = False
) -> tuple[int, ...]:
    """Number of window positions on each axis.

    With ceil_mode PyTorch's rule: a last, partial window counts if it starts inside the input or
    its left padding (torch/csrc: pooling_output_shape_pad_lr).
    """
    counts = []
    for size, extent, stride, begin, end in zip(
        sizes, window.extents, window.strides, window.begins, window.ends, strict=True
    ):
        room = size + begin + end - extent
        if room < 0:
            raise OpError(
                f"{op}: a window of extent {extent} does not fit an axis of {size} "
                f"padded by {begin} and {end}"
            )
        count = (-(-room // stride) if ceil_mode else room // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + begin:
            count -= 1
        counts.append(count)
    return tuple(counts)


def padded_for(x: np.ndarray, window: Window, outputs: tuple[int, ...], value: float) -> np.ndarray:
    """`x` [N, C, spatial…] padded with `value` so that every window position lies inside."""
    widths = [(0, 0), (0, 0)]
    for size, begin, count, stride, extent in zip(
        x.shape[2:], window.begins, outputs, window.strides, window.extents, strict=True
    ):
        reach = (count - 1) * stride + extent
        widths.append((begin, max(0, reach - begin - size)))
    return np.pad(x, widths, constant_values=value)


def taps(padded: np.ndarray, window: Window, outputs: tuple[int, ...]) -> Iterator[np.ndarray]:
    """For each kernel position, in the order of a flat kernel, the samples [N, C, outputs…]."""
    for tap in product(*(range(size) for size in window.kernel)):
        slices = tuple(
            slice(k * dilation, k * dilation + (count - 1) * stride + 1, stride)
            for k, dilation, count, stride in zip(
                tap, window.dilations, outputs, window.strides, strict=True
            )
        )
        yield padded[(slice(None), slice(None), *slices)]


def input_axes(window: Window, sizes: tuple[int, ...]) -> tuple[Axis, ...]:
    """Spatial input axes: stride per output position, dilation per tap, offset by the padding."""
    letters = SPATIAL_NAMES[window.rank]
    return tuple(
        Axis(size, ((f"O{letter}", stride), (f"K{letter}", dilation)), offset=-begin)
        for letter, size, stride, dilation, begin in zip(
            letters, sizes, window.strides, window.dilations, window.begins, strict=True
        )
    )
