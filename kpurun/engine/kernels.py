"""The fast engine's kernel for every op: one explicit table, no op without an entry.

A kernel gives the unrounded fp32 result of the op; where torch has no function with the record's
meaning, the entry is the record's own numpy function.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kpurun.engine.convolution import prepare_convolution
from kpurun.engine.kernel import Prepare, Prepared, Site, dense, fill, is_channels_last, one
from kpurun.engine.pooling import (
    prepare_average_pool,
    prepare_global_average_pool,
    prepare_max_pool,
)
from kpurun.engine.reference import accumulate
from kpurun.engine.stages import ACTIVATIONS
from kpurun.ops.types import OpError


def prepare_by_record(site: Site) -> Prepared:
    """The record's own numpy function, epilogue and all: slow, exact, for any element type."""

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        results = accumulate(site.op, tuple(operand.numpy() for operand in operands))
        return [torch.from_numpy(np.array(result, order="C")) for result in results]

    return Prepared(kernel, stages_done=len(site.op.epilogue))


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Prepare:
    return lambda _: Prepared(lambda operands: (function(operands[0], operands[1]),))


def _activation(site: Site) -> Prepared:
    activate = ACTIVATIONS[site.op.op_type]
    return one(lambda x: activate(x.clone(), site.attributes))


def _reshape(site: Site) -> Prepared:
    """The operand itself if its shape stays: even then a reshape hides from torch that a map of one
    image is channels-last."""
    (shape,) = site.output_shapes
    if shape == site.shapes[0]:
        return one(lambda x: x, owns_results=False)
    return one(lambda x: x.reshape(shape), owns_results=False)


def _transpose(site: Site) -> Prepared:
    given = site.attributes["perm"]
    rank = len(site.shapes[0])
    order = [axis % rank for axis in given] if given is not None else range(rank)[::-1]
    return one(lambda x: x.permute(*order), owns_results=False)


def _gemm(site: Site) -> Prepared:
    alpha, beta = site.attributes["alpha"], site.attributes["beta"]
    turn_a, turn_b = site.attributes["transA"], site.attributes["transB"]
    has_c = site.op.operand_count == 3

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        a = operands[0].t() if turn_a else operands[0]
        b = operands[1].t() if turn_b else operands[1]
        if has_c and alpha == beta == 1:
            return (torch.addmm(operands[2], a, b),)
        out = torch.mm(a, b).mul_(alpha)
        return (out.add_(operands[2] * beta) if has_c else out,)

    return Prepared(kernel)


def _batch_normalization(site: Site) -> Prepared:
    """In the record's order of operations, so that the numbers are the record's."""
    epsilon = site.attributes["epsilon"]
    per_channel = (-1, *(1,) * (len(site.shapes[0]) - 2))

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        x, scale, bias, mean, variance = operands[:5]
        factor = (scale / (variance.double() + epsilon).sqrt()).float()
        centred = x - mean.reshape(per_channel)
        return (centred.mul_(factor.reshape(per_channel)).add_(bias.reshape(per_channel)),)

    return Prepared(kernel)


def _softmax(site: Site) -> Prepared:
    axis = site.attributes["axis"]
    return one(lambda x: torch.softmax(x, axis))


def _reduction(function: Callable[..., Tensor]) -> Prepare:
    """Sums in float64, as the record's."""

    def prepare(site: Site) -> Prepared:
        given = site.attributes["axes"]
        axes = list(range(len(site.shapes[0]))) if given is None else list(given)
        keepdims = bool(site.attributes["keepdims"])
        return one(lambda x: function(x, axes, keepdims, dtype=torch.float64).to(torch.float32))

    return prepare


def _concat(site: Site) -> Prepared:
    axis = site.attributes["axis"]
    if site.in_order:
        return _concat_in_order(site)
    return Prepared(lambda operands: (torch.cat([dense(x) for x in operands], axis),))


def _concat_in_order(site: Site) -> Prepared:
    axis = site.attributes["axis"]
    (shape,) = site.output_shapes
    sizes = [each[axis] for each in site.shapes]

    def kernel(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        out = torch.empty(shape, dtype=operands[0].dtype)
        for part, x in zip(torch.split(out, sizes, axis), operands, strict=True):
            fill(part, x)
        return (out,)

    return Prepared(kernel)


def _split(site: Site) -> Prepared:
    axis, sizes = site.attributes["axis"], list(site.attributes["split"])
    return Prepared(lambda operands: torch.split(operands[0], sizes, axis), owns_results=False)


def _slice(site: Site) -> Prepared:
    starts, ends = site.attributes["starts"], site.attributes["ends"]
    axes, steps = site.attributes["axes"], site.attributes["steps"]
    shape = site.shapes[0]
    picked = [slice(None)] * len(shape)
    for start, end, axis, step in zip(
        starts,
        ends,
        range(len(starts)) if axes is None else axes,
        [1] * len(starts) if steps is None else steps,
        strict=True,
    ):
        picked[axis] = slice(*slice(start, end, step).indices(shape[axis]))
    index = tuple(picked)
    return one(lambda x: x[index], owns_results=False)


def _gather(site: Site) -> Prepared:
    axis = site.attributes["axis"] % len(site.shapes[0])
    (shape,) = site.output_shapes
    size = site.shapes[0][axis]
    if 1 not in site.constants:
        return Prepared(
            lambda operands: (
                _select(operands[0], axis, _positions(operands[1], axis, size)).reshape(shape),
            )
        )
    picked = _positions(site.constants[1], axis, size)
    if site.constants[1].dim() == 1:
        return one(lambda x: _select(x, axis, picked))
    return one(lambda x: _select(x, axis, picked).reshape(shape))


def _positions(indices: Tensor, axis: int, size: int) -> Tensor:
    """`indices` flat and counted from the start, or OpError for one that is out of range."""
    flat = indices.reshape(-1).to(torch.int64)
    wrong = flat[(flat < -size) | (flat >= size)]
    if wrong.numel():
        raise OpError(
            f"Gather: index {int(wrong[0])} is out of range for axis {axis} of size {size}"
        )
    return torch.where(flat < 0, flat + size, flat)


def _select(x: Tensor, axis: int, positions: Tensor) -> Tensor:
    """index_select that keeps channels-last maps so: ten times faster, and what follows too."""
    if axis in (2, 3) and is_channels_last(x):
        return x.permute(0, 2, 3, 1).index_select(axis - 1, positions).permute(0, 3, 1, 2)
    return x.index_select(axis, positions)


def _pad(site: Site) -> Prepared:
    """torch's other modes pad some axes only, so those are the record's."""
    if site.attributes["mode"] != "constant":
        return prepare_by_record(site)
    begins, ends = np.split(np.array(site.attributes["pads"], np.int64), 2)
    margins = [int(width) for pair in zip(begins[::-1], ends[::-1], strict=True) for width in pair]
    value = float(site.attributes["value"])
    return one(lambda x: functional.pad(x, margins, value=value))


KERNELS: Mapping[str, Prepare] = {
    "Conv": prepare_convolution,
    "MatMul": _binary(torch.matmul),
    "Gemm": _gemm,
    "Add": _binary(torch.add),
    "Sub": _binary(torch.sub),
    "Mul": _binary(torch.mul),
    "Div": _binary(torch.div),
    "Relu": _activation,
    "Clip": _activation,
    "Sigmoid": _activation,
    "Tanh": _activation,
    "Swish": _activation,
    "HardSigmoid": _activation,
    "HardSwish": _activation,
    "LeakyRelu": _activation,
    "MaxPool": prepare_max_pool,
    "AveragePool": prepare_average_pool,
    "GlobalAveragePool": prepare_global_average_pool,
    "ReduceMean": _reduction(torch.mean),
    "ReduceSum": _reduction(torch.sum),
    "BatchNormalization": _batch_normalization,
    "Softmax": _softmax,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Identity": _reshape,
    "Transpose": _transpose,
    "Cast": prepare_by_record,
    "Shape": prepare_by_record,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
}

# Their results are elements of their operands: nothing to round, whatever the element type.
SELECTIONS = frozenset(
    "MaxPool Reshape Flatten Squeeze Unsqueeze Identity Transpose Concat Split Slice Gather".split()
)

# The only selection that computes: it needs floats.
ANY_DTYPE = SELECTIONS - {"MaxPool"}
