"""Every record computes what eager PyTorch computes, and infers the types of what it computes."""

import warnings

import numpy as np
import pytest

from formats.config import NATIVE_ACTIVATIONS, NATIVE_OPS
from formats.precision import DType
from kpurun.ops import OPS, evaluate
from kpurun.ops.checks import type_of
from kpurun.ops.opdef import REQUIRED, infer_types
from tests.op_case import OpCase
from tests.op_cases import CASES

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))


@each_case
def test_equals_pytorch(case: OpCase):
    arrays = case.arrays()

    results = evaluate(case.op, case.attributes, arrays)

    expected = case.expected(arrays)
    assert [result.dtype for result in results] == [array.dtype for array in expected]
    for result, array in zip(results, expected, strict=True):
        if array.dtype == np.float32:
            np.testing.assert_allclose(result, array, case.tolerance, case.tolerance)
        else:
            np.testing.assert_array_equal(result, array)


@each_case
def test_infers_what_it_computes(case: OpCase):
    operands = tuple(operand.type for operand in case.operands)

    inferred = infer_types(OPS[case.op], case.attributes, operands)

    computed = evaluate(case.op, case.attributes, case.arrays())
    assert inferred == tuple(type_of(array) for array in computed)


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_every_op_of_the_machine_has_a_record():
    assert set(OPS) == set(NATIVE_OPS) - {"Constant"} | set(NATIVE_ACTIVATIONS)


def test_a_record_is_listed_under_its_name():
    assert all(op.name == name for name, op in OPS.items())


def test_every_op_has_a_case():
    assert {case.op for case in CASES} == set(OPS)


@pytest.mark.parametrize("op", OPS)
def test_every_attribute_has_a_case_with_another_value_than_its_default(op):
    for attribute, default in OPS[op].attributes.items():
        given = [case.attributes.get(attribute, default) for case in CASES if case.op == op]
        assert any(value is not REQUIRED and value != default for value in given), attribute


def test_exactly_activations_and_binary_arithmetic_run_as_stages():
    stages = {name for name, op in OPS.items() if op.stage}
    assert stages == {*NATIVE_ACTIVATIONS, "Add", "Sub", "Mul", "Div"}


def test_stages_cost_lane_operations():
    assert all(op.lane_ops > 0 for op in OPS.values() if op.stage)


@pytest.mark.parametrize("activation", NATIVE_ACTIVATIONS)
def test_an_activation_is_quiet_on_extreme_values(activation):
    extremes = np.array([-np.inf, -3e38, -200, -0.0, 0, 1e-40, 200, 3e38, np.inf, np.nan], "f")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = evaluate(activation, {}, (extremes,))

    assert np.isnan(result[-1])
    assert np.isfinite(result[1:-2]).all()


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_overflows_to_infinity_quietly(op):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (result,) = evaluate(op, {}, (np.float32([3e38, 0]), np.float32([-1e-38, 0])))

    assert result.dtype == np.float32


def test_float64_operands_count_as_fp32():
    (result,) = evaluate("Add", {}, (np.ones(2), np.ones(2, np.float32)))
    assert result.dtype == np.float32
    assert type_of(np.ones(2)).dtype == DType.FP32


def test_nan_wins_every_maximum():
    x = np.full((1, 1, 3, 3), 1, np.float32)
    x[0, 0, 1, 1] = np.nan

    (result,) = evaluate("MaxPool", {"kernel_shape": (2, 2)}, (x,))

    assert np.isnan(result).all()


def test_gather_names_an_index_that_is_out_of_range():
    operands = (np.zeros((4, 2), np.float32), np.array([0, -5]))
    with pytest.raises(ValueError, match="index -5 is out of range for axis 0 of size 4"):
        evaluate("Gather", {"axis": 0}, operands)
