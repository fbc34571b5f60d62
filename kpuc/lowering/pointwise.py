"""Elementwise arithmetic and activations, with torch's type promotion made explicit.

Eager computes in the type of the result, so operands are cast to it first.
"""

import math
from math import prod

import torch

from formats.precision import DType
from kpuc.lowering.site import Lowered, LoweringError, Site, Symbol, Table, Tensor

aten = torch.ops.aten
Operand = Tensor | float | int | bool


def _scaled(at: Site, x: Operand, factor: float) -> Tensor:
    """factor·x in the result's type; an integer result has an integer factor."""
    operand = at.cast(x)
    if factor == 1:
        return operand
    if isinstance(operand, torch.Tensor):
        return operand * factor
    return at.emit("Mul", operand, factor)


def _numbers(at: Site, op_type: str) -> None:
    if at.dtype == DType.BOOL:
        raise LoweringError(
            op_type, "its operands are booleans; the machine adds and multiplies numbers"
        )


def add(at: Site, a: Operand, b: Operand, alpha: float) -> Lowered:
    """a + alpha·b."""
    _numbers(at, "Add")
    return at.emit("Add", at.cast(a), _scaled(at, b, alpha))


def sub(at: Site, a: Operand, b: Operand, alpha: float) -> Lowered:
    """a - alpha·b."""
    return at.emit("Sub", at.cast(a), _scaled(at, b, alpha))


def rsub(at: Site, a: Operand, b: Operand, alpha: float) -> Lowered:
    """b - alpha·a."""
    return at.emit("Sub", at.cast(b), _scaled(at, a, alpha))


def mul(at: Site, a: Operand, b: Operand) -> Lowered:
    """a·b."""
    _numbers(at, "Mul")
    return at.emit("Mul", at.cast(a), at.cast(b))


def div(at: Site, a: Operand, b: Operand) -> Lowered:
    """True division: integers become floats, as the result's type says."""
    return at.emit("Div", at.cast(a), at.cast(b))


def div_mode(at: Site, a: Operand, b: Operand, rounding_mode: str | None) -> Lowered:
    """Division that may round its result; the machine does not."""
    if rounding_mode is not None:
        raise LoweringError("Div", f"rounding_mode={rounding_mode!r}")
    return div(at, a, b)


def neg(at: Site, x: Tensor) -> Lowered:
    """-x."""
    return at.emit("Mul", x, -1)


def reciprocal(at: Site, x: Tensor) -> Lowered:
    """1 / x."""
    return at.emit("Div", at.cast(1), at.cast(x))


def power(at: Site, x: Tensor, exponent: float) -> Lowered:
    """A small whole power as products; anything else needs a logarithm the machine lacks."""
    if exponent == -1 and at.dtype == DType.FP32:
        return reciprocal(at, x)
    if exponent not in (1, 2, 3):
        raise LoweringError("Pow", f"exponent {exponent}; 1, 2, 3 and -1 work")
    base = at.cast(x)
    out = base
    for _ in range(int(exponent) - 1):
        out = at.emit("Mul", out, base)
    return out


def absolute(at: Site, x: Tensor) -> Lowered:
    """|x| = max(x, 0) - min(x, 0): one of the two is 0, so the difference is exact, and where an
    integer has no negative it wraps around as in torch.
    """
    return at.emit("Sub", at.emit("Relu", x), at.emit("Clip", x, max=0))


def relu(at: Site, x: Tensor) -> Lowered:
    """max(x, 0)."""
    return at.emit("Relu", x)


def relu6(at: Site, x: Tensor) -> Lowered:
    """min(max(x, 0), 6)."""
    return at.emit("Clip", x, min=0, max=6)


def clamp(at: Site, x: Tensor, low: Operand | None = None, high: Operand | None = None) -> Lowered:
    """min(max(x, low), high), with the axes of the bounds; NaN bounds are refused by the op."""
    least, most = _bound(low), _bound(high)
    return at.emit(
        "Clip",
        at.reshape(at.cast(x), at.shape),
        min=None if least == -math.inf else least,
        max=None if most == math.inf else most,
    )


def clamp_max(at: Site, x: Tensor, high: Operand) -> Lowered:
    """min(x, high)."""
    return clamp(at, x, None, high)


def _bound(value: Operand | None) -> float | int | None:
    """A bound as a number."""
    if isinstance(value, Symbol) or (isinstance(value, torch.Tensor) and value.numel() != 1):
        raise LoweringError("Clip", "min or max is a tensor; a number works")
    return value.item() if isinstance(value, torch.Tensor) else value


def sigmoid(at: Site, x: Tensor) -> Lowered:
    """1 / (1 + e^-x)."""
    return at.emit("Sigmoid", at.cast(x))


def tanh(at: Site, x: Tensor) -> Lowered:
    """Hyperbolic tangent."""
    return at.emit("Tanh", at.cast(x))


def silu(at: Site, x: Tensor) -> Lowered:
    """x·sigmoid(x)."""
    return at.emit("Swish", x, alpha=1.0)


def hardswish(at: Site, x: Tensor) -> Lowered:
    """x·min(max(x + 3, 0), 6) / 6."""
    return at.emit("HardSwish", x)


def hardsigmoid(at: Site, x: Tensor) -> Lowered:
    """min(max(x + 3, 0), 6) / 6."""
    return at.emit("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def leaky_relu(at: Site, x: Tensor, negative_slope: float) -> Lowered:
    """x where positive, negative_slope·x elsewhere."""
    return at.emit("LeakyRelu", x, alpha=float(negative_slope))


def prelu(at: Site, x: Tensor, weight: Tensor) -> Lowered:
    """max(x, 0) + weight·min(x, 0), the weight one number or one per channel (axis 1)."""
    slopes, rank = weight, len(x.shape)
    if prod(weight.shape) != 1 or len(weight.shape) > rank:
        shape = (*weight.shape, *(1,) * (rank - 2))[:rank]
        slopes = (
            weight.reshape(shape) if isinstance(weight, torch.Tensor) else at.reshape(weight, shape)
        )
    negative = at.emit("Clip", x, max=0)
    return at.emit("Add", at.emit("Relu", x), at.emit("Mul", negative, slopes))


def gelu(at: Site, x: Tensor, approximate: str) -> Lowered:
    """The tanh form: x/2·(1 + tanh(sqrt(2/π)·(x + 0.044715·x³))), as torch defines it."""
    if approximate != "tanh":
        raise LoweringError(
            "Gelu", f"approximate={approximate!r} needs erf; approximate='tanh' works"
        )
    root = math.sqrt(2 / math.pi)
    square = at.emit("Mul", x, x)
    slope = at.emit("Add", at.emit("Mul", square, 0.044715 * root), root)
    curve = at.emit("Add", at.emit("Tanh", at.emit("Mul", x, slope)), 1.0)
    return at.emit("Mul", at.emit("Mul", x, 0.5), curve)


def lerp(at: Site, a: Tensor, b: Tensor, weight: float) -> Lowered:
    """a + weight·(b - a), from the nearer end, as torch does it."""
    rise = at.emit("Sub", at.cast(b), at.cast(a))
    if abs(weight) < 0.5:
        return at.emit("Add", at.cast(a), at.emit("Mul", rise, float(weight)))
    return at.emit("Sub", at.cast(b), at.emit("Mul", rise, 1 - float(weight)))


def softmax(at: Site, x: Tensor, dim: int, dtype: torch.dtype | None) -> Lowered:
    """Softmax along `dim`, in the type that `dtype` asks for."""
    return at.emit("Softmax", at.cast(x), axis=dim)


def softmax_half(at: Site, x: Tensor, dim: int, half_to_float: bool) -> Lowered:
    """half_to_float only chooses between float types, which are one here."""
    return at.emit("Softmax", x, axis=dim)


def masked_fill(at: Site, x: Tensor, mask: Tensor, value: Operand) -> Lowered:
    """-inf where the mask, a constant, holds: adding -inf is exact."""
    number = value.item() if isinstance(value, torch.Tensor) else value
    if isinstance(mask, Symbol) or number != -math.inf:
        raise LoweringError("Where", "masked_fill works with a constant mask and the value -inf")
    return at.emit("Add", at.cast(x), torch.zeros(mask.shape).masked_fill(mask, -math.inf))


TABLE: Table = {
    aten.add.Tensor: add,
    aten.add.Scalar: add,
    aten.sub.Tensor: sub,
    aten.sub.Scalar: sub,
    aten.rsub.Tensor: rsub,
    aten.rsub.Scalar: rsub,
    aten.mul.Tensor: mul,
    aten.mul.Scalar: mul,
    aten.div.Tensor: div,
    aten.div.Scalar: div,
    aten.div.Tensor_mode: div_mode,
    aten.div.Scalar_mode: div_mode,
    aten.neg.default: neg,
    aten.reciprocal.default: reciprocal,
    aten.pow.Tensor_Scalar: power,
    aten.abs.default: absolute,
    aten.relu.default: relu,
    aten.relu6.default: relu6,
    aten.hardtanh.default: clamp,
    aten.clamp.default: clamp,
    aten.clamp.Tensor: clamp,
    aten.clamp_min.default: clamp,
    aten.clamp_min.Tensor: clamp,
    aten.clamp_max.default: clamp_max,
    aten.clamp_max.Tensor: clamp_max,
    aten.sigmoid.default: sigmoid,
    aten.tanh.default: tanh,
    aten.silu.default: silu,
    aten.hardswish.default: hardswish,
    aten.hardsigmoid.default: hardsigmoid,
    aten.leaky_relu.default: leaky_relu,
    aten.prelu.default: prelu,
    aten.gelu.default: gelu,
    aten.lerp.Scalar: lerp,
    aten.softmax.int: softmax,
    aten._softmax.default: softmax_half,
    aten.masked_fill.Scalar: masked_fill,
    aten.masked_fill.Tensor: masked_fill,
}
