"""BatchNormalization with given statistics, and Softmax."""

import numpy as np

from kpurun.ops.checks import axis_of, finite, float_operands
from kpurun.ops.loopnest import Access, Axis, Dim, LoopNest, Role, Unit
from kpurun.ops.nests import identity_access, point_dims
from kpurun.ops.opdef import Int8Rule, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType

PARAMETER_NAMES = ("scale", "bias", "mean", "variance")


def _infer_batch_norm(
    attributes: Attributes, types: tuple[TensorType, ...]
) -> tuple[TensorType, ...]:
    float_operands("BatchNormalization", types)
    if finite("BatchNormalization", "epsilon", attributes["epsilon"]) < 0:
        raise OpError(f"BatchNormalization: epsilon is negative: {attributes['epsilon']}")
    x = types[0]
    if x.rank < 2:
        raise OpError(
            f"BatchNormalization: the input must be [batch, channels, …], got {list(x.shape)}"
        )
    for name, parameter in zip(PARAMETER_NAMES, types[1:], strict=True):
        if parameter.shape != (x.shape[1],):
            raise OpError(
                f"BatchNormalization: {name} must have shape [{x.shape[1]}], "
                f"got {list(parameter.shape)}"
            )
    return (x,)


def _compute_batch_norm(
    attributes: Attributes,
    x: np.ndarray,
    scale: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """(x - mean) · scale / sqrt(variance + epsilon) + bias, per channel (axis 1), float32."""
    per_channel = (-1, *(1,) * (x.ndim - 2))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # inf, NaN are values
        wide = variance.astype(np.float64) + attributes["epsilon"]
        factor = (scale / np.sqrt(wide)).astype(np.float32)
        centred = x - mean.reshape(per_channel)
        out = centred * factor.reshape(per_channel) + bias.reshape(per_channel)
    return (out.astype(np.float32, copy=False),)


def _batch_norm_nest(
    _: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    access = identity_access(ins[0].shape)
    parameter = Access((Axis(ins[0].shape[1], (("D1", 1),)),))
    return LoopNest(
        unit=Unit.VECTOR,
        dims=point_dims(ins[0].shape),
        reads=(access, *(parameter for _ in PARAMETER_NAMES)),
        writes=(access,),
        lane_ops=BATCH_NORMALIZATION.lane_ops,
    )


def _infer_softmax(attributes: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    float_operands("Softmax", types)
    axis_of("Softmax", attributes["axis"], types[0].rank)
    return types


def _compute_softmax(attributes: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """e^(x - max) / sum of e^(x - max) along the axis, float32; a row of -inf gives NaN."""
    axis = axis_of("Softmax", attributes["axis"], x.ndim)
    with np.errstate(invalid="ignore", under="ignore"):
        powers = np.exp(x - np.max(x, axis=axis, keepdims=True))
        out = powers / np.sum(powers, axis=axis, keepdims=True, dtype=np.float64)
    return (out.astype(np.float32),)


def _softmax_nest(
    attributes: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]
) -> LoopNest:
    shape = ins[0].shape
    softmax_axis = axis_of("Softmax", attributes["axis"], len(shape))
    access = identity_access(shape)
    return LoopNest(
        unit=Unit.VECTOR,
        dims=tuple(
            # Every element needs the whole row's maximum and sum, so the row stays in one tile.
            Dim(f"D{index}", size, Role.DEPTH, splittable=False)
            if index == softmax_axis
            else Dim(f"D{index}", size, Role.POINT)
            for index, size in enumerate(shape)
        ),
        reads=(access,),
        writes=(access,),
        lane_ops=SOFTMAX.lane_ops,
    )


BATCH_NORMALIZATION = OpDef(
    name="BatchNormalization",
    attributes={"epsilon": 1e-5},
    operands=(5, 5),
    infer=_infer_batch_norm,
    compute=_compute_batch_norm,
    int8=Int8Rule.DEQUANTISE,
    loop_nest=_batch_norm_nest,
    accumulator_operands=(1, 2, 3, 4),
    stage=False,
    lane_ops=2,  # subtract, multiply-add; the factor of a channel is derived once per tile
)

SOFTMAX = OpDef(
    name="Softmax",
    attributes={"axis": -1},
    operands=(1, 1),
    infer=_infer_softmax,
    compute=_compute_softmax,
    int8=Int8Rule.DEQUANTISE,
    loop_nest=_softmax_nest,
    accumulator_operands=(),
    stage=False,
    # Maximum, subtract, exponential from a table (3: see activation.py), sum, multiply by the
    # reciprocal of the sum, which is taken once per row.
    lane_ops=7,
)

OPS = (BATCH_NORMALIZATION, SOFTMAX)
