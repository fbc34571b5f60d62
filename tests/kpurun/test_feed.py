"""What may be fed and what comes out: every type that survives, every refusal with its message."""

from dataclasses import replace

import numpy as np
import pytest

from formats.errors import InputError
from formats.precision import DType
from tests.kpurun.programs import IMAGE, ProgramBuilder, classifier, loaded


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int16", ">f4"])
def test_a_float_input_takes_every_type_whose_values_survive(dtype):
    image = np.round(np.abs(IMAGE) * 10).astype(dtype)
    got = loaded(classifier()).run({"image": image}).outputs["scores_out"]
    expected = loaded(classifier()).run({"image": image.astype(np.float32)}).outputs["scores_out"]
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("host_dtype", ["float16", "float64", "bfloat16"])
def test_an_output_has_the_models_own_dtype(host_dtype):
    builder = ProgramBuilder()
    program = builder.program(builder.op("Identity", builder.input("x", (2,))))
    (output,) = program.output_ids
    typed = replace(program.tensors[output], host_dtype=host_dtype)
    runtime = loaded(replace(program, tensors={**program.tensors, output: typed}))
    expected = np.dtype("float32" if host_dtype == "bfloat16" else host_dtype)
    assert runtime.run({"x": np.ones(2)}).outputs[output].dtype == expected
    assert runtime.get_output_specs() == [(output, (2,), expected.name)]


WRONG_INPUTS = {
    "shape": (
        {"image": np.zeros((1, 3, 640, 640), np.float32)},
        "Input shape mismatch: expected (1,3,8,8), got (1,3,640,640)",
    ),
    "missing": ({}, "missing input 'image' (1,3,8,8) float32"),
    "unknown": (
        {"image": IMAGE, "mask": IMAGE},
        "unknown input 'mask'; the program takes 'image' (1,3,8,8) float32",
    ),
    "complex": (
        {"image": IMAGE.astype(complex)},
        "input 'image' must be float32, got an array of complex128",
    ),
    "string": (
        {"image": IMAGE.astype(str)},
        "input 'image' must be float32, got an array of <U32",
    ),
    "wide integers": (
        {"image": IMAGE.astype(np.int64)},
        "input 'image' must be float32, got an array of int64",
    ),
    "list": ({"image": IMAGE.tolist()}, "input 'image' must be a numpy array, got list"),
    "nan": (
        {"image": np.where(np.arange(8) == 3, np.nan, IMAGE)},
        "input 'image' contains NaN, first at (0, 0, 0, 3)",
    ),
    "infinity": (
        {"image": np.where(np.arange(8) == 3, -np.inf, IMAGE)},
        "input 'image' contains infinity, first at (0, 0, 0, 3)",
    ),
    "nothing but infinity": (
        {"image": np.full_like(IMAGE, np.inf)},
        "input 'image' contains infinity, first at (0, 0, 0, 0)",
    ),
    "overflow": (
        {"image": np.full((1, 3, 8, 8), 65520, np.float32)},
        "input 'image' contains values beyond the range of fp16 (from 65520 to 65520)",
    ),
    "overflow of float32": (
        {"image": np.full((1, 3, 8, 8), -1e300)},
        "input 'image' contains values beyond the range of fp16 (from -1e+300 to -1e+300)",
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("inputs", "message"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_a_wrong_input_is_returned_as_its_message(inputs, message):
    runtime = loaded(classifier())
    result = runtime.execute(inputs)
    assert not result.success
    assert result.error_message == message
    assert result.outputs == {}
    with pytest.raises(InputError) as caught:
        runtime.run(inputs)
    assert str(caught.value) == message


def test_the_largest_value_that_rounds_into_range_is_taken():
    just_below = np.nextafter(np.float32(65520), np.float32(0))
    result = loaded(classifier()).execute({"image": np.full((1, 3, 8, 8), just_below)})
    assert result.success


def coded_runtime(dtype, scale, zero_point=None):
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (3,)), scale, zero_point, dtype)
    return loaded(builder.program(builder.op("Identity", x)), engine="reference")


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int16"])
def test_a_coded_input_takes_numbers_of_every_type(dtype):
    runtime = coded_runtime(DType.UINT8, 0.5, 128)
    (found,) = runtime.run({"x": np.array([1, 2, 3], dtype)}).outputs.values()
    assert found.tolist() == [1.0, 2.0, 3.0]
    assert runtime.get_input_specs() == [("x", (3,), "float32")]


def test_a_number_beyond_the_codes_is_clamped():
    runtime = coded_runtime(DType.UINT8, 0.5, 128)
    (found,) = runtime.run({"x": np.float32([-1e30, 65.0, 3e38])}).outputs.values()
    assert found.tolist() == [-64.0, 63.5, 63.5]


def test_a_number_beyond_the_posits_is_the_largest():
    runtime = coded_runtime(DType.POSIT8, 0.5)
    (found,) = runtime.run({"x": np.float32([-1e30, 1.0, 3e38])}).outputs.values()
    assert found.tolist() == [-32.0, 1.0, 32.0]


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "contains NaN"), (np.inf, "infinity"), (1e39, "range of uint8")]
)
def test_a_coded_input_takes_no_number_that_float32_lacks(value, message):
    with pytest.raises(InputError, match=message):
        coded_runtime(DType.UINT8, 0.5, 128).run({"x": np.array([0, value, 1.0])})


def token_program():
    builder = ProgramBuilder()
    ids = builder.input("ids", (2,), DType.INT64)
    flags = builder.input("flags", (2,), DType.BOOL)
    table = builder.constant("table", np.eye(4))
    rows = builder.op("Gather", table, ids)
    return builder.program(rows, builder.op("Identity", flags), builder.op("Identity", ids))


FLAGS = np.array([True, False])


def test_integers_and_bools_pass_exactly():
    runtime = loaded(token_program())
    result = runtime.run({"ids": np.array([3, -1], np.int8), "flags": FLAGS})
    rows, flags, ids = result.outputs.values()
    np.testing.assert_array_equal(rows, np.eye(4)[[3, 3]])
    np.testing.assert_array_equal(flags, FLAGS)
    assert flags.dtype == np.bool_
    assert ids.dtype == np.int64


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ids": np.array([0.0, 1.0]), "flags": FLAGS}, "'ids' must be int64.*float64"),
        ({"ids": np.array([0, 2**63], np.uint64), "flags": FLAGS}, "9223372036854775808"),
        ({"ids": np.array([0, 1]), "flags": np.array([0, 1])}, "'flags' must be bool.*int64"),
        ({"ids": np.zeros(3, int), "flags": FLAGS}, r"expected \(2\), got \(3\) .*'ids'"),
        ({"ids": np.array([0, 4]), "flags": FLAGS}, "index 4 is out of range"),
    ],
    ids=["float", "too large", "not bool", "shape names the input", "out of range"],
)
def test_a_wrong_integer_input_is_refused_by_name(inputs, message):
    with pytest.raises(InputError, match=message):
        loaded(token_program()).run(inputs)
