"""Products of codes on oneDNN's integer convolutions, weights packed at load.

Measured on convolutions of ResNet-18, MobileNetV2 and YOLOv8n: four to eight times as fast as fp32.
The sums are exact; scaling them may differ from the reference in the last place of a float32, which
shows as one code where a value lies next to a rounding boundary.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from kpurun.engine.int8_drain import Drain, drain_of, integer_factors, prepared
from kpurun.engine.kernel import Prepared, Site
from kpurun.engine.onednn.convolution import Convolution, Factors, Geometry
from kpurun.engine.onednn.trials import convolves_exactly
from kpurun.ops.window import Window, window_of

LARGEST_PRODUCT = 255 * 128  # of codes

# The kernel for one op, or None where oneDNN has none. The second argument is what the scales of
# the op's weight are, if it has many.
PrepareInteger = Callable[[Site, np.ndarray | None], Prepared | None]


def prepare_int8_convolution(site: Site, scales: np.ndarray | None) -> Prepared | None:
    """One or two spatial axes; a map of one is run as a map of one row."""
    window = window_of("Conv", site.attributes, site.shapes[1][2:])
    factors = integer_factors(site, site.shapes[1][0], scales)
    if factors is None or window.rank > 2:
        return None
    is_flat = window.rank == 1
    weight, maps = site.constants[1], site.shapes[0]
    if is_flat:
        weight, maps, window = weight.unsqueeze(2), (*maps[:2], 1, maps[2]), _as_row(window)
    geometry = Geometry(
        maps, tuple(weight.shape), window.strides, window.begins, window.ends, window.dilations,
        site.attributes["group"], bool(factors.x_zero_point),
    )  # fmt: skip
    drain = drain_of(site, adds_residual=True)
    place = site.place if drain.gives_codes and not is_flat else None
    convolve = _convolution(geometry, weight, site.constants.get(2), factors, drain, place)
    if convolve is None:
        return None
    residual = drain.residual
    is_free = residual in site.overwritable

    def entered(x: Tensor) -> Tensor:
        x = x.unsqueeze(2) if is_flat else x
        return x.contiguous(memory_format=torch.channels_last)

    def overwritten(other: Tensor) -> Tensor:
        other = other.unsqueeze(2) if is_flat else other
        if is_free:
            return other.contiguous(memory_format=torch.channels_last)
        if place is not None:
            return place.copy_(other)
        return torch.empty_like(other, memory_format=torch.channels_last).copy_(other)

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        added = None if residual is None else overwritten(operands[residual])
        out = convolve(entered(operands[0]), added)
        return (out.squeeze(2) if is_flat else out,)

    return prepared(site, drain, kernel)


def _as_row(window: Window) -> Window:
    """Of one axis as of two."""
    return Window(
        kernel=(1, *window.kernel),
        strides=(1, *window.strides),
        dilations=(1, *window.dilations),
        begins=(0, *window.begins),
        ends=(0, *window.ends),
    )


def prepare_int8_matmul(site: Site, scales: np.ndarray | None) -> Prepared | None:
    """By a constant matrix."""
    if len(site.shapes[1]) != 2 or len(site.shapes[0]) < 2 or 1 not in site.constants:
        return None
    return _linear(site, scales, site.constants[1].t(), None)


def prepare_int8_gemm(site: Site, scales: np.ndarray | None) -> Prepared | None:
    """By a constant matrix, plus a constant row."""
    if site.attributes["transA"] or site.attributes["alpha"] != 1 or 1 not in site.constants:
        return None
    weight = site.constants[1] if site.attributes["transB"] else site.constants[1].t()
    columns = weight.shape[0]
    bias = site.constants.get(2)
    if bias is None or not site.attributes["beta"]:
        return _linear(site, scales, weight, None)
    if bias.numel() not in (1, columns) or bias.shape[-1:] not in ((), (1,), (columns,)):
        return None  # a value for each row
    if bias.dim() == 2 and bias.shape[0] != 1:
        return None
    row = bias.reshape(-1).expand(columns) * float(np.float32(site.attributes["beta"]))
    return _linear(site, scales, weight, row)


def _linear(
    site: Site, scales: np.ndarray | None, weight: Tensor, bias: Tensor | None
) -> Prepared | None:
    """weight: [out, in]. Rows are the positions of a map one row high."""
    factors = integer_factors(site, weight.shape[0], scales)
    if factors is None:
        return None
    *leading, depth = site.shapes[0]
    maps, ones, zeros = (1, depth, 1, prod(leading)), (1, 1), (0, 0)
    filters = weight[:, :, None, None]
    geometry = Geometry(
        maps, tuple(filters.shape), ones, zeros, zeros, ones, 1, bool(factors.x_zero_point)
    )
    drain = drain_of(site)
    multiply = _convolution(geometry, filters, bias, factors, drain)
    if multiply is None:
        return None
    shape = site.output_shapes[0]

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        out = multiply(operands[0].contiguous())
        return (out.permute(0, 2, 3, 1).view(shape),)

    return prepared(site, drain, kernel)


def _convolution(
    geometry: Geometry,
    weight: Tensor,
    bias: Tensor | None,
    factors: Factors,
    drain: Drain,
    place: Tensor | None = None,
) -> Convolution | None:
    if geometry.is_shifted and _fits_bias(geometry):
        bias = _with_shift(bias, weight, factors)
        geometry = geometry._replace(is_shifted=False)
    if not all(geometry.maps) or not convolves_exactly(geometry):
        return None
    return Convolution(geometry, weight, factors, replace(drain.finish, bias=bias), place)


def _fits_bias(geometry: Geometry) -> bool:
    """Whether the zero point may be left to the bias, which takes a sixth less time: it adds the
    same to every sum where nothing is padded, and fp32 holds the sums without it."""
    products = prod(geometry.weight[1:])
    return not any(geometry.begins + geometry.ends) and products * LARGEST_PRODUCT < 2**24


def _with_shift(bias: Tensor | None, weight: Tensor, factors: Factors) -> Tensor:
    """The bias less what each filter makes of the zero point."""
    totals = weight.double().flatten(1).sum(1) * factors.x_zero_point
    shift = totals * factors.weight_scales.double() * factors.x_scale
    return ((0 if bias is None else bias.double()) - shift).float()


INTEGER_KERNELS: dict[str, PrepareInteger] = {
    "Conv": prepare_int8_convolution,
    "MatMul": prepare_int8_matmul,
    "Gemm": prepare_int8_gemm,
}
