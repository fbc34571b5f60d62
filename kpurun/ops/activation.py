"""Activation functions: unary, elementwise, fusable on the drain edge.

lane_ops counts what a lane retires one per cycle: an add, a multiply, a multiply-add, a comparison
with selection, a table look-up. Sigmoid and tanh are piecewise linear over a table, as in the
activation units of NVDLA (SDP) and Ethos-U: clamp, look up a segment, one multiply-add.
"""

from collections.abc import Callable

import numpy as np

from kpurun.ops.checks import NUMPY_DTYPES, element, finite, number_operands, type_of
from kpurun.ops.loopnest import LoopNest, Unit
from kpurun.ops.nests import identity_access, point_dims
from kpurun.ops.opdef import Int8Rule, Nest, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType

TABLE_FUNCTION_LANE_OPS = 3

Function = Callable[[Attributes, np.ndarray], np.ndarray]


def _infer_float(name: str) -> Callable[..., tuple[TensorType, ...]]:
    """Float in, float out; every attribute a finite number."""

    def infer(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        if not types[0].is_float:
            raise OpError(f"{name}: the operand must be floating-point, got {types[0].dtype.value}")
        number_operands(name, types)
        for attribute, value in attributes.items():
            finite(name, attribute, value)
        return types

    return infer


def _infer_relu(_: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    number_operands("Relu", types)
    return types


def _infer_clip(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    dtype = number_operands("Clip", types)
    for name in ("min", "max"):
        if attributes[name] is not None:
            element("Clip", name, attributes[name], dtype)
    return types


def _relu(_: Attributes, x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(x, 0))


def _clip(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    """min(max(x, min), max), as torch.clamp: with min > max everything becomes max."""
    low, high = attributes["min"], attributes["max"]
    raised = x if low is None else np.maximum(x, x.dtype.type(low))
    return raised if high is None else np.minimum(raised, x.dtype.type(high))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) without overflow: only e^-|x| is ever computed."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, np.float32(1), small) / (1 + small))


def _tanh(_: Attributes, x: np.ndarray) -> np.ndarray:
    return np.asarray(np.tanh(x))


def _swish(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    return np.asarray(x * sigmoid(np.float32(attributes["alpha"]) * x))


def hard_sigmoid(x: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """max(0, min(1, alpha·x + beta))."""
    line = np.float32(alpha) * x + np.float32(beta)
    return np.asarray(np.clip(line, np.float32(0), np.float32(1)))


def _hard_sigmoid(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    return hard_sigmoid(x, attributes["alpha"], attributes["beta"])


def _hard_swish(_: Attributes, x: np.ndarray) -> np.ndarray:
    return np.asarray(x * hard_sigmoid(x, 1 / 6, 0.5))


def _leaky_relu(attributes: Attributes, x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, x, np.float32(attributes["alpha"]) * x)


def _nest(lane_ops: int) -> Nest:
    def loop_nest(
        _: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
    ) -> LoopNest:
        access = identity_access(ins[0].shape)
        return LoopNest(Unit.VECTOR, point_dims(ins[0].shape), (access,), (access,), lane_ops)

    return loop_nest


def _activation(
    name: str,
    function: Function,
    lane_ops: int,
    attributes: dict[str, float | None] | None = None,
    infer: Callable[..., tuple[TensorType, ...]] | None = None,
) -> OpDef:
    def compute(filled: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # inf, NaN are values
            return (np.asarray(function(filled, x), NUMPY_DTYPES[type_of(x).dtype]),)

    return OpDef(
        name=name,
        attributes=attributes or {},
        operands=(1, 1),
        infer=infer or _infer_float(name),
        compute=compute,
        int8=Int8Rule.TABLE,
        loop_nest=_nest(lane_ops),
        accumulator_operands=(),
        stage=True,
        lane_ops=lane_ops,
    )


RELU = _activation("Relu", _relu, lane_ops=1, infer=_infer_relu)
CLIP = _activation(
    "Clip", _clip, lane_ops=2, attributes={"min": None, "max": None}, infer=_infer_clip
)
SIGMOID = _activation("Sigmoid", lambda _, x: sigmoid(x), TABLE_FUNCTION_LANE_OPS)
TANH = _activation("Tanh", _tanh, TABLE_FUNCTION_LANE_OPS)
# The table, then x times its value; alpha scales the table's input range and is free.
SWISH = _activation("Swish", _swish, TABLE_FUNCTION_LANE_OPS + 1, attributes={"alpha": 1.0})
# One multiply-add and two comparisons.
HARD_SIGMOID = _activation(
    "HardSigmoid", _hard_sigmoid, lane_ops=3, attributes={"alpha": 0.2, "beta": 0.5}
)
HARD_SWISH = _activation("HardSwish", _hard_swish, lane_ops=4)  # hard sigmoid, then the product
LEAKY_RELU = _activation("LeakyRelu", _leaky_relu, lane_ops=2, attributes={"alpha": 0.01})

OPS = (RELU, CLIP, SIGMOID, TANH, SWISH, HARD_SIGMOID, HARD_SWISH, LEAKY_RELU)
