"""Rows of the ops that move or rename elements."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from formats.precision import DType
from tests.op_case import WHOLE_NUMBERS, OpCase, Values, of, unary

VIEW_CASES = (
    unary("reshape", "Reshape", lambda x: x.reshape(6, 20), shape=(6, 20)),
    unary("reshape inferred", "Reshape", lambda x: x.reshape(2, -1, 4), shape=(2, -1, 4)),
    unary("reshape unlike", "Reshape", lambda x: x.reshape(2, 3, 5, 4), shape=[2, 3, 5, 4]),
    unary(
        "reshape int64",
        "Reshape",
        lambda x: x.reshape(3, 2),
        Values((6,), DType.INT64),
        shape=(3, 2),
    ),
    unary("flatten", "Flatten", lambda x: x.flatten(1)),
    unary("flatten axis", "Flatten", lambda x: x.flatten(0, 1).flatten(1), axis=2),
    unary("flatten negative", "Flatten", lambda x: x.flatten(0, 2), axis=-1),
    unary("flatten all", "Flatten", lambda x: x.reshape(1, -1), axis=0),
    unary("squeeze", "Squeeze", torch.squeeze, Values((1, 3, 1, 5))),
    unary("squeeze axes", "Squeeze", lambda x: x.squeeze(-2), Values((1, 3, 1, 5)), axes=(-2,)),
    unary("unsqueeze", "Unsqueeze", lambda x: x[:, None], axes=(1,)),
    unary("unsqueeze two", "Unsqueeze", lambda x: x[None, ..., None], Values((3, 4)), axes=(0, -1)),
    unary("identity", "Identity", lambda x: x),
    unary("identity bool", "Identity", lambda x: x, Values((5,), DType.BOOL, 0, 1)),
)

SHAPE_CASES = (
    unary("transpose", "Transpose", lambda x: x.permute(0, 2, 3, 1), perm=(0, 2, 3, 1)),
    unary("transpose reversed", "Transpose", lambda x: x.permute(3, 2, 1, 0)),
    unary("transpose negative", "Transpose", lambda x: x.mT, Values((2, 3, 4)), perm=(0, -1, 1)),
    unary("cast to int", "Cast", lambda x: x.to(torch.int32), to="int32"),
    unary("cast to float", "Cast", lambda x: x.float(), WHOLE_NUMBERS, to="fp32"),
    unary("cast to bool", "Cast", lambda x: x.bool(), WHOLE_NUMBERS, to="bool"),
    unary("cast wider", "Cast", lambda x: x.long(), WHOLE_NUMBERS, to="int64"),
    unary("cast to itself", "Cast", lambda x: x.float(), to="fp32"),
    unary("shape", "Shape", lambda x: torch.tensor(x.shape)),
)


def _concat(name: str, axis: int, *operands: Values) -> OpCase:
    return OpCase(name, "Concat", operands, lambda *xs: torch.cat(xs, axis), {"axis": axis})


def _slice(
    name: str, function: Callable[..., Any], shape: tuple[int, ...], **bounds: Any
) -> OpCase:
    return OpCase(name, "Slice", of(shape), function, bounds)


def _gather(
    name: str, data: tuple[int, ...], indices: Values, axis: int, function: Callable[..., Any]
) -> OpCase:
    return OpCase(name, "Gather", (Values(data), indices), function, {"axis": axis})


def _pad(name: str, widths: tuple[int, ...], pads: tuple[int, ...], **attributes: Any) -> OpCase:
    """A Pad of a [2, 3, 4, 5] tensor; `widths` is functional.pad's order, `pads` ONNX's."""
    torch_mode = {"edge": "replicate"}.get(attributes.get("mode", ""), attributes.get("mode"))
    value = float(attributes.get("value", 0))

    def pad(x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, widths, mode=torch_mode or "constant", value=value)

    return OpCase(name, "Pad", of((2, 3, 4, 5)), pad, {"pads": pads, **attributes})


DATA_CASES = (
    _concat("concat channels", 1, *of((2, 3, 4, 5), (2, 1, 4, 5), (2, 2, 4, 5))),
    _concat("concat last", -1, *of((2, 3), (2, 4))),
    _concat("concat one", 0, *of((2, 3))),
    _concat("concat int64", 0, *of((2,), (3,), dtype=DType.INT64)),
    OpCase(
        "split",
        "Split",
        of((2, 6, 3)),
        lambda x: torch.split(x, [1, 3, 2], 1),
        {"axis": 1, "split": (1, 3, 2)},
    ),
    OpCase("split in halves", "Split", of((4, 3)), lambda x: x.chunk(2), {"split": (2, 2)}),
    OpCase(
        "split last",
        "Split",
        of((2, 5)),
        lambda x: x.split([2, 3], -1),
        {"axis": -1, "split": (2, 3)},
    ),
    _slice("slice", lambda x: x[1:3], (4, 5), starts=(1,), ends=(3,)),
    _slice(
        "slice axes", lambda x: x[:, 1:, :2], (2, 4, 5), starts=(1, 0), ends=(9, 2), axes=(1, -1)
    ),
    _slice(
        "slice from the end", lambda x: x[:, -3:-1], (2, 5), starts=(-3,), ends=(-1,), axes=(1,)
    ),
    _slice(
        "slice steps",
        lambda x: x[::2, 1::3],
        (5, 9),
        starts=(0, 1),
        ends=(5, 2**63 - 1),
        axes=(0, 1),
        steps=(2, 3),
    ),
    _gather("gather", (5, 3), Values((4,), DType.INT64, 0, 4), 0, lambda x, i: x[i]),
    _gather("gather negative", (5, 3), Values((4,), DType.INT64, -5, -1), 0, lambda x, i: x[i]),
    _gather("gather inner", (2, 5, 3), Values((7,), DType.INT32, 0, 4), 1, lambda x, i: x[:, i]),
    _gather("gather table", (9, 4), Values((2, 3), DType.INT64, 0, 8), 0, lambda x, i: x[i]),
    _gather("gather scalar", (5, 3), Values((), DType.INT64, 0, 2), -1, lambda x, i: x[..., i]),
    _pad("pad", (1, 2, 3, 0), (0, 0, 3, 1, 0, 0, 0, 2)),
    _pad("pad value", (1, 1), (0, 0, 0, 1, 0, 0, 0, 1), value=-2.5),
    _pad("pad infinite", (1, 1), (0, 0, 0, 1, 0, 0, 0, 1), value=float("-inf")),
    _pad("pad infinite in json", (1, 1), (0, 0, 0, 1, 0, 0, 0, 1), value="-inf"),
    _pad("pad crops", (-1, 2, 0, -2), (0, 0, 0, -1, 0, 0, -2, 2)),
    _pad("pad reflects", (2, 1, 3, 0), (0, 0, 3, 2, 0, 0, 0, 1), mode="reflect"),
    _pad("pad repeats", (2, 6, 5, 0), (0, 0, 5, 2, 0, 0, 0, 6), mode="edge"),
)
