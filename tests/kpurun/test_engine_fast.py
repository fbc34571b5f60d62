"""The fast engine against the reference: every op case, every fused form, every special value."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from formats.precision import DType, KPUPrecision
from kpurun.engine import reference
from kpurun.engine.fast import FastEngine
from kpurun.engine.kernels import ANY_DTYPE, KERNELS, SELECTIONS
from kpurun.engine.plan import make_plan
from kpurun.engine.storage import weight_values
from kpurun.ops import OPS
from kpurun.ops.types import OpError
from tests.kpurun.programs import IMAGE, ProgramBuilder, classifier, inputs_of, program_of
from tests.op_cases import CASES

UNIT_IN_LAST_PLACE = {KPUPrecision.FP16: 2.0**-10, KPUPrecision.BF16: 2.0**-7}
PRECISIONS = list(UNIT_IN_LAST_PLACE)
X = np.random.default_rng(7).standard_normal((1, 8, 6, 6)).astype(np.float32) * 3


def assert_agree(program, inputs):
    """Shapes and dtypes equal; at most one unit in the last place where a sum lies next to a
    rounding boundary; both find the same overflow."""
    expected, got = reference.execute(program, inputs), FastEngine(program).execute(inputs)
    assert got.overflowed == expected.overflowed
    for tensor_id, right in expected.outputs.items():
        value = got.outputs[tensor_id]
        assert value.dtype == right.dtype
        assert value.shape == right.shape
        if right.dtype == np.float32:
            assert_close(value, right, UNIT_IN_LAST_PLACE[program.precision])
        else:
            np.testing.assert_array_equal(value, right)


def assert_close(value, right, unit):
    finite = np.isfinite(right)
    np.testing.assert_array_equal(value[~finite], right[~finite])
    scale = np.abs(right[finite]).max(initial=0)
    np.testing.assert_allclose(value[finite], right[finite], rtol=unit, atol=1e-6 * scale)


def test_every_op_has_a_kernel_and_no_other():
    assert KERNELS.keys() == OPS.keys()
    assert ANY_DTYPE <= SELECTIONS <= OPS.keys()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_op_case(case, precision):
    arrays = case.arrays()
    for constants in {(), tuple(range(1, len(arrays)))}:
        program = program_of(case, arrays, precision, constants)
        assert_agree(program, inputs_of(program, arrays))


def has_one_float_output(case):
    results = case.expected(case.arrays())
    return len(results) == 1 and results[0].dtype == np.float32


@pytest.mark.parametrize(
    "case", [case for case in CASES if has_one_float_output(case)], ids=lambda case: case.name
)
def test_op_case_with_an_epilogue(case):
    arrays = case.arrays()
    epilogue = [("Mul", "factor"), ("LeakyRelu", {})]
    program = program_of(case, arrays, constants=range(1, len(arrays)), epilogue=epilogue)
    assert_agree(program, inputs_of(program, arrays))


ACTIVATIONS = [
    ("Relu", {}),
    ("Clip", {"min": 0.0, "max": 6.0}),
    ("Clip", {"min": -1.0}),
    ("Clip", {}),
    ("Clip", {"min": 2.0, "max": 1.0}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("Swish", {}),
    ("Swish", {"alpha": 1.702}),
    ("HardSwish", {}),
    ("HardSigmoid", {"alpha": 1 / 6}),
    ("LeakyRelu", {"alpha": 0.1}),
]


def one_op(op_type, epilogue, precision=KPUPrecision.FP16):
    """`op_type` on X with an epilogue; "residual" is an input, "scale" a constant of it."""
    builder = ProgramBuilder(precision)
    x, residual = builder.input("x", X.shape), builder.input("residual", X.shape)
    generator = np.random.default_rng(3)
    builder.constant("scale", generator.uniform(0.5, 2, (8, 1, 1)), unrounded=True)
    operands = [x]
    attributes = {}
    if op_type == "Conv":
        operands.append(builder.constant("w", generator.standard_normal((8, 8, 3, 3)) / 8))
        operands.append(builder.constant("b", generator.standard_normal(8), unrounded=True))
        attributes["pads"] = [1, 1, 1, 1]
    fused = builder.op(op_type, *operands, epilogue=epilogue, **attributes)
    return builder.program(builder.op("Add", fused, residual))


INPUTS = {"x": X, "residual": X[:, ::-1].copy()}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("op_type", ["Conv", "Identity"])
@pytest.mark.parametrize("stage", ACTIVATIONS, ids=lambda stage: f"{stage[0]} {stage[1]}")
def test_an_activation_in_the_epilogue(op_type, stage, precision):
    assert_agree(one_op(op_type, [stage], precision), INPUTS)


@pytest.mark.parametrize("op_type", ["Conv", "Identity"])
@pytest.mark.parametrize(
    "epilogue",
    [
        [("Add", "residual"), ("Relu", {})],
        [("Swish", {}), ("Add", "residual")],
        [("Relu", {}), ("Mul", "scale"), ("Clip", {"min": 0.0, "max": 1.0})],
        [("Sub", "residual", 1), ("Div", "scale")],
        [("Div", "scale", 1)],
        [("Mul", "residual"), ("Add", "scale", 1), ("HardSwish", {}), ("Sub", "scale")],
    ],
    ids=lambda epilogue: "+".join(stage[0] for stage in epilogue),
)
def test_stages_run_in_their_order(op_type, epilogue):
    assert_agree(one_op(op_type, epilogue), INPUTS)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_convolution(data):
    """Any kernel, stride, dilation, padding and grouping that is a convolution at all."""

    def two(least, most):
        return [data.draw(st.integers(least, most)) for _ in range(2)]

    sizes, kernel, dilations = two(1, 12), two(1, 4), two(1, 3)
    begins, ends, strides = two(0, 3), two(0, 3), two(1, 4)
    groups, channels, filters = (data.draw(st.integers(1, 4)) for _ in range(3))
    for size, taps, dilation, begin, end in zip(
        sizes, kernel, dilations, begins, ends, strict=True
    ):
        assume(size + begin + end > dilation * (taps - 1))
    generator = np.random.default_rng(0)
    builder = ProgramBuilder()
    x = builder.input("x", (data.draw(st.integers(1, 2)), groups * channels, *sizes))
    w = generator.standard_normal((groups * filters, channels, *kernel))
    bias = generator.standard_normal(groups * filters)
    convolved = builder.op(
        "Conv",
        x,
        builder.constant("w", w),
        builder.constant("b", bias, unrounded=True),
        strides=strides,
        dilations=dilations,
        pads=[*begins, *ends],
        group=groups,
    )
    program = builder.program(builder.op("Identity", convolved))
    shape = program.tensors["x"].shape
    assert_agree(program, {"x": generator.standard_normal(shape).astype(np.float32)})


def test_a_value_is_freed_at_its_last_use_and_weights_that_a_kernel_packed_are_not_kept():
    program = one_op("Conv", [("Relu", {})])
    plan = make_plan(program, weight_values(program), integer_kernels=True)
    released = [
        [name for name in program.tensors if plan.slots[name] in step.releases]
        for step in plan.steps
    ]
    assert released == [["x"], ["residual", "conv_0_out"]]
    kept = [name for name in program.tensors if plan.initial[plan.slots[name]].numel()]
    assert kept == []


def test_an_operand_that_is_read_again_is_not_overwritten():
    builder = ProgramBuilder()
    x = builder.input("x", X.shape)
    view = builder.op("Reshape", x, shape=[1, 8, 36])
    part = builder.op("Slice", view, starts=[1], ends=[5], axes=[1])
    changed = builder.op("Identity", part, epilogue=[("Relu", {}), ("Mul", part)])
    program = builder.program(builder.op("Identity", view), builder.op("Identity", changed))
    before = X.copy()
    assert_agree(program, {"x": X})
    np.testing.assert_array_equal(X, before)


def test_running_twice_gives_the_same_and_owned_outputs():
    engine = FastEngine(one_op("Conv", [("Relu", {})]))
    first = engine.run(INPUTS)
    kept = {key: value.copy() for key, value in first.items()}
    engine.run({key: -value for key, value in INPUTS.items()})
    second = engine.run(INPUTS)
    for key in first:
        np.testing.assert_array_equal(first[key], kept[key])
        np.testing.assert_array_equal(second[key], kept[key])
        assert first[key].flags.writeable


def test_any_memory_order_of_an_input_is_read_and_left_alone():
    program = one_op("Conv", [("Relu", {})])
    expected = FastEngine(program).run(INPUTS)
    odd = np.asfortranarray(X)
    odd.flags.writeable = False
    reversed_twice = np.ascontiguousarray(INPUTS["residual"][..., ::-1])[..., ::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = FastEngine(program).run({"x": odd, "residual": reversed_twice})
    for key in expected:
        np.testing.assert_array_equal(got[key], expected[key])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 1e-7, -6e-8, 1e-40, 65504.0])
@pytest.mark.parametrize("op_type", ["Conv", "Identity"])
@pytest.mark.parametrize("stage", [("Relu", {}), ("Clip", {"min": 0.0, "max": 6.0}), ("Swish", {})])
def test_special_values_behave_as_in_the_reference(op_type, stage, special, precision):
    x = X.copy()
    x[0, 2, 3, 3] = special
    assert_agree(one_op(op_type, [stage], precision), {"x": x, "residual": INPUTS["residual"]})


def test_an_overflow_names_the_first_op_and_has_the_references_values():
    builder = ProgramBuilder()
    x = builder.input("x", (1, 8, 6, 6))
    weight = builder.constant("w", np.ones((8, 8, 1, 1)))
    doubled = builder.op("Add", x, x, name="doubled")
    mixed = builder.op("Conv", doubled, weight, epilogue=[("Relu", {})], name="mixed")
    program = builder.program(builder.op("Sub", mixed, doubled))
    result = FastEngine(program).execute({"x": X * 5000})
    assert result.overflowed is not None
    assert result.overflowed.id == "doubled"
    assert_agree(program, {"x": X * 5000})


def test_an_infinite_constant_costs_no_second_run(monkeypatch):
    builder = ProgramBuilder()
    x = builder.input("x", (3, 3))
    mask = builder.constant("mask", np.triu(np.full((3, 3), -np.inf), 1))
    masked = builder.op("Add", x, mask)
    program = builder.program(builder.op("Softmax", masked))
    assert_agree(program, {"x": X[0, 0, :3, :3]})
    monkeypatch.setattr(reference, "execute", None)
    assert FastEngine(program).execute({"x": X[0, 0, :3, :3]}).overflowed is None


def test_the_process_settings_of_torch_change_nothing_and_are_left_alone():
    program = one_op("Conv", [("Relu", {})])
    expected = FastEngine(program).run(INPUTS)
    onednn = torch.backends.mkldnn
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    chosen = onednn.conv.fp32_precision, onednn.matmul.fp32_precision
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = FastEngine(program).run(INPUTS)
            assert torch.is_autocast_enabled("cpu")
        assert (onednn.conv.fp32_precision, onednn.matmul.fp32_precision) == chosen
    finally:
        torch.set_float32_matmul_precision(before)
    for key in expected:
        np.testing.assert_array_equal(got[key], expected[key])


@pytest.mark.parametrize("run", [reference.run, lambda program, x: FastEngine(program).run(x)])
def test_an_index_out_of_range_is_an_error_not_a_value(run):
    builder = ProgramBuilder()
    table, ids = builder.constant("table", np.eye(4)), builder.input("ids", (2,), DType.INT64)
    program = builder.program(builder.op("Gather", table, ids))
    with pytest.raises(OpError, match="index 4 is out of range for axis 0 of size 4"):
        run(program, {"ids": np.array([0, 4])})


def test_concurrent_runs_leave_the_precision_of_the_process_as_it_was():
    engine = FastEngine(classifier())
    before = torch.backends.mkldnn.conv.fp32_precision
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: engine.run({"image": IMAGE}), range(200)))
    assert torch.backends.mkldnn.conv.fp32_precision == before != "ieee"


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_weight_that_is_not_finite_never_meets_the_padding(dilation):
    """At the border the infinite tap lies outside: its product with zero would be NaN."""
    builder = ProgramBuilder()
    taps = np.ones((1, 8, 3, 3), np.float32)
    taps[0, 0, 0, 0] = np.inf
    x = builder.input("x", X.shape)
    attributes = {"pads": (dilation,) * 4, "dilations": (dilation,) * 2}
    made = builder.op("Conv", x, builder.constant("w", taps), **attributes)
    assert_agree(builder.program(made), {"x": np.abs(X)})
