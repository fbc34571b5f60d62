"""Cases of sums, means, extrema and dropout."""

import torch
from torch import nn
from torch.nn import functional

from tests.kpuc.module_case import ModuleCase, module, of, refused

SHAPE = (2, 3, 4, 5)
INTS = torch.tensor([[2**25 + 1, -3, 0], [7, 2, -9]])
BYTES = torch.tensor([[250, 3, 0]], dtype=torch.uint8)

CASES: tuple[ModuleCase, ...] = (
    of("mean of all", torch.mean, SHAPE),
    of("mean over axes", lambda x: x.mean((2, -1)), SHAPE),
    of("mean keepdim", lambda x: x.mean(1, keepdim=True), SHAPE),
    of("mean over no axis named", lambda x: torch.mean(x, ()), SHAPE),
    of("mean dtype", lambda x: x.mean(0, dtype=torch.float64), SHAPE),
    of("mean of integers", lambda x: x.mean(dtype=torch.float32), INTS % 7),
    of("mean of a number", lambda x: x.sum().mean(), SHAPE),
    of("sum of all", torch.sum, SHAPE),
    of("sum over axes", lambda x: x.sum((0, 2), keepdim=True), SHAPE),
    of("sum of integers", lambda x: x.sum(1), INTS),
    of("sum of int32 is int64", torch.sum, INTS.to(torch.int32)),
    of("sum of booleans counts", lambda x: x.sum(0), INTS > 0),
    of("sum dtype", lambda x: x.sum(1, dtype=torch.int32), INTS),
    of("sum of all dtype", lambda x: x.sum(dtype=torch.float64), SHAPE),
    of("variance", lambda x: torch.var(x, (2, 3), keepdim=True), SHAPE),
    of("variance, biased", lambda x: x.var(-1, unbiased=False), SHAPE),
    of("variance, correction 2", lambda x: torch.var(x, 3, correction=2), SHAPE),
    of("amax", lambda x: torch.amax(x, (1, 3)), SHAPE),
    of("amax keepdim", lambda x: torch.amax(x, 1, keepdim=True), SHAPE),
    of("amin", lambda x: torch.amin(x, -1), SHAPE),
    of("max along an axis", lambda x: x.max(1)[0], SHAPE),
    of("min along an axis", lambda x: torch.min(x, 2, keepdim=True).values, SHAPE),
    of("max of all", torch.max, SHAPE),
    of("min of all", torch.min, SHAPE),
    of("a number over its axis", lambda x: (x.sum().sum(0), x.sum().mean(-1)), SHAPE),
    of("extrema of a number", lambda x: (x.sum().amax(-1), x.sum().min(0)[0]), SHAPE),
    module("dropout", lambda: nn.Dropout(0.5), SHAPE),
    module(
        "dropout in place", lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.5, inplace=True)), SHAPE
    ),
    module("dropout2d", lambda: nn.Dropout2d(0.5), SHAPE),
    module("alpha dropout", lambda: nn.AlphaDropout(0.5), SHAPE),
    of(
        "feature alpha dropout",
        lambda x: functional.feature_alpha_dropout(x, 0.5, False) + 1,
        SHAPE,
    ),
    of("dropout of a constant", lambda x: x + functional.dropout(torch.ones(5), 0.5, False), SHAPE),
    of("dropout of nothing in training", lambda x: functional.dropout(x, 0.0, True) + 1, SHAPE),
)

REFUSED = (
    refused(
        "dropout of a constant in training",
        lambda x: x + functional.dropout(torch.ones(5), 0.5, True),
        (SHAPE,),
        "Dropout",
        "random",
    ),
    refused("positions of the maximum", lambda x: x.max(1), (SHAPE,), "ArgMax", "positions"),
    refused("positions of the minimum", lambda x: x.min(1)[1], (SHAPE,), "ArgMin", "positions"),
    refused("argmax", lambda x: x.argmax(1), (SHAPE,), "ArgMax"),
    refused("standard deviation", lambda x: x.std(1), (SHAPE,), "ReduceStd"),
    refused("norm", lambda x: torch.linalg.vector_norm(x, dim=1), (SHAPE,), "ReduceL2"),
    refused("variance of one", lambda x: torch.var(x[:1], 0), (SHAPE,), "ReduceVariance"),
    refused("cumulative sum", lambda x: x.cumsum(1), (SHAPE,), "CumSum"),
    refused("maximum of integers", lambda x: torch.amax(x, 1), (INTS,), "MaxPool", "floating"),
    refused("minimum of bytes", lambda x: x.amin(1), (BYTES,), "MaxPool", "floating"),
    refused("product", lambda x: x.prod(1), (SHAPE,), "ReduceProd"),
)
