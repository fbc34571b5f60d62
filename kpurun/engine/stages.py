"""Epilogue stages on torch: each overwrites an fp32 accumulator that nothing else holds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from formats.program import EpilogueStage
from kpurun.ops import OPS
from kpurun.ops.opdef import complete

Attributes = Mapping[str, Any]
Stage = Callable[[Tensor, Sequence[Tensor]], Tensor]


def prepare_stage(stage: EpilogueStage) -> Stage:
    """The stage as a function of the accumulator and all operands of its op."""
    attributes = complete(OPS[stage.op_type], stage.attributes)
    if stage.operand is None:
        activate = ACTIVATIONS[stage.op_type]
        return lambda accumulator, _: activate(accumulator, attributes)
    combine = COMBINATIONS[stage.op_type, stage.accumulator_side]
    operand = stage.operand
    return lambda accumulator, operands: combine(accumulator, operands[operand])


def _clip(x: Tensor, attributes: Attributes) -> Tensor:
    least, most = (
        float(bound) if isinstance(bound, str) else bound  # "inf" and "-inf"
        for bound in (attributes["min"], attributes["max"])
    )
    return x if least is None and most is None else x.clamp_(least, most)


def _swish(x: Tensor, attributes: Attributes) -> Tensor:
    if attributes["alpha"] == 1:
        return functional.silu(x, inplace=True)
    return x.mul_(torch.sigmoid(x * attributes["alpha"]))


def _hard_sigmoid(x: Tensor, attributes: Attributes) -> Tensor:
    return x.mul_(attributes["alpha"]).add_(attributes["beta"]).clamp_(0, 1)


def _hard_swish(x: Tensor, _: Attributes) -> Tensor:
    return x.mul_((x * (1 / 6)).add_(0.5).clamp_(0, 1))


ACTIVATIONS: dict[str, Callable[[Tensor, Attributes], Tensor]] = {
    "Relu": lambda x, _: x.relu_(),
    "Clip": _clip,
    "Sigmoid": lambda x, _: x.sigmoid_(),
    "Tanh": lambda x, _: x.tanh_(),
    "Swish": _swish,
    "HardSwish": _hard_swish,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda x, attributes: functional.leaky_relu_(x, attributes["alpha"]),
}

# By the side of the operator on which the accumulator stands.
COMBINATIONS: dict[tuple[str, int], Callable[[Tensor, Tensor], Tensor]] = {
    ("Add", 0): lambda x, other: x.add_(other),
    ("Add", 1): lambda x, other: x.add_(other),
    ("Sub", 0): lambda x, other: x.sub_(other),
    ("Sub", 1): lambda x, other: torch.sub(other, x, out=x),
    ("Mul", 0): lambda x, other: x.mul_(other),
    ("Mul", 1): lambda x, other: x.mul_(other),
    ("Div", 0): lambda x, other: x.div_(other),
    ("Div", 1): lambda x, other: torch.div(other, x, out=x),
}
