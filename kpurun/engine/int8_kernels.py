"""Products of codes on oneDNN's integer kernels, weights packed at load.

Measured on convolutions of ResNet-18, MobileNetV2 and YOLOv8n: three to four times as fast as fp32.
The sums are exact; scaling them may differ from the reference in the last place of a float32, which
shows as one code where a value lies next to a rounding boundary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from kpurun.engine.convolution import map_shape, split_padding, with_margins
from kpurun.engine.geometry import Geometry, convolves_exactly
from kpurun.engine.int8_drain import drain_of, integer_factors, prepared, scale_of
from kpurun.engine.kernel import Prepared, Site
from kpurun.ops.window import window_of

CONVOLUTION_POST_OPS = frozenset({"relu", "hardtanh", "hardswish", "swish"})
LINEAR_POST_OPS = frozenset({"relu", "hardtanh", "swish"})  # its hardswish computes something else

# The kernel for one op, or None where oneDNN has none. The second argument is what the scales of
# the op's weight are, if it has many.
PrepareInteger = Callable[[Site, np.ndarray | None], Prepared | None]


def prepare_int8_convolution(site: Site, scales: np.ndarray | None) -> Prepared | None:
    """One or two spatial axes; a map of one is run as a map of one row."""
    window = window_of("Conv", site.attributes, site.shapes[1][2:])
    channels, groups = site.shapes[1][0], site.attributes["group"]
    factors = integer_factors(site, channels, scales)
    if factors is None or window.rank > 2:
        return None
    is_flat = window.rank == 1
    padding, margins = split_padding(window)
    geometry = [list(window.strides), padding, list(window.dilations)]
    weight, bias = site.constants[1], site.constants.get(2)
    if is_flat:
        weight = weight.unsqueeze(2)
        geometry = [[value, *given] for value, given in zip((1, 0, 1), geometry, strict=True)]
    maps = map_shape(site, margins, is_flat)
    strides, pads, dilations = (tuple(each) for each in geometry)
    x_scale, zero_point = factors.x_scale, factors.x_zero_point
    tried = Geometry(
        tuple(maps), tuple(weight.shape), strides, pads, dilations, groups, bool(zero_point)
    )
    if not convolves_exactly(tried):
        return None
    packed = torch.ops.onednn.qconv_prepack(
        weight, factors.weight_scales, x_scale, zero_point, *geometry, groups, maps
    )
    drain = drain_of(site, CONVOLUTION_POST_OPS, adds_residual=True)
    weights = (packed, factors.weight_scales, factors.weight_zero_points)
    convolve = torch.ops.onednn.qconv2d_pointwise.default
    residual, name, parameters = drain.residual, drain.post_op[0], drain.post_op[1]

    def entered(x: Tensor) -> Tensor:
        x = with_margins(x, margins, zero_point)
        x = x.unsqueeze(2) if is_flat else x
        return x.contiguous(memory_format=torch.channels_last)

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        out = convolve(
            entered(operands[0]), x_scale, zero_point, *weights, bias, *geometry, groups,
            *drain.result, name, parameters, "",
        )  # fmt: skip
        return (out.squeeze(2) if is_flat else out,)

    if residual is None:
        return prepared(site, drain, kernel)
    convolve_and_add = torch.ops.onednn.qconv2d_pointwise.binary
    added = scale_of(site.inputs[residual])
    is_free = residual in site.overwritable

    def adding_kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        other = operands[residual].unsqueeze(2) if is_flat else operands[residual]
        if is_free:
            overwritten = other.contiguous(memory_format=torch.channels_last)
        else:
            overwritten = torch.empty_like(other, memory_format=torch.channels_last).copy_(other)
        out = convolve_and_add(
            entered(operands[0]), x_scale, zero_point, *weights, overwritten, bias, *geometry,
            groups, *drain.result, *added, "sum", 1.0, name, parameters, "",
        )  # fmt: skip
        return (out.squeeze(2) if is_flat else out,)

    return prepared(site, drain, adding_kernel)


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
    """weight: [out, in]"""
    factors = integer_factors(site, weight.shape[0], scales)
    if factors is None:
        return None
    packed = torch.ops.onednn.qlinear_prepack(weight.contiguous(), list(site.shapes[0]))
    drain = drain_of(site, LINEAR_POST_OPS)
    weights = (packed, factors.weight_scales, factors.weight_zero_points)
    name, parameters, _ = drain.post_op
    x_scale, zero_point = factors.x_scale, factors.x_zero_point
    multiply = torch.ops.onednn.qlinear_pointwise.default

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        out = multiply(
            operands[0].contiguous(), x_scale, zero_point, *weights, bias, *drain.result,
            name, parameters, "",
        )  # fmt: skip
        return (out,)

    return prepared(site, drain, kernel)


INTEGER_KERNELS: dict[str, PrepareInteger] = {
    "Conv": prepare_int8_convolution,
    "MatMul": prepare_int8_matmul,
    "Gemm": prepare_int8_gemm,
}
