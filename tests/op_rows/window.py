"""Rows of the ops that slide a window: convolution and pooling."""

from typing import Any

import torch
from torch.nn import functional

from tests.op_case import OpCase, Values, of, unary


def _conv(name: str, *shapes: tuple[int, ...], **attributes: Any) -> OpCase:
    """A convolution; asymmetric pads are applied with functional.pad first."""
    rank = len(shapes[0]) - 2
    pads = attributes.get("pads", (0,) * 2 * rank)
    per_axis = [(pads[axis], pads[axis + rank]) for axis in reversed(range(rank))]
    torch_pads = [width for pair in per_axis for width in pair]
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]

    def convolve(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        return function(
            functional.pad(x, torch_pads),
            w,
            b,
            stride=attributes.get("strides", 1),
            dilation=attributes.get("dilations", 1),
            groups=attributes.get("group", 1),
        )

    return OpCase(name, "Conv", of(*shapes), convolve, attributes, tolerance=1e-5)


CONV_CASES = (
    _conv("conv 3x3", (2, 3, 8, 9), (4, 3, 3, 3), (4,), pads=(1, 1, 1, 1)),
    _conv("conv without bias", (1, 3, 7, 7), (5, 3, 3, 3)),
    _conv("conv 1x1", (1, 8, 5, 5), (6, 8, 1, 1), (6,)),
    _conv("conv 7x7 stride 2", (1, 3, 20, 20), (8, 3, 7, 7), strides=(2, 2), pads=(3, 3, 3, 3)),
    _conv("conv kernel_shape given", (1, 2, 6, 6), (3, 2, 3, 2), kernel_shape=(3, 2)),
    _conv("conv uneven strides", (1, 2, 9, 11), (3, 2, 3, 2), strides=(2, 3)),
    _conv("conv dilated", (1, 2, 12, 13), (3, 2, 3, 3), dilations=(2, 3), pads=(2, 3, 2, 3)),
    _conv("conv asymmetric pads", (1, 2, 6, 7), (3, 2, 3, 3), (3,), pads=(0, 1, 2, 3)),
    _conv("conv stride beyond kernel", (1, 2, 9, 9), (3, 2, 1, 1), strides=(3, 2)),
    _conv("conv grouped", (2, 6, 7, 7), (9, 2, 3, 3), (9,), group=3, pads=(1, 1, 1, 1)),
    _conv("conv depthwise", (2, 5, 7, 7), (5, 1, 3, 3), (5,), group=5, pads=(1, 1, 1, 1)),
    _conv("conv depthwise stride 2", (1, 4, 9, 9), (4, 1, 3, 3), group=4, strides=(2, 2)),
    _conv("conv depthwise multiplier", (1, 3, 6, 6), (6, 1, 3, 3), (6,), group=3),
    _conv("conv 1-d", (2, 3, 10), (4, 3, 3), (4,), pads=(2, 1), strides=(2,), dilations=(2,)),
    _conv("conv 1-d depthwise", (1, 4, 10), (4, 1, 5), group=4),
    _conv("conv 3-d", (1, 2, 5, 6, 7), (3, 2, 2, 3, 3), (3,), pads=(0, 1, 1, 1, 1, 0)),
    _conv("conv 3-d grouped", (1, 4, 4, 4, 4), (4, 2, 3, 3, 3), group=2, strides=(1, 2, 1)),
)


def _max_pool(name: str, shape: tuple[int, ...], **attributes: Any) -> OpCase:
    rank = len(shape) - 2
    function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[rank - 1]
    pads = attributes.get("pads", (0,) * 2 * rank)

    def pool(x: torch.Tensor) -> torch.Tensor:
        return function(
            x,
            attributes["kernel_shape"],
            stride=attributes.get("strides", 1),
            padding=pads[:rank],
            dilation=attributes.get("dilations", 1),
            ceil_mode=bool(attributes.get("ceil_mode", False)),
        )

    return OpCase(name, "MaxPool", of(shape), pool, attributes)


def _average_pool(name: str, shape: tuple[int, ...], **attributes: Any) -> OpCase:
    rank = len(shape) - 2
    function = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[rank - 1]
    pads = attributes.get("pads", (0,) * 2 * rank)

    def pool(x: torch.Tensor) -> torch.Tensor:
        return function(
            x,
            attributes["kernel_shape"],
            stride=attributes.get("strides", 1),
            padding=pads[:rank],
            ceil_mode=bool(attributes.get("ceil_mode", False)),
            count_include_pad=bool(attributes.get("count_include_pad", False)),
        )

    return OpCase(name, "AveragePool", of(shape), pool, attributes)


def _asymmetric_max_pool(x: torch.Tensor) -> torch.Tensor:
    return functional.max_pool2d(
        functional.pad(x, (1, 0, 0, 1), value=float("-inf")), (2, 2), stride=1
    )


def _asymmetric_average_pool(x: torch.Tensor) -> torch.Tensor:
    padded = functional.pad(x, (1, 0, 0, 1))
    counts = functional.pad(torch.ones_like(x), (1, 0, 0, 1))
    return functional.avg_pool2d(padded, 2, stride=1) / functional.avg_pool2d(counts, 2, stride=1)


STRIDED_POOL: dict[str, Any] = {
    "kernel_shape": (3, 3),
    "strides": (2, 2),
    "pads": (1, 1, 1, 1),
}

POOL_CASES = (
    _max_pool("max pool", (2, 3, 8, 8), kernel_shape=(2, 2), strides=(2, 2)),
    _max_pool("max pool stem", (1, 3, 11, 11), **STRIDED_POOL),
    _max_pool("max pool sppf", (1, 3, 7, 7), kernel_shape=(5, 5), pads=(2, 2, 2, 2)),
    _max_pool("max pool dilated", (1, 2, 9, 9), kernel_shape=(3, 2), dilations=(2, 3)),
    _max_pool("max pool ceil", (1, 2, 8, 7), **STRIDED_POOL, ceil_mode=True),
    _max_pool(
        "max pool ceil drops a window that starts in the right padding",
        (1, 1, 4, 4),
        kernel_shape=(2, 2),
        strides=(3, 3),
        pads=(1, 1, 1, 1),
        ceil_mode=1,
    ),
    _max_pool("max pool 1-d", (2, 3, 9), kernel_shape=(3,), strides=(2,), pads=(1, 1)),
    _max_pool("max pool 3-d", (1, 2, 5, 6, 7), kernel_shape=(2, 3, 2), strides=(2, 1, 2)),
    OpCase(
        "max pool asymmetric pads",
        "MaxPool",
        of((1, 2, 5, 5)),
        _asymmetric_max_pool,
        {"kernel_shape": (2, 2), "pads": (0, 1, 1, 0)},
    ),
    _average_pool("average pool", (2, 3, 8, 8), kernel_shape=(2, 2), strides=(2, 2)),
    _average_pool("average pool without padding", (1, 2, 8, 7), **STRIDED_POOL),
    _average_pool("average pool counting it", (1, 2, 8, 7), **STRIDED_POOL, count_include_pad=True),
    _average_pool("average pool ceil", (1, 2, 8, 7), **STRIDED_POOL, ceil_mode=True),
    _average_pool(
        "average pool ceil counting padding",
        (1, 2, 8, 10),
        **STRIDED_POOL,
        ceil_mode=True,
        count_include_pad=1,
    ),
    _average_pool("average pool 1-d", (2, 3, 9), kernel_shape=(4,), strides=(3,), pads=(1, 1)),
    _average_pool("average pool 3-d", (1, 2, 5, 6, 7), kernel_shape=(2, 3, 2), strides=(2, 1, 2)),
    OpCase(
        "average pool asymmetric pads",
        "AveragePool",
        of((1, 2, 5, 5)),
        _asymmetric_average_pool,
        {"kernel_shape": (2, 2), "pads": (0, 1, 1, 0)},
    ),
    unary("global average pool", "GlobalAveragePool", lambda x: x.mean((2, 3), keepdim=True)),
    unary(
        "global average pool 1-d",
        "GlobalAveragePool",
        lambda x: x.mean(2, keepdim=True),
        Values((2, 3, 9)),
    ),
    unary(
        "global average pool 3-d",
        "GlobalAveragePool",
        lambda x: x.mean((2, 3, 4), keepdim=True),
        Values((1, 2, 3, 4, 5)),
    ),
)
