"""The reference engine: the definition, checked by hand on values small enough to work out."""

from dataclasses import replace

import numpy as np
import pytest

from formats.errors import FileError
from formats.precision import DType, KPUPrecision
from kpurun.engine import reference
from tests.kpurun.programs import ProgramBuilder


def test_an_input_is_rounded_on_entry_to_nearest_even():
    builder = ProgramBuilder()
    program = builder.program(builder.op("Identity", builder.input("x", (3,))))
    x = np.array([2049.0, 2051.0, 0.1], np.float32)  # above 2048 fp16 has even numbers only
    (out,) = reference.run(program, {"x": x}).values()
    np.testing.assert_array_equal(out, np.array([2048, 2052, np.float16(0.1)], np.float32))


def test_the_accumulator_is_rounded_once_after_its_epilogue():
    """2048 + 1 - 1: rounding between the stages would give 2047."""
    builder = ProgramBuilder()
    x, one = builder.input("x", (1,)), builder.constant("one", np.ones(1))
    fused = builder.op("Add", x, one, epilogue=[("Sub", one)])
    program = builder.program(builder.op("Identity", fused))
    (out,) = reference.run(program, {"x": np.array([2048], np.float32)}).values()
    assert out.item() == 2048


def test_a_program_output_leaves_the_accumulator_unrounded():
    builder = ProgramBuilder()
    x = builder.input("x", (1,))
    program = builder.program(builder.op("Add", x, x, epilogue=[("Add", "x")]))
    (out,) = reference.run(program, {"x": np.array([2047], np.float32)}).values()
    assert out.item() == 3 * 2047


@pytest.mark.parametrize(("side", "expected"), [(0, 2.5), (1, -2.5)])
def test_the_side_of_the_accumulator_matters_for_a_difference(side, expected):
    builder = ProgramBuilder()
    x, bias = builder.input("x", (1,)), builder.constant("bias", np.full(1, 0.5), unrounded=True)
    program = builder.program(builder.op("Identity", x, epilogue=[("Sub", bias, side)]))
    (out,) = reference.run(program, {"x": np.array([3], np.float32)}).values()
    assert out.item() == expected


def test_a_bias_meets_the_accumulator_in_fp32():
    builder = ProgramBuilder()
    x = builder.input("x", (1, 1, 1, 1))
    weight = builder.constant("w", np.ones((1, 1, 1, 1)))
    bias = builder.constant("b", np.array([1e-4], np.float32), unrounded=True)
    program = builder.program(builder.op("Conv", x, weight, bias))
    (out,) = reference.run(program, {"x": np.full((1, 1, 1, 1), 2048, np.float32)}).values()
    assert out.item() == np.float32(2048) + np.float32(1e-4)


def test_bf16_keeps_eight_bits():
    builder = ProgramBuilder(KPUPrecision.BF16)
    program = builder.program(builder.op("Identity", builder.input("x", (2,))))
    (out,) = reference.run(program, {"x": np.array([257, 259], np.float32)}).values()
    np.testing.assert_array_equal(out, [256, 260])


def test_integers_stay_exact():
    builder = ProgramBuilder()
    x = builder.input("x", (1,), DType.INT64)
    one = builder.constant("one", np.ones(1, np.int64))
    program = builder.program(builder.op("Add", x, one))
    (out,) = reference.run(program, {"x": np.array([2**60], np.int64)}).values()
    assert out.dtype == np.int64
    assert out.item() == 2**60 + 1


def overflowing():
    """Twice 40000 is beyond fp16; what follows only passes it on."""
    builder = ProgramBuilder()
    x = builder.input("x", (1,))
    doubled = builder.op("Add", x, x, name="doubled")
    again = builder.op("Add", doubled, x, name="again")
    return builder.program(builder.op("Identity", again))


def test_an_overflow_names_the_first_op():
    result = reference.execute(overflowing(), {"x": np.array([40000], np.float32)})
    assert result.overflowed is not None
    assert result.overflowed.id == "doubled"
    assert np.isinf(*result.outputs.values())


def test_an_infinite_constant_is_no_overflow():
    builder = ProgramBuilder()
    x, mask = builder.input("x", (2,)), builder.constant("mask", np.array([0, -np.inf]))
    program = builder.program(builder.op("Softmax", builder.op("Add", x, mask)))
    result = reference.execute(program, {"x": np.zeros(2, np.float32)})
    assert result.overflowed is None
    np.testing.assert_array_equal(*result.outputs.values(), [1, 0])


def test_missing_weights_are_named():
    builder = ProgramBuilder()
    x, weight = builder.input("x", (1,)), builder.constant("w", np.ones(1))
    program = replace(builder.program(builder.op("Add", x, weight)), weights_blob=None)
    with pytest.raises(FileError, match="lacks the weights of w"):
        reference.run(program, {"x": np.zeros(1, np.float32)})
