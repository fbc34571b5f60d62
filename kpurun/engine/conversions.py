"""Values on their way in and out of storage, on torch: what formats.quantized says, vectorised.

Codes are uint8 or int8 tensors, every other float an fp32 tensor that holds only values of its
storage type.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from formats.codec import POSITS
from formats.precision import DType
from formats.program import KPUTensor
from formats.quantized import CODE_RANGES, is_coded, spread_scales
from kpurun.engine.arithmetic import HALF_DTYPES, round_in_place, rounded
from kpurun.engine.posits import round_to_posit

Store = Callable[[Tensor, bool], Tensor]
Load = Callable[[Tensor], Tensor]

# 1.5 · 2^23: added to a float below 2^22 it rounds that to a whole number, half to even, and leaves
# its two's complement in the low bits.
ROUNDING_MAGIC = 12582912.0

FEW_CHANNELS = 4


def prepare_store(tensor: KPUTensor) -> Store | None:
    """How an unrounded fp32 result becomes what `tensor` stores, or None where it is that already.

    The function's second argument says whether it may overwrite the result.
    """
    if is_coded(tensor):
        return lambda result, owned: quantized(result, tensor, owned)
    if tensor.dtype in POSITS:
        return lambda result, _: posit_kept(result, tensor)
    if tensor.dtype in HALF_DTYPES:
        return lambda result, owned: (round_in_place if owned else rounded)(result, tensor.dtype)
    return None


def prepare_load(tensor: KPUTensor, scales: np.ndarray | None) -> Load | None:
    """How what `tensor` stores becomes new fp32 values, or None where it is them already.

    scales: the tensor that `tensor.scales` names.
    """
    if not is_coded(tensor):
        return None
    if scales is None:
        return lambda codes: dequantized(codes, tensor)
    spread = torch.from_numpy(
        spread_scales(scales, tensor.shape, tensor.scale_axis, tensor.group_size).copy()
    )
    return lambda codes: codes.to(torch.float32).mul_(spread)


def quantized(values: Tensor, tensor: KPUTensor, owned: bool = False) -> Tensor:
    """Integer codes of fp32 `values`, which are overwritten if `owned`: round half to even, clamp.

    NaN has no place here.
    """
    codes = _low_bytes(_whole(values, tensor, owned), tensor)
    return codes.add_(tensor.zero_point) if tensor.zero_point else codes


def quantized_image(values: Tensor, tensor: KPUTensor) -> Tensor:
    """As `quantized`, in channels-last order if the tensor is a map: of few channels it is faster
    to move one after the other."""
    if values.dim() != 4 or values.shape[1] > FEW_CHANNELS:
        return quantized(values, tensor)
    codes = quantized(values, tensor)
    image = torch.empty_like(codes, memory_format=torch.channels_last)
    for channel in range(values.shape[1]):
        image[:, channel].copy_(codes[:, channel])
    return image


def prepare_requantise(source: KPUTensor, target: KPUTensor) -> Load:
    """Codes of `source` as codes of `target`.

    In one multiply-add before rounding if that gives what the definition gives, for all codes there
    are; both tensors have one scale.
    """
    if have_same_codes(source, target):
        return lambda codes: codes
    scale, wanted = (float(np.float32(tensor.scale or 0)) for tensor in (source, target))
    low, high = CODE_RANGES[target.dtype]
    ratio = scale / wanted
    offset = torch.tensor((target.zero_point or 0) - (source.zero_point or 0) * ratio)

    def in_one_step(codes: Tensor) -> Tensor:
        scaled = torch.add(offset, codes, alpha=ratio).clamp_(low, high)
        return _low_bytes(scaled.add_(ROUNDING_MAGIC).view(torch.int32), target)

    def in_two_steps(codes: Tensor) -> Tensor:
        return quantized(dequantized(codes, source), target, owned=True)

    first, last = CODE_RANGES[source.dtype]
    every = torch.arange(first, last + 1).to(code_type(source))
    return in_one_step if in_one_step(every).equal(in_two_steps(every)) else in_two_steps


def _whole(values: Tensor, tensor: KPUTensor, owned: bool) -> Tensor:
    """int32 whose low bytes are those of the codes less the zero point."""
    assert tensor.scale is not None, "an activation has one scale"
    low, high = CODE_RANGES[tensor.dtype]
    zero_point = tensor.zero_point or 0
    scale = float(np.float32(tensor.scale))
    centred = torch.div(values, scale, out=values if owned else None)
    centred.clamp_(low - zero_point, high - zero_point).add_(ROUNDING_MAGIC)
    return centred.view(torch.int32)


def _low_bytes(whole: Tensor, tensor: KPUTensor) -> Tensor:
    return whole.to(code_type(tensor))


def code_type(tensor: KPUTensor) -> torch.dtype:
    """What holds the codes of a tensor."""
    return torch.uint8 if tensor.dtype is DType.UINT8 else torch.int8


def dequantized(codes: Tensor, tensor: KPUTensor) -> Tensor:
    """New fp32 values of the codes of a tensor with one scale."""
    assert tensor.scale is not None, "tensors of many scales are constants"
    values = codes.to(torch.float32)
    centred = values.sub_(tensor.zero_point) if tensor.zero_point else values
    return centred.mul_(float(np.float32(tensor.scale)))


def posit_kept(values: Tensor, tensor: KPUTensor) -> Tensor:
    """New fp32 values: the nearest posits, times the tensor's scale if it has one."""
    if tensor.scale is None:
        return round_to_posit(values, tensor.dtype)
    scale = float(np.float32(tensor.scale))
    return round_to_posit(values / scale, tensor.dtype).mul_(scale)


def have_same_codes(a: KPUTensor, b: KPUTensor) -> bool:
    """Whether a code of one is the same real number as a code of the other."""
    return (
        is_coded(a)
        and a.scales is None
        and b.scales is None
        and (a.dtype, a.scale, a.zero_point or 0) == (b.dtype, b.scale, b.zero_point or 0)
    )
