"""Products of codes without integer kernels: floating point that holds every sum exactly.

For processors whose integer kernels saturate, and for what oneDNN has no integer kernel for, such
as the products of two activations.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from formats.program import KPUTensor
from formats.quantized import CODE_RANGES
from kpurun.engine.codes import output_scales
from kpurun.engine.convolution import split_padding, with_margins
from kpurun.engine.kernel import Prepared, Site
from kpurun.ops.window import window_of

LARGEST_EXACT_FP32 = 1 << 24  # every whole number up to here

Multiply = Callable[[Tensor, Tensor], Tensor]


def prepare_exact_products(site: Site, values: Mapping[str, np.ndarray]) -> Prepared:
    """values: of the program's constants, codes where they are coded."""
    factors = list(site.inputs[:2])
    dtype = torch.float32 if _fits_fp32(site) else torch.float64
    zero_points = [tensor.zero_point or 0 for tensor in factors]
    scale = torch.from_numpy(output_scales(site.op.op_type, factors, values).copy())
    multiply = MULTIPLY[site.op.op_type](site)
    held = {
        index: site.constants[index].to(dtype) - zero_points[index]
        for index in (0, 1)
        if index in site.constants
    }
    add_bias = _prepare_bias(site)

    def centred(index: int, operands: Sequence[Tensor]) -> Tensor:
        if index in held:
            return held[index]
        return operands[index].to(dtype).sub_(zero_points[index])

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        total = multiply(centred(0, operands), centred(1, operands))
        return (add_bias(total.to(torch.float32).mul_(scale), operands),)

    return Prepared(kernel, absorbed=frozenset(held), takes_codes=True)


def _fits_fp32(site: Site) -> bool:
    """Whether no sum of products, however far it is, exceeds what fp32 counts by ones."""
    if site.attributes.get("alpha", 1) != 1:
        return False
    x, weight = (_largest(tensor) for tensor in site.inputs[:2])
    of_one_output = weight * _depth(site)
    if site.op.op_type == "Conv" and 1 in site.constants:
        of_one_output = int(site.constants[1].to(torch.int64).abs().flatten(1).sum(1).max())
    return x * of_one_output <= LARGEST_EXACT_FP32


def _largest(tensor: KPUTensor) -> int:
    low, high = CODE_RANGES[tensor.dtype]
    zero_point = tensor.zero_point or 0
    return max(high - zero_point, zero_point - low)


def _depth(site: Site) -> int:
    """How many products one sum has."""
    if site.op.op_type == "Conv":
        return int(np.prod(site.shapes[1][1:]))
    return site.shapes[0][0] if site.attributes.get("transA") else site.shapes[0][-1]


def _prepare_bias(site: Site) -> Callable[[Tensor, Sequence[Tensor]], Tensor]:
    if site.op.operand_count < 3:
        return lambda result, _: result
    beta = float(np.float32(site.attributes.get("beta", 1)))
    shape = [-1, *[1] * (len(site.output_shapes[0]) - 2)] if site.op.op_type == "Conv" else None

    def add(result: Tensor, operands: Sequence[Tensor]) -> Tensor:
        bias = operands[2] * beta
        return result.add_(bias if shape is None else bias.reshape(shape))

    return add


def _convolution(site: Site) -> Multiply:
    window = window_of("Conv", site.attributes, site.shapes[1][2:])
    padding, margins = split_padding(window)
    groups, no_output_padding = site.attributes["group"], [0] * window.rank
    return lambda x, weight: torch.convolution(
        with_margins(x, margins), weight, None, window.strides, padding, window.dilations,
        False, no_output_padding, groups,
    )  # fmt: skip


def _matmul(_: Site) -> Multiply:
    return torch.matmul


def _gemm(site: Site) -> Multiply:
    turn_a, turn_b = site.attributes["transA"], site.attributes["transB"]
    alpha = float(np.float32(site.attributes["alpha"]))

    def multiply(a: Tensor, b: Tensor) -> Tensor:
        product = torch.mm(a.t() if turn_a else a, b.t() if turn_b else b)
        return product if alpha == 1 else product.mul_(alpha)

    return multiply


MULTIPLY: dict[str, Callable[[Site], Multiply]] = {
    "Conv": _convolution,
    "MatMul": _matmul,
    "Gemm": _gemm,
}
