"""Cases of arithmetic, activations and type promotion."""

import math

import torch
from torch import nn
from torch.nn import functional

from tests.kpuc.module_case import ModuleCase, module, of, refused

SHAPE = (2, 3, 4, 5)
BIG = 2**25 + 1  # not a float32
INTS = torch.tensor([[BIG, -3, 0], [7, 2, -9]])
INT32 = INTS.to(torch.int32)
BYTES = torch.tensor([[250, 3, 0]], dtype=torch.uint8)
FLAGS = torch.tensor([[True, False, True], [False, False, True]])
DOUBLE = torch.linspace(-2, 2, 6, dtype=torch.float64).reshape(2, 3)
HALF = torch.linspace(-2, 2, 6).reshape(2, 3).half()
HALF_TOLERANCE = 2e-3

CASES: tuple[ModuleCase, ...] = (
    of("add", torch.add, SHAPE, SHAPE),
    of("add alpha", lambda a, b: torch.add(a, b, alpha=2.5), SHAPE, (4, 1)),
    of("add a number", lambda a: a + 1.5, SHAPE),
    of("add.Scalar", lambda a: torch.ops.aten.add.Scalar(a, 1.5, 2), SHAPE),
    of("add integers exactly", lambda a: a + 1, INTS),
    of("add integers alpha", lambda a, b: torch.add(a, b, alpha=3), INTS, INTS),
    of("add int32 and int64", torch.add, INT32, INTS),
    of("a number wraps around", lambda a: a + 2**40 + 2**31, INT32),
    of("bytes wrap around", lambda a: a + a, BYTES),
    of("integer plus fraction is float", lambda a: a + 0.5, INT32),
    of("boolean plus float", lambda a, b: a + b, FLAGS, (2, 3)),
    of("sub", torch.sub, SHAPE, (5,)),
    of("sub alpha", lambda a, b: torch.sub(a, b, alpha=-2), SHAPE, SHAPE),
    of("sub.Scalar", lambda a: torch.ops.aten.sub.Scalar(a, 3, 2), SHAPE),
    of("number minus tensor", lambda a: 3 - a, SHAPE),
    of("rsub.Tensor", lambda a, b: torch.ops.aten.rsub.Tensor(a, b, alpha=2), SHAPE, SHAPE),
    of("rsub.Scalar", lambda a: torch.rsub(a, 2, alpha=3), SHAPE),
    of("mul", torch.mul, SHAPE, (3, 1, 1)),
    of("mul.Scalar", lambda a: torch.ops.aten.mul.Scalar(a, 1.5), SHAPE),
    of("mul integers", lambda a: a * 3, INTS),
    of("mul by a constant tensor", lambda a: a * torch.arange(5), SHAPE),
    of("div", lambda a, b: a / (b.abs() + 1), SHAPE, SHAPE),
    of("div.Scalar", lambda a: torch.ops.aten.div.Scalar(a, 4), SHAPE),
    of("integers divide to float", lambda a: a / 2, INTS),
    of("div rounding_mode None", lambda a: torch.div(a, 3, rounding_mode=None), SHAPE),
    of(
        "div.Scalar_mode", lambda a: torch.ops.aten.div.Scalar_mode(a, 3, rounding_mode=None), SHAPE
    ),
    of("neg", torch.neg, SHAPE),
    of("neg of integers", torch.neg, INTS),
    of("reciprocal", lambda a: torch.reciprocal(a.abs() + 1), SHAPE),
    of("square", torch.square, SHAPE),
    of("powers", lambda a: (a**2, a**3, a**1), SHAPE),
    of("power -1", lambda a: (a.abs() + 1) ** -1, SHAPE),
    of("square of integers", lambda a: a**2, INT32),
    of("abs", torch.abs, SHAPE),
    of("abs of integers", torch.abs, INTS),
    of("abs of bytes", torch.abs, BYTES),
    of("abs of the least integer", torch.abs, torch.tensor([-(2**63), -1, 2**63 - 1])),
    of("addcmul", lambda a, b, c: torch.addcmul(a, b, c, value=0.5), SHAPE, SHAPE, SHAPE),
    of("lerp", lambda a, b: torch.lerp(a, b, 0.25), SHAPE, SHAPE),
    of("lerp beyond the middle", lambda a, b: torch.lerp(a, b, 0.75), SHAPE, SHAPE),
    of("float64 inputs", lambda a: a * 2 + 1, DOUBLE),
    of("float16 inputs", lambda a: a * 2 + 1, HALF, tolerance=HALF_TOLERANCE),
    of("bfloat16 inputs", lambda a: a * 2, HALF.bfloat16(), tolerance=2e-2),
    of("float16 and float32", torch.add, HALF, (2, 3), tolerance=HALF_TOLERANCE),
    module("relu", nn.ReLU, SHAPE),
    of("relu in place", lambda a: functional.relu_(a * 1), SHAPE),
    of("relu of integers", torch.relu, INTS),
    module("relu6", nn.ReLU6, SHAPE),
    of("relu6 at its corner", lambda a: functional.relu6(a * 10), SHAPE),
    module("hardtanh", lambda: nn.Hardtanh(-0.3, 0.7), SHAPE),
    of("clamp", lambda a: torch.clamp(a, -0.5, 0.25), SHAPE),
    of("clamp min only", lambda a: torch.clamp(a, min=0.1), SHAPE),
    of("clamp crossed bounds", lambda a: torch.clamp(a, 1, -1), SHAPE),
    of("clamp with infinite bounds", lambda a: torch.clamp(a, -math.inf, math.inf), SHAPE),
    of("clamp to infinity", lambda a: torch.clamp(a, min=math.inf), SHAPE),
    of("clamp integers", lambda a: torch.clamp(a, -1, 5), INTS),
    of("clamp integers to a fraction", lambda a: torch.clamp(a, max=2.5), INT32),
    of("clamp_min", lambda a: torch.clamp_min(a, 0.2), SHAPE),
    of("clamp_max", lambda a: torch.clamp_max(a, 0.2), SHAPE),
    of("clamp by tensors", lambda a: torch.clamp(a, torch.tensor(-0.5), torch.tensor(0.5)), SHAPE),
    of("clamp_min.Tensor", lambda a: torch.clamp_min(a, torch.tensor(0.2)), SHAPE),
    of("clamp by a tensor of more axes", lambda a: torch.clamp(a, torch.zeros(1, 1)), (3,)),
    of("clamp_max.Tensor", lambda a: torch.clamp_max(a, torch.tensor(0.2)), SHAPE),
    module("sigmoid", nn.Sigmoid, SHAPE),
    of("sigmoid of integers", torch.sigmoid, INT32),
    module("tanh", nn.Tanh, SHAPE),
    module("silu", nn.SiLU, SHAPE),
    of("silu in place", lambda a: functional.silu(a + 0, inplace=True), SHAPE),
    module("hardswish", nn.Hardswish, SHAPE),
    module("hardsigmoid", nn.Hardsigmoid, SHAPE),
    module("leaky relu", lambda: nn.LeakyReLU(0.2), SHAPE),
    module("prelu of one slope", lambda: nn.PReLU(init=0.3), SHAPE),
    of("prelu per channel", lambda a: functional.prelu(a, torch.tensor([0.1, -0.5, 2.0])), SHAPE),
    of("prelu of a number", lambda a: functional.prelu(a, torch.tensor(0.25)), SHAPE),
    of("prelu of numbers alone", lambda a, w: functional.prelu(a.sum(), w), SHAPE, (1,)),
    of("prelu of a computed slope", lambda a, w: functional.prelu(a, w), SHAPE, (3,)),
    of("gelu tanh", lambda a: functional.gelu(a * 3, approximate="tanh"), SHAPE),
    of("glu", lambda a: functional.glu(a, 2), SHAPE),
    of("softmax over channels", lambda a: torch.softmax(a, 1), SHAPE),
    of("softmax dim -1", lambda a: functional.softmax(a, dim=-1), SHAPE),
    of("softmax of integers", lambda a: torch.softmax(a, 0, dtype=torch.float32), INT32 // BIG),
    of("softmax dtype", lambda a: torch.softmax(a, 1, dtype=torch.float64), SHAPE),
    of("_softmax", lambda a: torch._softmax(a, 1, False), SHAPE),
    of("masked_fill", lambda a: torch.softmax(a.masked_fill(FLAGS.T, -math.inf), 0), (3, 2)),
    of(
        "masked_fill by a tensor",
        lambda a: torch.softmax(a.masked_fill(FLAGS.T, torch.tensor(-math.inf)), 0),
        (3, 2),
    ),
)

REFUSED = (
    refused("booleans add", lambda a: a + a, (FLAGS,), "Add", "boolean"),
    refused("booleans multiply", lambda a: a * a, (FLAGS,), "Mul", "boolean"),
    refused(
        "div floor", lambda a: torch.div(a, 2, rounding_mode="floor"), (SHAPE,), "Div", "'floor'"
    ),
    refused(
        "div trunc", lambda a: torch.div(a, 2, rounding_mode="trunc"), (INTS,), "Div", "'trunc'"
    ),
    refused("floor division", lambda a: a // 2, (INTS,), "FloorDivide"),
    refused("remainder", lambda a: a % 3, (INTS,), "Mod"),
    refused("pow 2.5", lambda a: a**2.5, (SHAPE,), "Pow", "2.5"),
    refused("pow of two tensors", torch.pow, (SHAPE, SHAPE), "Pow"),
    refused("exp", torch.exp, (SHAPE,), "Exp"),
    refused("sqrt", torch.sqrt, (SHAPE,), "Sqrt"),
    refused("gelu", functional.gelu, (SHAPE,), "Gelu", "erf"),
    refused("elu", functional.elu, (SHAPE,), "Elu"),
    refused("mish", functional.mish, (SHAPE,), "Mish"),
    refused("softplus", functional.softplus, (SHAPE,), "Softplus"),
    refused("log_softmax", lambda a: functional.log_softmax(a, 1), (SHAPE,), "LogSoftmax"),
    refused(
        "clamp by computed tensors",
        lambda a, b: torch.clamp(a, b),
        (SHAPE, SHAPE),
        "Clip",
        "tensor",
    ),
    refused("maximum", torch.maximum, (SHAPE, SHAPE), "Max"),
    refused("where", lambda a: torch.where(FLAGS.T, a, -a), ((3, 2),), "Where"),
    refused("comparison", lambda a: a > 0, (SHAPE,), "Greater"),
    refused(
        "masked_fill with a finite value",
        lambda a: a.masked_fill(FLAGS, 5.0),
        ((2, 3),),
        "Where",
        "-inf",
    ),
    refused(
        "dropout in training",
        lambda a: functional.dropout(a, 0.5, training=True),
        (SHAPE,),
        "Dropout",
        "training",
    ),
    refused("random numbers", lambda a: a + torch.rand(5), (SHAPE,), "RandomUniform", "random"),
    refused("int16", lambda a: a.to(torch.int16), (INTS,), "int16"),
    refused("complex", lambda a: torch.complex(a, a), (SHAPE,), "complex"),
)
