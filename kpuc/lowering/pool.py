"""Pooling: windows that the machine has no attribute for are built from ones it has."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch

from kpuc.lowering.site import Absent, Lowered, Site, Symbol, Table, Tensor, per_axis

aten = torch.ops.aten

_INDICES = Absent("MaxPool", "return_indices=True: the machine gives the maxima only")


def _on_batches(at: Site, x: Tensor, spatial: int, pool: Callable[[Tensor], Symbol]) -> Symbol:
    """`pool` on [N, C, spatial…]; torch also takes [C, spatial…]."""
    if len(x.shape) == spatial + 2:
        return pool(x)
    return at.emit("Squeeze", pool(at.emit("Unsqueeze", x, axes=(0,))), axes=(0,))


def _max_pool(
    at: Site,
    x: Tensor,
    spatial: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Symbol:
    sizes = per_axis(kernel, spatial)
    return _on_batches(
        at,
        x,
        spatial,
        lambda images: at.emit(
            "MaxPool",
            images,
            kernel_shape=sizes,
            strides=per_axis(stride, spatial) if stride else sizes,
            pads=per_axis(padding, spatial) * 2,
            dilations=per_axis(dilation, spatial),
            ceil_mode=ceil_mode,
        ),
    )


def max_pool(spatial: int) -> Callable[..., Lowered]:
    """max_pool1d, 2d, 3d; an empty stride means the kernel's size."""

    def lower(
        at: Site,
        x: Tensor,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil_mode: bool,
    ) -> Lowered:
        return _max_pool(at, x, spatial, kernel, stride, padding, dilation, ceil_mode)

    return lower


def max_pool_with_indices(spatial: int) -> Callable[..., Lowered]:
    """As max_pool; the indices are refused if anything uses them."""

    def lower(
        at: Site,
        x: Tensor,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        ceil_mode: bool,
    ) -> Lowered:
        pooled = _max_pool(at, x, spatial, kernel, stride, padding, dilation, ceil_mode)
        return pooled, _INDICES

    return lower


def avg_pool(spatial: int) -> Callable[..., Lowered]:
    """avg_pool2d and 3d."""

    def lower(
        at: Site,
        x: Tensor,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Lowered:
        sizes = per_axis(kernel, spatial)
        strides = per_axis(stride, spatial) if stride else sizes
        pads = per_axis(padding, spatial)
        if divisor_override is not None:
            return _on_batches(
                at,
                x,
                spatial,
                lambda images: _sum_pool(
                    at, images, sizes, strides, pads, ceil_mode, divisor_override
                ),
            )
        return _on_batches(
            at,
            x,
            spatial,
            lambda images: at.emit(
                "AveragePool",
                images,
                kernel_shape=sizes,
                strides=strides,
                pads=pads * 2,
                ceil_mode=ceil_mode,
                count_include_pad=count_include_pad,
            ),
        )

    return lower


def avg_pool1d(
    at: Site,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> Lowered:
    """The one-dimensional form has no divisor_override."""
    return avg_pool(1)(at, x, kernel, stride, padding, ceil_mode, count_include_pad, None)


def _sum_pool(
    at: Site,
    x: Tensor,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    padding: tuple[int, ...],
    ceil_mode: bool,
    divisor: int,
) -> Symbol:
    """Window sums over a fixed divisor: zeros are padded explicitly, so that every window is whole,
    then its average is scaled by elements / divisor.
    """
    outputs = at.shape[-len(kernel) :]
    extra = [
        max(0, (count - 1) * step + k - size - 2 * pad) if ceil_mode else 0
        for count, step, k, size, pad in zip(
            outputs, strides, kernel, x.shape[2:], padding, strict=True
        )
    ]
    ends = tuple(pad + more for pad, more in zip(padding, extra, strict=True))
    padded = x
    if any(ends):
        padded = at.emit("Pad", x, pads=(0, 0, *padding, 0, 0, *ends), mode="constant", value=0.0)
    averages = at.emit("AveragePool", padded, kernel_shape=kernel, strides=strides)
    return at.emit("Mul", averages, prod(kernel) / divisor)


def adaptive_avg_pool(spatial: int) -> Callable[..., Lowered]:
    """adaptive_avg_pool1d, 2d, 3d: output position i of n averages [⌊i·size/n⌋, ⌈(i+1)·size/n⌉)."""

    def lower(at: Site, x: Tensor, output_size: Sequence[int]) -> Lowered:
        targets = per_axis(output_size, spatial)
        return _on_batches(
            at, x, spatial, lambda images: _adaptive(at, images, targets, "AveragePool")
        )

    return lower


def adaptive_max_pool(spatial: int) -> Callable[..., Lowered]:
    """adaptive_max_pool1d, 2d, 3d, with the windows of adaptive_avg_pool; indices are refused."""

    def lower(at: Site, x: Tensor, output_size: Sequence[int]) -> Lowered:
        targets = per_axis(output_size, spatial)
        pooled = _on_batches(
            at, x, spatial, lambda images: _adaptive(at, images, targets, "MaxPool")
        )
        return pooled, _INDICES

    return lower


def _adaptive(at: Site, x: Tensor, targets: tuple[int, ...], op_type: str) -> Symbol:
    if op_type == "AveragePool" and set(targets) == {1}:
        return at.emit("GlobalAveragePool", x)
    windows = [_windows(size, target) for size, target in zip(x.shape[2:], targets, strict=True)]
    regular = [_regular(window) for window in windows]
    out = x
    if any(sizes is not None for sizes in regular):
        kernel = tuple(1 if sizes is None else sizes[0] for sizes in regular)
        strides = tuple(1 if sizes is None else sizes[1] for sizes in regular)
        out = at.emit(op_type, out, kernel_shape=kernel, strides=strides)
    for index, sizes in enumerate(regular):
        if sizes is None:
            out = _uneven(at, out, index, windows[index], op_type)
    assert isinstance(out, Symbol)
    return out


def _windows(size: int, count: int) -> list[tuple[int, int]]:
    """(start, end) of each adaptive window on one axis (torch: start_index, end_index)."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _regular(windows: list[tuple[int, int]]) -> tuple[int, int] | None:
    """(kernel, stride) if the windows are evenly spaced and equally long, else None."""
    lengths = {end - start for start, end in windows}
    starts = [start for start, _ in windows]
    steps = {after - before for before, after in pairwise(starts)}
    if len(lengths) > 1 or len(steps) > 1 or steps == {0}:
        return None
    return lengths.pop(), steps.pop() if steps else 1


def _uneven(at: Site, x: Tensor, axis: int, windows: list[tuple[int, int]], op_type: str) -> Symbol:
    """Windows of a few lengths: pool at every position with each length, then pick."""
    spatial = len(x.shape) - 2
    pooled: list[Symbol] = []
    first: dict[int, int] = {}  # window length -> where its results start after Concat
    total = 0
    for length in sorted({end - start for start, end in windows}):
        kernel = tuple(length if index == axis else 1 for index in range(spatial))
        pooled.append(at.emit(op_type, x, kernel_shape=kernel))
        first[length] = total
        total += x.shape[2 + axis] - length + 1
    together = pooled[0] if len(pooled) == 1 else at.emit("Concat", *pooled, axis=2 + axis)
    return at.gather(together, 2 + axis, [first[end - start] + start for start, end in windows])


TABLE: Table = {
    aten.max_pool1d.default: max_pool(1),
    aten.max_pool2d.default: max_pool(2),
    aten.max_pool3d.default: max_pool(3),
    aten.max_pool2d_with_indices.default: max_pool_with_indices(2),
    aten.max_pool3d_with_indices.default: max_pool_with_indices(3),
    aten.avg_pool1d.default: avg_pool1d,
    aten.avg_pool2d.default: avg_pool(2),
    aten.avg_pool3d.default: avg_pool(3),
    aten.adaptive_avg_pool1d.default: adaptive_avg_pool(1),
    aten.adaptive_avg_pool2d.default: adaptive_avg_pool(2),
    aten.adaptive_avg_pool3d.default: adaptive_avg_pool(3),
    aten.adaptive_max_pool1d.default: adaptive_max_pool(1),
    aten.adaptive_max_pool2d.default: adaptive_max_pool(2),
    aten.adaptive_max_pool3d.default: adaptive_max_pool(3),
}
