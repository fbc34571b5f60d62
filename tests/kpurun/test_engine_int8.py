"""The fast engine on codes and posits against the reference, on integer kernels and without."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from formats.codec import round_to
from formats.posit import posit_values
from formats.precision import DType
from formats.quantized import is_coded, quantize
from kpurun.engine import fast, reference
from kpurun.engine.conversions import dequantized, prepare_requantise, quantized
from kpurun.engine.fast import FastEngine
from kpurun.engine.onednn.trials import are_integer_kernels_exact
from kpurun.engine.plan import make_plan
from kpurun.engine.posits import round_to_posit
from kpurun.engine.storage import weight_values
from tests.kpurun.coded_programs import coded, every_value, in_posits
from tests.kpurun.programs import ProgramBuilder, inputs_of, program_of
from tests.op_cases import CASES

PATHS = pytest.mark.parametrize("integer_kernels", [True, False], ids=["integer", "exact"])
SHARE_OF_NEIGHBOURS = 0.005  # of the codes of a tensor, and always one
X = np.random.default_rng(7).standard_normal((1, 8, 6, 6)).astype(np.float32) * 3


def assert_agree(program, inputs, integer_kernels):
    """Codes differ by one at most, and hardly any does; other floats by the order of fp32 sums."""
    expected = reference.execute(program, inputs)
    got = FastEngine(program, integer_kernels=integer_kernels).execute(inputs)
    assert got.overflowed == expected.overflowed
    for tensor_id, right in expected.outputs.items():
        value, tensor = got.outputs[tensor_id], program.tensors[tensor_id]
        assert (value.dtype, value.shape) == (right.dtype, right.shape)
        if is_coded(tensor):
            assert_codes_agree(value, right, tensor.scale)
        elif right.dtype == np.float32:
            assert_floats_agree(value, right, tensor.dtype)
        else:
            np.testing.assert_array_equal(value, right)


def assert_codes_agree(value, right, scale):
    steps = np.rint(np.abs(value - right) / scale)
    assert steps.max(initial=0) <= 1
    assert np.count_nonzero(steps) <= max(1, SHARE_OF_NEIGHBOURS * steps.size)


def assert_floats_agree(value, right, dtype):
    unit = {DType.FP16: 2**-10}.get(dtype, 2**-19)
    tolerance = 1e-6 * np.abs(right).max(initial=0)
    np.testing.assert_allclose(value, right, rtol=unit, atol=tolerance)


def is_of_floats(case):
    return any(array.dtype == np.float32 for array in case.arrays())


CODED_CASES = [case for case in CASES if is_of_floats(case)]


@PATHS
@pytest.mark.parametrize("case", CODED_CASES, ids=lambda case: case.name)
def test_op_case_on_codes(case, integer_kernels):
    arrays = case.arrays()
    for constants in {(), tuple(range(1, len(arrays)))}:
        program = program_of(case, arrays, constants=constants)
        inputs = inputs_of(program, arrays)
        assert_agree(coded(program, inputs), inputs, integer_kernels)


@PATHS
@pytest.mark.parametrize("case", CODED_CASES, ids=lambda case: case.name)
def test_op_case_that_meets_fp16_and_codes(case, integer_kernels):
    """Codes in and fp16 out, then fp16 in and codes out."""
    arrays = case.arrays()
    program = program_of(case, arrays)
    inputs = inputs_of(program, arrays)
    results = {i for op in program.ops if op.id == "case" for i in op.output_ids}
    assert_agree(coded(program, inputs, floats=results), inputs, integer_kernels)
    given_floats = set(program.input_ids)
    assert_agree(coded(program, inputs, floats=given_floats), inputs, integer_kernels)


EPILOGUES = [
    [],
    [("Relu", {})],
    [("Clip", {"min": 0.0, "max": 6.0})],
    [("Clip", {"min": -1.0})],
    [("Sigmoid", {})],
    [("Tanh", {})],
    [("Swish", {})],
    [("Swish", {"alpha": 1.702})],
    [("HardSwish", {})],
    [("HardSigmoid", {"alpha": 1 / 6})],
    [("LeakyRelu", {"alpha": 0.1})],
    [("Add", "residual")],
    [("Add", "residual"), ("Relu", {})],
    [("Add", "residual"), ("Clip", {"min": 0.0, "max": 6.0})],
    [("Swish", {}), ("Add", "residual")],
    [("Add", "residual", 1), ("Swish", {})],
    [("Add", "scale"), ("Relu", {})],
    [("Relu", {}), ("Mul", "scale"), ("Clip", {"min": 0.0, "max": 1.0})],
    [("Sub", "residual", 1), ("Div", "scale")],
    [("Mul", "residual"), ("Add", "scale", 1), ("HardSwish", {}), ("Sub", "scale")],
]
MATRICES = {"x": X.reshape(36, 8), "residual": X[:, ::-1].copy().reshape(36, 8)}
MAPS = {"x": X, "residual": X[:, ::-1].copy()}


def one_op(op_type, epilogue, inputs):
    """`op_type` with an epilogue; "residual" is an input, "scale" a constant of it."""
    builder, generator = ProgramBuilder(), np.random.default_rng(3)
    x = builder.input("x", inputs["x"].shape)
    residual = builder.input("residual", inputs["residual"].shape)
    shape = (8,) if op_type in ("Gemm", "MatMul") else (8, 1, 1)
    builder.constant("scale", generator.uniform(0.5, 2, shape), unrounded=True)
    operands, attributes = [x], {}
    if op_type in ("Gemm", "MatMul"):
        operands.append(builder.constant("w", generator.standard_normal((8, 8)) / 4))
    if op_type == "Conv":
        operands.append(builder.constant("w", generator.standard_normal((8, 8, 3, 3)) / 8))
        attributes["pads"] = [1, 1, 1, 1]
    if op_type in ("Conv", "Gemm"):
        operands.append(builder.constant("b", generator.standard_normal(8), unrounded=True))
    fused = builder.op(op_type, *operands, epilogue=epilogue, **attributes)
    return builder.program(fused, builder.op("Add", x, residual))


@PATHS
@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul", "Relu", "Identity"])
@pytest.mark.parametrize("epilogue", EPILOGUES, ids=lambda stages: "+".join(s[0] for s in stages))
def test_stages_before_the_one_rounding(op_type, epilogue, integer_kernels):
    inputs = MATRICES if op_type in ("Gemm", "MatMul") else MAPS
    program = one_op(op_type, epilogue, inputs)
    result = program.output_ids[0]
    assert_agree(coded(program, inputs), inputs, integer_kernels)
    assert_agree(coded(program, inputs, floats={result}), inputs, integer_kernels)
    assert_agree(coded(program, inputs, floats={"residual"}), inputs, integer_kernels)
    assert_agree(coded(program, inputs, floats={"x"}), inputs, integer_kernels)


@pytest.mark.parametrize("epilogue", [[("Add", "residual")], [("Add", "residual"), ("Relu", {})]])
def test_a_residual_of_codes_is_not_overwritten(epilogue):
    program = coded(one_op("Conv", epilogue, MAPS), MAPS)
    assert_agree(every_value(program), MAPS, integer_kernels=True)


@PATHS
@pytest.mark.parametrize("weights", [DType.INT8, DType.INT4])
@pytest.mark.parametrize("group_size", [0, 5, 8])
@pytest.mark.parametrize("op_type", ["Conv", "Gemm", "MatMul"])
def test_weights_of_channels_and_of_groups(op_type, weights, group_size, integer_kernels):
    inputs = MAPS if op_type == "Conv" else MATRICES
    program = one_op(op_type, [("Relu", {})], inputs)
    quantised = coded(program, inputs, weights=weights, group_size=group_size)
    assert_agree(quantised, inputs, integer_kernels)


@PATHS
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_convolution(data, integer_kernels):
    """Any kernel, stride, dilation, padding and grouping, in one or two axes; any zero point."""
    rank = data.draw(st.integers(1, 2))

    def each(least, most):
        return [data.draw(st.integers(least, most)) for _ in range(rank)]

    sizes, kernel, dilations = each(1, 12), each(1, 4), each(1, 3)
    begins, ends, strides = each(0, 3), each(0, 3), each(1, 4)
    groups, channels, filters = (data.draw(st.integers(1, 4)) for _ in range(3))
    for size, taps, dilation, begin, end in zip(
        sizes, kernel, dilations, begins, ends, strict=True
    ):
        assume(size + begin + end > dilation * (taps - 1))
    generator = np.random.default_rng(0)
    builder = ProgramBuilder()
    shape = (data.draw(st.integers(1, 2)), groups * channels, *sizes)
    x = builder.input("x", shape)
    weight = generator.standard_normal((groups * filters, channels, *kernel))
    bias = generator.standard_normal(groups * filters)
    convolved = builder.op(
        "Conv", x, builder.constant("w", weight), builder.constant("b", bias, unrounded=True),
        strides=strides, dilations=dilations, pads=[*begins, *ends], group=groups,
    )  # fmt: skip
    program = builder.program(convolved)
    shift = data.draw(st.sampled_from([-3, 0, 3]))  # all negative, both, all positive
    inputs = {"x": (generator.standard_normal(shape) + shift).astype(np.float32)}
    assert_agree(coded(program, inputs), inputs, integer_kernels)


@PATHS
@pytest.mark.parametrize("groups", [1, 256])
def test_the_largest_sums_are_exact(groups, integer_kernels):
    """255 · 127 each, 2304 of them: 74,615,040 is beyond what fp32 counts by ones, and pairs of
    products are beyond 16 bits."""
    builder = ProgramBuilder()
    x = builder.input("x", (1, 256, 3, 3))
    weight = builder.constant("w", np.ones((256, 256 // groups, 3, 3)))
    program = builder.program(builder.op("Conv", x, weight, group=groups))
    inputs = {"x": np.ones((1, 256, 3, 3), np.float32)}
    program = coded(program, inputs, floats=set(program.output_ids))
    ones = {
        key: replace(tensor, scale=1.0 if tensor.scale else None)
        for key, tensor in program.tensors.items()
    }
    program = replace(program, tensors=ones)
    inputs = {"x": np.full((1, 256, 3, 3), 255, np.float32)}
    (out,) = FastEngine(program, integer_kernels=integer_kernels).run(inputs).values()
    (right,) = reference.run(program, inputs).values()
    np.testing.assert_allclose(out, right, rtol=2e-7)


def test_a_processor_whose_integer_kernels_saturate_gets_the_exact_path(monkeypatch):
    chosen = []
    monkeypatch.setattr(fast, "are_integer_kernels_exact", lambda: False)
    monkeypatch.setattr(fast, "make_plan", lambda *_: chosen.append(_[2]))
    FastEngine(coded(one_op("Conv", [], MAPS), MAPS))
    assert chosen == [False]


def test_the_processor_is_asked_once_and_answers_with_a_bool():
    assert are_integer_kernels_exact() in (True, False)
    assert are_integer_kernels_exact.cache_info().currsize == 1


@PATHS
def test_products_of_two_activations(integer_kernels):
    """As in attention: batches, a depth that fp32 counts exactly and one that it does not."""
    generator = np.random.default_rng(5)
    for depth in (32, 600):
        builder = ProgramBuilder()
        a, b = builder.input("a", (2, 3, 7, depth)), builder.input("b", (2, 3, depth, 5))
        program = builder.program(builder.op("MatMul", a, b, epilogue=[("Relu", {})]))
        inputs = {
            "a": generator.standard_normal((2, 3, 7, depth)).astype(np.float32),
            "b": generator.standard_normal((2, 3, depth, 5)).astype(np.float32),
        }
        assert_agree(coded(program, inputs), inputs, integer_kernels)


def test_a_concat_of_codes_that_differ_requantises_each():
    builder = ProgramBuilder()
    parts = [builder.input(f"x{index}", (1, 8, 6, 6)) for index in range(3)]
    weights = [builder.constant(f"w{part}", np.ones((8, 8, 1, 1))) for part in parts]
    inner = [builder.op("Conv", *pair) for pair in zip(parts, weights, strict=True)]
    sliced = builder.op("Slice", inner[0], starts=[2], ends=[6], axes=[1])
    joined = builder.op("Concat", *inner, sliced, axis=1)
    rows = builder.op("Reshape", joined, shape=[1, 28, 36])
    program = builder.program(builder.op("Concat", rows, rows, axis=2))
    inputs = {part: X * (index + 1) for index, part in enumerate(parts)}
    assert_agree(every_value(coded(program, inputs)), inputs, integer_kernels=True)


@pytest.mark.parametrize("scales", [(0.1, 0.1), (0.1, 0.3), (0.03, 0.01), (0.5, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize("zero_points", [(0, 0), (0, 7), (128, 120), (255, 3)])
def test_requantising_is_the_definition_for_every_code(scales, zero_points):
    (source, target) = (
        replace(tensor_of_codes(), scale=scale, zero_point=zero_point)
        for scale, zero_point in zip(scales, zero_points, strict=True)
    )
    codes = torch.arange(256).to(torch.uint8)
    expected = quantized(dequantized(codes, source), target)
    assert prepare_requantise(source, target)(codes).equal(expected)


def tensor_of_codes():
    return coded(one_op("Identity", [], MAPS), MAPS).tensors["x"]


def test_codes_of_special_values_are_the_definitions():
    tensor = replace(tensor_of_codes(), scale=0.5, zero_point=7)
    halves = np.arange(-40, 300, dtype=np.float32) / 4
    values = np.array([*halves, np.inf, -np.inf, 1e30, -1e30, 1e-40, -0.0], np.float32)
    got = quantized(torch.from_numpy(values), tensor).numpy()
    np.testing.assert_array_equal(got, quantize(values, DType.UINT8, 0.5, 7))


def test_an_overflow_among_codes_names_its_op():
    builder = ProgramBuilder()
    x, y = builder.input("x", (4,)), builder.input("y", (4,))
    program = builder.program(builder.op("Div", x, y, name="ratio"))
    values = {"x": np.ones(4, np.float32), "y": np.ones(4, np.float32)}
    program = coded(program, values)
    inputs = {"x": np.ones(4, np.float32), "y": np.array([1, 0, 1, 1], np.float32)}
    result = FastEngine(program).execute(inputs)
    assert result.overflowed is not None
    assert result.overflowed.id == "ratio"
    assert_agree(program, inputs, integer_kernels=True)


def test_an_infinity_that_becomes_a_code_is_one_no_more():
    builder = ProgramBuilder()
    x = builder.input("x", (4,))
    half = builder.op("Add", x, x, name="doubled")
    program = builder.program(builder.op("Relu", builder.op("Identity", half)))
    usual = {"x": np.arange(4, dtype=np.float32)}
    program = coded(program, usual, floats={"x", half})
    for special in (np.nan, np.inf, 60000.0):
        inputs = {"x": np.array([special, 1, 2, 3], np.float32)}
        assert_agree(program, inputs, integer_kernels=True)


def test_weights_that_a_kernel_packed_are_not_kept():
    program = coded(one_op("Conv", [("Relu", {})], MAPS), MAPS)
    plan = make_plan(program, weight_values(program), integer_kernels=True)
    kept = [name for name in program.tensors if plan.initial[plan.slots[name]].numel()]
    assert kept == []


def test_running_twice_gives_the_same_and_leaves_the_input_alone():
    program = coded(one_op("Conv", [("Add", "residual"), ("Relu", {})], MAPS), MAPS)
    engine = FastEngine(program)
    before = {key: value.copy() for key, value in MAPS.items()}
    first = engine.run(MAPS)
    engine.run({key: -value for key, value in MAPS.items()})
    frozen = {key: np.asfortranarray(value) for key, value in MAPS.items()}
    for value in frozen.values():
        value.flags.writeable = False
    second = engine.run(frozen)
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    for key, value in before.items():
        np.testing.assert_array_equal(MAPS[key], value)


@pytest.mark.parametrize("dtype", [DType.POSIT8, DType.POSIT16])
@pytest.mark.parametrize("scale", [None, 0.25])
@pytest.mark.parametrize("case", CODED_CASES[::3], ids=lambda case: case.name)
def test_op_case_in_posits(case, scale, dtype):
    arrays = case.arrays()
    program = in_posits(program_of(case, arrays), dtype, scale)
    inputs = inputs_of(program, arrays)
    expected = reference.run(program, inputs)
    got = FastEngine(program).run(inputs)
    for key, right in expected.items():
        if right.dtype == np.float32:
            assert_neighbours(got[key], right, program.tensors[key])
        else:
            np.testing.assert_array_equal(got[key], right)


def assert_neighbours(value, right, tensor):
    """At most the next posit."""
    width = {DType.POSIT8: (8, 0), DType.POSIT16: (16, 1)}[tensor.dtype]
    grid = np.sort(posit_values(*width)[np.isfinite(posit_values(*width))]) * (tensor.scale or 1)
    finite = np.isfinite(right)
    np.testing.assert_array_equal(np.isfinite(value), finite)
    places = np.searchsorted(grid, value[finite]) - np.searchsorted(grid, right[finite])
    assert np.abs(places).max(initial=0) <= 1
    assert np.count_nonzero(places) <= max(1, SHARE_OF_NEIGHBOURS * places.size)


@pytest.mark.parametrize(("dtype", "width"), [(DType.POSIT8, (8, 0)), (DType.POSIT16, (16, 1))])
def test_every_posit_and_every_tie_rounds_as_defined(dtype, width):
    numbers = posit_values(*width)
    numbers = np.sort(numbers[np.isfinite(numbers)])
    ties = ((numbers[1:].astype(np.float64) + numbers[:-1]) / 2).astype(np.float32)
    far = np.float32(np.inf)
    bits = np.random.default_rng(2).integers(0, 2**32, 200_000, dtype=np.uint32)
    subnormal = [1e-45, -1e-45, 1e-38]
    special = np.array([0.0, -0.0, *subnormal, 3e38, np.inf, -np.inf, np.nan], np.float32)
    beside = [np.nextafter(ties, far), np.nextafter(ties, -far)]
    values = np.concatenate([numbers, ties, *beside, bits.view(np.float32), special])
    got = round_to_posit(torch.from_numpy(values), dtype).numpy()
    np.testing.assert_array_equal(got, round_to(values, dtype))
