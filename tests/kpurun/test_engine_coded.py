"""Programs whose tensors are codes, end to end in the reference engine."""

import numpy as np
import pytest

from formats.precision import DType, KPUPrecision
from formats.quantized import quantize
from kpurun.engine import reference
from tests.kpurun.programs import ProgramBuilder, loaded

POOL = {"kernel_shape": (2, 2), "strides": (2, 2)}


def ran(program, **inputs) -> np.ndarray:
    (out,) = reference.run(program, inputs).values()
    return out


def test_a_coded_input_is_quantised_and_a_coded_output_comes_as_numbers():
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (4,)), 0.5, 10)
    made = builder.coded(builder.op("Identity", x), 0.5, 10)
    # 0.25 is half a step: to the even code; -9 and 200 are beyond (0 - 10) / 2 and (255 - 10) / 2
    found = ran(builder.program(made), x=np.float32([0.25, 0.8, -9, 200]))
    assert found.dtype == np.float32
    assert found.tolist() == [0.0, 1.0, -5.0, 122.5]


MOVES = {
    "max pool": ("MaxPool", POOL, 1),
    "concat": ("Concat", {"axis": 1}, 2),
    "reshape": ("Reshape", {"shape": (1, 4, 8)}, 1),
    "transpose": ("Transpose", {"perm": (0, 2, 3, 1)}, 1),
    "slice": ("Slice", {"starts": (1,), "ends": (4,), "axes": (3,), "steps": (2,)}, 1),
}


@pytest.mark.parametrize(("op_type", "attributes", "count"), MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("scale", [0.1, 3e-7, 12345.678])
def test_equal_codes_pass_unchanged(op_type, attributes, count, scale):
    """What dequantising and quantising again gives are the codes themselves."""
    codes = np.random.default_rng(0).integers(0, 256, (1, 2, 4, 4), np.uint8)
    real = (codes.astype(np.float32) - 131) * np.float32(scale)
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", codes.shape), scale, 131)
    made = builder.coded(builder.op(op_type, *[x] * count, **attributes), scale, 131)

    found = ran(builder.program(made), x=real)

    floats = ProgramBuilder()
    moved = floats.op(op_type, *[floats.input("x", codes.shape)] * count, **attributes)
    expected = ran(floats.program(moved), x=codes.astype(np.float32))
    np.testing.assert_array_equal(quantize(found, DType.UINT8, scale, 131), expected)


def test_operands_with_other_codes_are_quantised_again():
    builder = ProgramBuilder()
    fine = builder.coded(builder.input("fine", (2,)), 0.25, 0)
    coarse = builder.coded(builder.input("coarse", (2,)), 4.0, 128)
    made = builder.coded(builder.op("Concat", fine, coarse, axis=0), 2.0, 10)
    found = ran(builder.program(made), fine=np.float32([3.25, 5]), coarse=np.float32([-8, 400]))
    # in steps of 2: 1.625 -> 2, 2.5 -> 2 (even); -4; 400 stays 400 and 245 steps are the most
    assert found.tolist() == [4.0, 4.0, -8.0, 400.0]


def test_a_residual_of_codes_joins_the_accumulator_as_numbers():
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (1, 1, 1, 2)), 0.5, 128)
    skip = builder.coded(builder.input("skip", (1, 1, 1, 2)), 0.25, 0)
    weight = builder.codes("w", np.int8([[[[3]]]]), [0.5])
    made = builder.op("Conv", x, weight, epilogue=[("Add", skip), ("Relu", {})])
    program = builder.program(builder.coded(made, 0.125, 0))
    inputs = {
        "x": np.float32([2.0, -10.0]).reshape(1, 1, 1, 2),
        "skip": np.float32([1.1, 3.0]).reshape(1, 1, 1, 2),
    }
    # 4·3·0.25 + 1.0 (1.1 is 4.4 steps of 0.25) = 4; -20·3·0.25 + 3 = -12, so 0
    assert ran(program, **inputs).ravel().tolist() == [4.0, 0.0]


def test_codes_meet_floats_by_an_identity():
    builder = ProgramBuilder()
    x = builder.input("x", (2,))
    codes = builder.coded(builder.op("Identity", x), 0.1, 0)
    floats = builder.op("Identity", codes)
    found = ran(builder.program(builder.op("Identity", floats)), x=np.float32([0.72, 1.0]))
    # codes 7 and 10; seven times 0.1 in float32, then in fp16
    expected = (np.float32([7, 10]) * np.float32(0.1)).astype(np.float16)
    assert found.tolist() == expected.astype(np.float32).tolist()


def test_a_weight_of_codes_multiplies_floats_as_numbers():
    builder = ProgramBuilder()
    weight = builder.codes("w", np.int8([[2, -4]]), [0.5, 0.25], axis=1, dtype=DType.INT4)
    program = builder.program(builder.op("MatMul", builder.input("x", (1, 1)), weight))
    assert ran(program, x=np.float32([[3.0]])).tolist() == [[3.0, -3.0]]


def test_a_posit_program_rounds_every_value_to_a_posit():
    builder = ProgramBuilder(KPUPrecision.POSIT8)
    x, one = builder.input("x", (2,)), builder.constant("one", np.ones(2))
    total = builder.op("Add", x, one)
    program = builder.program(builder.op("Identity", total))
    # 1.02 is nearest to 33/32; 2.03125 lies between 2 and 2 + 1/8; 100 ends at 64, and so does 65
    assert ran(program, x=np.float32([1.02, 100.0])).tolist() == [2.0, 64.0]


def test_posits_of_a_weight_have_scales_of_channels():
    builder = ProgramBuilder(KPUPrecision.POSIT8)
    weight = builder.codes("w", np.float32([[1.5, 1.5]]), [0.25, 8.0], axis=1, dtype=DType.POSIT8)
    program = builder.program(builder.op("MatMul", builder.input("x", (1, 1)), weight))
    assert ran(program, x=np.float32([[2.0]])).tolist() == [[0.75, 24.0]]


def test_a_scalar_is_coded_like_any_other_value():
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (4,)), 1.0)
    mean = builder.op("ReduceMean", x, axes=(0,), keepdims=False)
    program = builder.program(builder.coded(mean, 0.5))
    assert ran(program, x=np.float32([1, 2, 3, 5])).item() == 3.0  # 2.75 is 5.5 steps: 6


def test_the_runtime_takes_and_gives_numbers():
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (1, 2)), 0.5, 128)
    weight = builder.codes("w", np.int8([[1, -2, 3], [4, 5, -6]]), [0.5, 1.0, 2.0], axis=1)
    made = builder.op("MatMul", x, weight, precision=KPUPrecision.INT8)
    runtime = loaded(builder.program(builder.coded(made, 0.25, 100)), engine="reference")
    result = runtime.execute({"x": np.float32([[1.0, -0.5]])})
    # 1·1 - 0.5·4, 1·-2 - 0.5·5, 1·3 - 0.5·-6, times the scales of the columns
    assert result.success
    assert result.outputs[made].tolist() == [[-0.5, -4.5, 12.0]]
