"""Rows of the ops that compute: products, elementwise, activations, reductions, norms."""

from typing import Any

import torch
from torch.nn import functional

from formats.precision import DType
from tests.op_case import WHOLE_NUMBERS, OpCase, Values, of, unary


def _gemm(name: str, *shapes: tuple[int, ...], **attributes: Any) -> OpCase:
    def product(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        left = a.T if attributes.get("transA") else a
        right = b.T if attributes.get("transB") else b
        scaled = attributes.get("alpha", 1.0) * (left @ right)
        return scaled if c is None else scaled + attributes.get("beta", 1.0) * c

    return OpCase(name, "Gemm", of(*shapes), product, attributes, tolerance=1e-5)


def _matmul(name: str, *shapes: tuple[int, ...]) -> OpCase:
    return OpCase(name, "MatMul", of(*shapes), torch.matmul, tolerance=1e-5)


PRODUCT_CASES = (
    _gemm("gemm", (3, 8), (8, 5)),
    _gemm("gemm bias row", (3, 8), (8, 5), (5,)),
    _gemm("gemm bias column", (3, 8), (8, 5), (3, 1)),
    _gemm("gemm scalar c", (3, 8), (8, 5), ()),
    _gemm("gemm linear", (2, 16), (10, 16), (10,), transB=1),
    _gemm("gemm transposed a", (8, 3), (8, 5), transA=1),
    _gemm("gemm scaled", (3, 8), (8, 5), (3, 5), alpha=0.5, beta=-2.0),
    _gemm("gemm all", (8, 3), (5, 8), (5,), alpha=1.5, beta=0.25, transA=True, transB=True),
    _matmul("matmul", (4, 7), (7, 5)),
    _matmul("matmul batched", (2, 3, 4, 7), (2, 3, 7, 5)),
    _matmul("matmul shared weight", (2, 3, 4, 7), (7, 5)),
    _matmul("matmul shared left", (4, 7), (3, 7, 5)),
    _matmul("matmul broadcast batches", (2, 1, 4, 7), (3, 7, 5)),
    _matmul("matmul vector right", (2, 4, 7), (7,)),
    _matmul("matmul vector left", (7,), (2, 7, 5)),
    _matmul("matmul two vectors", (7,), (7,)),
)


def _elementwise(
    name: str, op: str, left: tuple[int, ...], right: tuple[int, ...], dtype: DType = DType.FP32
) -> OpCase:
    function = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}[op]
    return OpCase(name, op, of(left, right, dtype=dtype), function)


HUGE = Values((4,), DType.INT64, 2**53, 2**60)

ELEMENTWISE_CASES = (
    _elementwise("add", "Add", (2, 3, 4, 5), (2, 3, 4, 5)),
    _elementwise("add per channel", "Add", (2, 3, 4, 5), (3, 1, 1)),
    _elementwise("add both stretch", "Add", (2, 1, 4), (3, 1)),
    _elementwise("add scalar", "Add", (3, 4), ()),
    _elementwise("add int32", "Add", (3, 4), (4,), DType.INT32),
    OpCase("add beyond the floats", "Add", (HUGE, HUGE), torch.add),
    _elementwise("sub", "Sub", (3, 4), (3, 4)),
    _elementwise("sub stretched left", "Sub", (1, 4), (3, 4)),
    _elementwise("sub int64", "Sub", (3,), (2, 3), DType.INT64),
    _elementwise("mul", "Mul", (2, 3, 4), (2, 3, 4)),
    _elementwise("mul squeeze and excite", "Mul", (2, 3, 4, 5), (2, 3, 1, 1)),
    _elementwise("mul int32", "Mul", (3, 4), (3, 4), DType.INT32),
    _elementwise("div", "Div", (2, 3), (2, 3)),
    _elementwise("div stretched", "Div", (4,), (2, 3, 1)),
)


ACTIVATION_CASES = (
    unary("relu", "Relu", torch.relu),
    unary("relu int32", "Relu", torch.relu, WHOLE_NUMBERS),
    unary("relu6", "Clip", functional.relu6, min=0.0, max=6.0),
    unary("clip below", "Clip", lambda x: torch.clamp(x, min=-1.5), min=-1.5),
    unary("clip above", "Clip", lambda x: torch.clamp(x, max=0.5), max=0.5),
    unary("clip crossed", "Clip", lambda x: torch.clamp(x, 2.0, 1.0), min=2.0, max=1.0),
    unary("clip to infinity", "Clip", lambda x: torch.clamp(x, min=torch.inf), min="inf"),
    unary("clip open", "Clip", lambda x: x, min=None, max=None),
    unary("clip int32", "Clip", lambda x: torch.clamp(x, -2, 5), WHOLE_NUMBERS, min=-2, max=5),
    unary("sigmoid", "Sigmoid", torch.sigmoid),
    unary("sigmoid saturated", "Sigmoid", torch.sigmoid, Values((64,), low=-1e4, high=1e4)),
    unary("tanh", "Tanh", torch.tanh),
    unary("silu", "Swish", functional.silu),
    unary("silu saturated", "Swish", functional.silu, Values((64,), low=-1e4, high=1e4)),
    unary("swish alpha", "Swish", lambda x: x * torch.sigmoid(1.5 * x), alpha=1.5),
    unary("hardsigmoid", "HardSigmoid", functional.hardsigmoid, alpha=1 / 6, beta=0.5),
    unary("hardsigmoid onnx", "HardSigmoid", lambda x: torch.clamp(0.2 * x + 0.5, 0, 1)),
    unary("hardsigmoid beta", "HardSigmoid", lambda x: torch.clamp(0.2 * x + 0.1, 0, 1), beta=0.1),
    unary("hardswish", "HardSwish", functional.hardswish),
    unary("leaky relu", "LeakyRelu", functional.leaky_relu),
    unary("leaky relu alpha", "LeakyRelu", lambda x: functional.leaky_relu(x, 0.2), alpha=0.2),
)


REDUCE_CASES = (
    unary("mean of all", "ReduceMean", lambda x: x.mean().reshape(1, 1, 1, 1)),
    unary("mean of pixels", "ReduceMean", lambda x: x.mean((2, 3)), axes=(2, 3), keepdims=False),
    unary("mean keeping", "ReduceMean", lambda x: x.mean(1, keepdim=True), axes=(1,), keepdims=1),
    unary("mean from the end", "ReduceMean", lambda x: x.mean((-1, 0)), axes=(-1, 0), keepdims=0),
    unary("sum of all", "ReduceSum", torch.sum, axes=None, keepdims=False),
    unary("sum of one axis", "ReduceSum", lambda x: x.sum(-2, keepdim=True), axes=(-2,)),
    unary(
        "sum int64",
        "ReduceSum",
        lambda x: x.sum(0),
        Values((3, 4), DType.INT64, 2**53, 2**60),
        axes=(0,),
        keepdims=False,
    ),
    unary(
        "sum int32",
        "ReduceSum",
        lambda x: x.sum(1, dtype=torch.int32),
        WHOLE_NUMBERS,
        axes=(1,),
        keepdims=False,
    ),
)


def _batch_norm(name: str, shape: tuple[int, ...], **attributes: Any) -> OpCase:
    channels = (shape[1],)
    operands = (*of(shape, channels, channels, channels), Values(channels, low=1e-3, high=2.0))

    def normalise(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        scale, bias, mean, variance = parameters
        epsilon = attributes.get("epsilon", 1e-5)
        return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)

    return OpCase(name, "BatchNormalization", operands, normalise, attributes, tolerance=1e-5)


NORMALISE_CASES = (
    _batch_norm("batch norm", (2, 3, 4, 5)),
    _batch_norm("batch norm epsilon", (2, 3, 4, 5), epsilon=0.1),
    _batch_norm("batch norm 2 dimensions", (4, 6)),
    _batch_norm("batch norm 3-d", (1, 2, 3, 4, 5), epsilon=1e-3),
    unary("softmax", "Softmax", lambda x: x.softmax(-1)),
    unary("softmax of channels", "Softmax", lambda x: x.softmax(1), axis=1),
    unary("softmax far from 0", "Softmax", lambda x: x.softmax(0), Values((9,), low=80, high=200)),
)
