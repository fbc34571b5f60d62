"""What oneDNN's integer kernels do after the sum: scales, bias, activation, residual, rounding.

Everything that is left out here runs in fp32 on the kernel's unrounded result, so that there is one
rounding in any case.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from formats.precision import DType
from formats.program import KPUTensor
from formats.quantized import CODE_RANGES, is_coded
from kpurun.engine.convolution import NO_POST_OP, PostOp, post_op_of
from kpurun.engine.kernel import Prepared, Site

WELL_WITHIN = 0.25  # of a code: half as far as rounding to it reaches


@dataclass(frozen=True)
class Drain:
    """The part of an op behind its sum that the kernel takes over.

    stages_done: how many stages. residual: index of the operand that is added before `post_op`.
    scale, zero_point, dtype: of the kernel's result, which is unrounded unless dtype is uint8.
    """

    stages_done: int
    post_op: PostOp
    residual: int | None
    scale: float
    zero_point: int
    dtype: torch.dtype

    @property
    def gives_codes(self) -> bool:
        """Whether the result is as the output stores it."""
        return self.dtype is torch.uint8

    @property
    def result(self) -> tuple[float, int, torch.dtype]:
        """Scale, zero point and dtype, as the kernels take them."""
        return self.scale, self.zero_point, self.dtype


@dataclass(frozen=True)
class IntegerFactors:
    """Codes that the integer kernels multiply, and what one unit of the sum is worth.

    x_scale, x_zero_point: of the activation. weight_scales: fp32, one per output channel.
    """

    x_scale: float
    x_zero_point: int
    weight_scales: Tensor
    weight_zero_points: Tensor


def drain_of(site: Site, unary: frozenset[str], adds_residual: bool = False) -> Drain:
    """As much of the epilogue as a kernel with these post-ops computes with the same meaning."""
    if adds_residual and (index := _residual(site)) is not None:
        activation = post_op_of(site.op.epilogue[1] if len(site.op.epilogue) == 2 else None)
        return _codes(site, len(site.op.epilogue), activation, index)
    post_op = post_op_of(site.next_stage)
    if post_op[0] not in unary:
        post_op = NO_POST_OP
    stages_done = int(post_op is not NO_POST_OP)
    if stages_done == len(site.op.epilogue) and _is_byte(site.outputs[0]):
        return _codes(site, stages_done, post_op, None)
    return Drain(stages_done, post_op, None, 1.0, 0, torch.float32)


def _codes(site: Site, stages_done: int, post_op: PostOp, residual: int | None) -> Drain:
    scale, zero_point = scale_of(site.outputs[0])
    if _is_saturation(post_op, scale, zero_point):
        post_op = NO_POST_OP
    return Drain(stages_done, post_op, residual, scale, zero_point, torch.uint8)


def _is_saturation(post_op: PostOp, scale: float, zero_point: int) -> bool:
    """Whether it bounds values only where the codes end anyway, which costs nothing.

    Its bounds become the first and the last code, well away from where they would round to others.
    """
    name, parameters, _ = post_op
    if name not in ("relu", "hardtanh"):
        return False
    least, most = parameters or (0.0, math.inf)
    first, last = (bound / scale + zero_point for bound in (least, most))
    low, high = CODE_RANGES[DType.UINT8]
    return first < low + WELL_WITHIN and last > high - WELL_WITHIN


def _residual(site: Site) -> int | None:
    """Operand of the epilogue Add, or Add and Relu, of two uint8 tensors of one shape."""
    kinds = tuple(stage.op_type for stage in site.op.epilogue)
    index = site.op.epilogue[0].operand if kinds in (("Add",), ("Add", "Relu")) else None
    if index is None or not _is_byte(site.outputs[0]):
        return None
    operand = site.inputs[index]
    is_alike = _is_byte(operand) and operand.shape == site.outputs[0].shape
    return index if is_alike and not operand.is_weight else None


def prepared(site: Site, drain: Drain, kernel: Any) -> Prepared:
    """`kernel` as one of an op whose weights and bias it holds."""
    return Prepared(
        kernel,
        absorbed=frozenset(range(1, site.op.operand_count)),
        stages_done=drain.stages_done,
        takes_codes=True,
        gives_codes=drain.gives_codes,
    )


def integer_factors(site: Site, channels: int, scales: np.ndarray | None) -> IntegerFactors | None:
    """The factors of a uint8 activation and a constant weight; None where the kernels have no such
    product: a zero point of the weight, scales of groups, anything that is not constant.

    channels: of the output; scales: what the weight's `scales` names.
    """
    x, weight = site.inputs[:2]
    constants = range(1, site.op.operand_count)
    is_plain = (
        _is_byte(x)
        and not x.is_weight
        and weight.dtype in (DType.INT8, DType.INT4)
        and not (weight.zero_point or weight.group_size)
        and all(index in site.constants for index in constants)
    )
    if not is_plain:
        return None
    each = np.float32(weight.scale) if scales is None else scales
    return IntegerFactors(
        *scale_of(x),
        weight_scales=torch.from_numpy(np.full(channels, each, np.float32)),
        weight_zero_points=torch.zeros(channels, dtype=torch.int32),
    )


def scale_of(tensor: KPUTensor) -> tuple[float, int]:
    """Scale and zero point of a tensor with one of each."""
    assert tensor.scale is not None, "only weights have many scales"
    return float(np.float32(tensor.scale)), tensor.zero_point or 0


def _is_byte(tensor: KPUTensor) -> bool:
    return is_coded(tensor) and tensor.dtype is DType.UINT8 and tensor.scale is not None
