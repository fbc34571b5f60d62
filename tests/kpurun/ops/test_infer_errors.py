"""What does not fit is refused by name, in a sentence a user can act on."""

import pytest

from formats.precision import DType
from kpurun.ops import OPS, op_named
from kpurun.ops.opdef import complete, infer_types
from kpurun.ops.types import OpError, TensorType

INT32 = TensorType((4,), DType.INT32)
IMAGE = (1, 4, 8, 8)
FILTERS = (6, 4, 3, 3)
POOL = {"kernel_shape": (3, 3)}


# op, attributes, operands (a shape stands for FP32), part of the message
REFUSED = [
    ("Relu", {}, [], "Relu takes 1 operand, got 0"),
    ("Conv", {}, [IMAGE], "Conv takes 2 to 3 operands, got 1"),
    ("Concat", {"axis": 0}, [], "Concat takes at least 1 operand, got 0"),
    ("Relu", {"inplace": True}, [(3,)], "Relu has no attribute inplace"),
    ("Reshape", {}, [(3,)], "Reshape needs the attribute shape"),
    ("Conv", {}, [(1, 4), FILTERS], "1 to 3 spatial axes], got 2 dimensions"),
    ("Conv", {}, [IMAGE, (6, 4, 3)], "the weight has 3 dimensions, the input 4"),
    ("Conv", {}, [IMAGE, (6, 3, 3, 3)], "expects 3 input channels"),
    ("Conv", {"group": 3}, [IMAGE, FILTERS], "group 3 must divide the 4 input channels"),
    ("Conv", {"group": 4}, [IMAGE, (6, 1, 3, 3)], "and the 6 filters"),
    ("Conv", {"group": 2}, [IMAGE, FILTERS], "8 input channels"),
    ("Conv", {"group": 0}, [IMAGE, FILTERS], "group must be at least 1"),
    ("Conv", {"group": 1.0}, [IMAGE, FILTERS], "group must be an integer"),
    ("Conv", {"kernel_shape": (3, 2)}, [IMAGE, FILTERS], "differs from the weight's"),
    ("Conv", {"strides": (0, 1)}, [IMAGE, FILTERS], "strides must be at least 1"),
    ("Conv", {"dilations": (1, 0)}, [IMAGE, FILTERS], "dilations must be at least 1"),
    ("Conv", {"pads": (1, 1)}, [IMAGE, FILTERS], "pads must have 4 entries"),
    ("Conv", {"pads": (0, 0, -1, 0)}, [IMAGE, FILTERS], "pads must be at least 0"),
    ("Conv", {"pads": "same"}, [IMAGE, FILTERS], "pads must be a list of integers, got 'same'"),
    ("Conv", {"dilations": (4, 4)}, [IMAGE, FILTERS], "extent 9 does not fit an axis of 8"),
    ("Conv", {}, [IMAGE, FILTERS, (4,)], "the bias must have shape [6], got [4]"),
    ("Conv", {}, [IMAGE, TensorType(FILTERS, DType.INT32)], "operand 1 must be floating-point"),
    ("MatMul", {}, [(2, 3), (4, 5)], "inner dimensions of [2, 3] and [4, 5] differ"),
    ("MatMul", {}, [(), (4, 5)], "at least one dimension"),
    ("MatMul", {}, [(2, 3, 4), (3, 4, 5)], "shapes [2] and [3] do not broadcast"),
    ("MatMul", {}, [(4,), INT32], "operand 1 must be floating-point, got int32"),
    ("Gemm", {}, [(2, 3, 4), (4, 5)], "A and B must be matrices"),
    ("Gemm", {"transB": 1}, [(2, 3), (3, 5)], "3 and 5 after their transposes"),
    ("Gemm", {"transA": 2}, [(2, 3), (3, 5)], "transA must be true or false"),
    ("Gemm", {"alpha": float("inf")}, [(2, 3), (3, 5)], "alpha must be finite"),
    ("Gemm", {}, [(2, 3), (3, 5), (4,)], "shapes [4] and [2, 5] do not broadcast"),
    ("Gemm", {}, [(1, 3), (3, 5), (2, 5)], "C [2, 5] does not broadcast to [1, 5]"),
    ("Add", {}, [(2, 3), (4,)], "shapes [2, 3] and [4] do not broadcast"),
    ("Add", {}, [(4,), INT32], "one element type, got fp32, int32: add a cast"),
    ("Add", {}, [TensorType((4,), DType.BOOL)] * 2, "must be numbers, got bool"),
    ("Add", {}, [TensorType((4,), DType.FP16)] * 2, "fp16 is a storage type"),
    ("Div", {}, [INT32, INT32], "integer division has no one meaning"),
    ("Sigmoid", {}, [INT32], "must be floating-point, got int32"),
    ("Clip", {"min": 0.5}, [INT32], "min 0.5 is not a value of int32"),
    ("Clip", {"max": "6"}, [(4,)], "max must be a number"),
    ("LeakyRelu", {"alpha": float("nan")}, [(4,)], "alpha must be a number"),
    ("MaxPool", {}, [IMAGE], "needs the attribute kernel_shape"),
    ("MaxPool", {"kernel_shape": (0, 3)}, [IMAGE], "kernel_shape must be at least 1"),
    ("MaxPool", {"kernel_shape": 3}, [IMAGE], "kernel_shape must be a list of integers, got 3"),
    ("MaxPool", {"kernel_shape": (9, 9)}, [IMAGE], "extent 9 does not fit"),
    ("MaxPool", {**POOL, "pads": (3, 0, 0, 0)}, [IMAGE], "lie in the padding alone"),
    ("MaxPool", {**POOL, "ceil_mode": 2}, [IMAGE], "ceil_mode must be true or false"),
    ("AveragePool", {**POOL, "dilations": (2, 2)}, [IMAGE], "has no attribute dilations"),
    ("AveragePool", {**POOL, "count_include_pad": "no"}, [IMAGE], "count_include_pad must be"),
    ("GlobalAveragePool", {}, [(1, 4)], "1 to 3 spatial axes"),
    ("ReduceMean", {}, [INT32], "must be floating-point"),
    ("ReduceSum", {"axes": (2,)}, [(3, 4)], "axes 2 is out of range for 2 dimensions"),
    ("ReduceSum", {"axes": (1, -1)}, [(3, 4)], "names an axis twice"),
    ("ReduceSum", {"axes": ()}, [(3, 4)], "axes is empty"),
    (
        "BatchNormalization",
        {},
        [(1, 4), *[(4,)] * 3, (5,)],
        "variance must have shape [4], got [5]",
    ),
    ("BatchNormalization", {"epsilon": -1}, [(1, 4), *[(4,)] * 4], "epsilon is negative"),
    ("BatchNormalization", {}, [(4,), *[(4,)] * 4], "must be [batch, channels, …], got [4]"),
    ("Softmax", {"axis": 2}, [(3, 4)], "axis 2 is out of range"),
    ("Reshape", {"shape": (5, 2)}, [(3, 4)], "12 elements of [3, 4] do not fit shape [5, 2]"),
    ("Reshape", {"shape": (5, -1)}, [(3, 4)], "do not fit shape [5, -1]"),
    ("Reshape", {"shape": (-1, -1)}, [(3, 4)], "at most one -1"),
    ("Reshape", {"shape": (0, 12)}, [(3, 4)], "must be positive sizes"),
    ("Flatten", {"axis": 3}, [(3, 4)], "axis 3 is out of range"),
    ("Squeeze", {"axes": (1,)}, [(3, 4)], "axis 1 of [3, 4] has size 4, not 1"),
    ("Unsqueeze", {"axes": (3,)}, [(3, 4)], "axes 3 is out of range for 3 dimensions"),
    ("Transpose", {"perm": (0, 0)}, [(3, 4)], "names an axis twice"),
    ("Transpose", {"perm": (0,)}, [(3, 4)], "does not name 2 dimensions"),
    ("Cast", {"to": "float"}, [(3,)], "there is no element type 'float'"),
    ("Cast", {"to": "fp16"}, [(3,)], "cannot cast to fp16"),
    ("Concat", {"axis": 1}, [(3, 4), (2, 4)], "differ in more than axis 1"),
    ("Concat", {"axis": 1}, [(3, 4), (3, 4, 1)], "differ in more than axis 1"),
    ("Concat", {"axis": 0}, [(3,), INT32], "one element type"),
    ("Split", {"axis": 0, "split": (1, 1)}, [(3,)], "does not add up to the 3 of axis 0"),
    ("Split", {"axis": 0, "split": (3, 0)}, [(3,)], "split must be at least 1"),
    ("Slice", {"starts": (0,), "ends": (0,)}, [(3,)], "gives an empty tensor of shape [0]"),
    ("Slice", {"starts": (2,), "ends": (1,)}, [(3,)], "gives an empty tensor"),
    ("Slice", {"starts": (2,), "ends": (0,), "steps": (-1,)}, [(3,)], "steps must be at least 1"),
    ("Slice", {"starts": (2,), "ends": (0, 1)}, [(3,)], "ends must have 1 entries"),
    ("Slice", {"starts": (0,), "ends": (1,), "axes": (0, 1)}, [(3, 4)], "1 starts but 2 axes"),
    ("Gather", {"axis": 0}, [(3,), (2,)], "indices must be int32 or int64, got fp32"),
    ("Gather", {"axis": 1}, [(3,), INT32], "axis 1 is out of range"),
    ("Pad", {"pads": (1, 1, 1)}, [(3, 4)], "pads must have 4 entries"),
    ("Pad", {"pads": (-2, -1)}, [(3,)], "crops all 3 elements of axis 0"),
    ("Pad", {"pads": (-3, 2)}, [(3,)], "crops all 3 elements of axis 0"),
    ("Pad", {"pads": (1, 1), "mode": "circular"}, [(3,)], "mode must be one of constant"),
    ("Pad", {"pads": (3, 0), "mode": "reflect"}, [(3,)], "smaller than the 3 elements of axis 0"),
    ("Pad", {"pads": (-1, 0), "mode": "edge"}, [(3,)], "mode edge cannot crop"),
    ("Pad", {"pads": (1, 1), "value": 0.5}, [INT32], "value 0.5 is not a value of int32"),
]


@pytest.mark.parametrize(
    ("op", "attributes", "operands", "message"), REFUSED, ids=[row[3] for row in REFUSED]
)
def test_refuses(op, attributes, operands, message):
    types = tuple(item if isinstance(item, TensorType) else TensorType(item) for item in operands)

    with pytest.raises(OpError) as refusal:
        infer_types(OPS[op], attributes, types)

    assert message in str(refusal.value)
    assert op in str(refusal.value)


def test_every_op_refuses_an_unknown_attribute():
    for op in OPS.values():
        with pytest.raises(OpError, match=f"{op.name} has no attribute surprise"):
            complete(op, {"surprise": 1})


def test_an_op_without_a_record_is_named():
    with pytest.raises(OpError, match="there is no op 'Attention'"):
        op_named("Attention")
