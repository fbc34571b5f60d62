"""What a node does to each channel of its operand, when that is a constant scale and shift."""

from dataclasses import dataclass

import numpy as np

from kpuc.graph import Node
from kpuc.passes.edit import Additions

Channels = np.ndarray  # float64, one element per channel


@dataclass(frozen=True)
class Affine:
    """x·factor + shift per channel; None where that changes nothing (factor 1, shift 0)."""

    x: str
    factor: Channels | None = None
    shift: Channels | None = None


def affine_of(node: Node, axis: int, additions: Additions) -> Affine | None:
    """The node as an Affine over the channels of `axis`, if it is one and keeps the shape."""
    if node.epilogue:
        return None
    if node.op_type == "BatchNormalization":
        return batch_norm_of(node, additions) if axis == 1 else None
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    for side, (x, other) in enumerate(zip(node.inputs, node.inputs[::-1], strict=True)):
        array = additions.array(other)
        if array is None or additions.type(x) != additions.type(node.outputs[0]):
            continue
        constant = _per_channel(array, additions.type(x).shape, axis)
        if constant is not None:
            return _arithmetic(node.op_type, x, constant, x_is_left=side == 0)
    return None


def batch_norm_of(node: Node, additions: Additions) -> Affine | None:
    """factor = scale / sqrt(variance + epsilon), shift = bias - mean·factor."""
    arrays = [additions.array(value) for value in node.inputs[1:]]
    parameters = [array.astype(np.float64) for array in arrays if array is not None]
    if len(parameters) < len(arrays):
        return None
    scale, bias, mean, variance = parameters
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        return Affine(node.inputs[0], factor, bias - mean * factor)


def _per_channel(array: np.ndarray, shape: tuple[int, ...], axis: int) -> Channels | None:
    """A constant that varies over one axis of `shape` only, one element per position on it."""
    if array.dtype != np.float32 or array.ndim > len(shape):
        return None
    aligned = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if aligned.size != aligned.shape[axis]:
        return None
    return np.broadcast_to(aligned.reshape(-1).astype(np.float64), (shape[axis],))


def _arithmetic(op_type: str, x: str, constant: Channels, x_is_left: bool) -> Affine | None:
    """x op constant, or constant op x."""
    if op_type == "Add":
        return Affine(x, shift=constant)
    if op_type == "Mul":
        return Affine(x, factor=constant)
    if op_type == "Sub" and x_is_left:
        return Affine(x, shift=-constant)
    if op_type == "Sub":
        return Affine(x, factor=np.full(constant.shape, -1.0), shift=constant)
    if not x_is_left:
        return None  # a constant divided by x
    with np.errstate(divide="ignore"):
        return Affine(x, factor=1 / constant)
