"""What oneDNN's integer kernels do after the sum: scales, bias, activation, residual, rounding.

Everything that is left out here runs in fp32 on the kernel's unrounded result, so that there is one
rounding in any case.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from formats.precision import DType
from formats.program import KPUTensor
from formats.quantized import CODE_RANGES, is_coded
from kpurun.engine.convolution import NO_POST_OP, PostOp, post_op_of
from kpurun.engine.kernel import Prepared, Site
from kpurun.engine.onednn.convolution import Factors, Finish

WELL_WITHIN = 0.25  # of a code: half as far as rounding to it reaches


@dataclass(frozen=True)
class Drain:
    """The part of an op behind its sum that the kernel takes over, less the bias.

    stages_done: how many stages; residual: index of the operand that is added.
    """

    stages_done: int
    residual: int | None
    finish: Finish

    @property
    def gives_codes(self) -> bool:
        """Whether the result is as the output stores it."""
        return self.finish.dtype is torch.uint8


def drain_of(site: Site, adds_residual: bool = False) -> Drain:
    """As much of the epilogue as a kernel with these post-ops computes with the same meaning."""
    if adds_residual and (index := _residual(site)) is not None:
        activation = post_op_of(site.op.epilogue[1] if len(site.op.epilogue) == 2 else None)
        finish = replace(_codes(site, activation), added=scale_of(site.inputs[index]))
        return Drain(len(site.op.epilogue), index, finish)
    post_op = post_op_of(site.next_stage)
    stages_done = int(post_op is not NO_POST_OP)
    if stages_done == len(site.op.epilogue) and _is_byte(site.outputs[0]):
        return Drain(stages_done, None, _codes(site, post_op))
    return Drain(stages_done, None, Finish(activation=post_op[:2]))


def _codes(site: Site, post_op: PostOp) -> Finish:
    scale, zero_point = scale_of(site.outputs[0])
    if _is_saturation(post_op, scale, zero_point):
        post_op = NO_POST_OP
    return Finish(activation=post_op[:2], scale=scale, zero_point=zero_point, dtype=torch.uint8)


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


def integer_factors(site: Site, channels: int, scales: np.ndarray | None) -> Factors | None:
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
    return Factors(*scale_of(x), torch.from_numpy(np.full(channels, each, np.float32)))


def scale_of(tensor: KPUTensor) -> tuple[float, int]:
    """Scale and zero point of a tensor with one of each."""
    assert tensor.scale is not None, "only weights have many scales"
    return float(np.float32(tensor.scale)), tensor.zero_point or 0


def _is_byte(tensor: KPUTensor) -> bool:
    return is_coded(tensor) and tensor.dtype is DType.UINT8 and tensor.scale is not None
