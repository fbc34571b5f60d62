"""Integer kernels against sums written out in Python's own integers, product by product."""

from itertools import product

import numpy as np
import pytest

from formats.precision import DType
from formats.program import KPUProgram
from kpurun.engine.codes import accumulate_codes
from kpurun.engine.storage import weight_values
from tests.kpurun.programs import ProgramBuilder

RNG = np.random.default_rng(5)


def activations(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def filters(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 128, shape, np.int8)


def accumulated(program: KPUProgram, **values: np.ndarray) -> np.ndarray:
    """What the last op of a program makes of the codes `values`, before any rounding."""
    return accumulate_codes(program, program.ops[-1], {**weight_values(program), **values})


def times(total: np.ndarray, scale: object) -> np.ndarray:
    """An integer sum as float32, times a float32."""
    return total.astype(np.float32) * np.float32(scale)


def convolved(x, w, zero_point, groups, stride, pads) -> np.ndarray:
    """Σ (x - zero point) · w over the taps that lie inside the image."""
    (top, left, bottom, right), (batch, _, height, width) = pads, x.shape
    count, depth, kernel_h, kernel_w = w.shape
    rows = (height + top + bottom - kernel_h) // stride + 1
    columns = (width + left + right - kernel_w) // stride + 1
    out = np.zeros((batch, count, rows, columns), np.int64)
    for n, f, r, c in np.ndindex(*out.shape):
        group = f // (count // groups)
        total = 0
        for d, i, j in product(range(depth), range(kernel_h), range(kernel_w)):
            y, z = r * stride + i - top, c * stride + j - left
            if 0 <= y < height and 0 <= z < width:
                code = int(x[n, group * depth + d, y, z])
                total += (code - zero_point) * int(w[f, d, i, j])
        out[n, f, r, c] = total
    return out


@pytest.mark.parametrize(
    ("channels", "count", "groups"),
    [(3, 4, 1), (4, 6, 2), (4, 4, 4), (3, 6, 3)],
    ids=["dense", "two groups", "depthwise", "depthwise, two filters a channel"],
)
@pytest.mark.parametrize("zero_point", [0, 131, 255])
def test_a_convolution_sums_codes_and_pads_with_zero(channels, count, groups, zero_point):
    x, w = activations(2, channels, 5, 6), filters(count, channels // groups, 3, 2)
    scales = RNG.random(count).astype(np.float32)
    pads, builder = (1, 0, 2, 1), ProgramBuilder()
    image = builder.coded(builder.input("x", x.shape), 0.02, zero_point)
    weight = builder.codes("w", w, scales)
    made = builder.op("Conv", image, weight, group=groups, strides=(2, 2), pads=pads)

    found = accumulated(builder.program(made), x=x)

    # the factors' scales are multiplied first
    scale = np.float32(scales.astype(np.float64) * np.float64(np.float32(0.02)))
    expected = times(convolved(x, w, zero_point, groups, 2, pads), scale.reshape(-1, 1, 1))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_a_bias_is_added_to_the_scaled_sum():
    x, w = np.uint8([[[[7]], [[3]]]]), np.int8([[[[2]], [[-5]]], [[[100]], [[1]]]])
    builder = ProgramBuilder()
    image = builder.coded(builder.input("x", (1, 2, 1, 1)), 0.5, 5)
    weight = builder.codes("w", w, [0.25, 2.0])
    bias = builder.constant("b", np.float32([1000.0, 0.125]), unrounded=True)
    program = builder.program(builder.op("Conv", image, weight, bias))
    # 2·2 + -2·-5 = 14, times 0.5·0.25, + 1000; 2·100 - 2·1 = 198, times 0.5·2, + 0.125
    assert accumulated(program, x=x).ravel().tolist() == [1001.75, 198.125]


def test_a_bias_may_be_codes_itself():
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (1, 1)), 1.0)
    weight = builder.codes("w", np.int8([[3]]), 1.0)
    bias = builder.codes("b", np.int8([20]), 0.25)
    program = builder.program(builder.op("Gemm", x, weight, bias))
    assert accumulated(program, x=np.uint8([[2]])).item() == 2 * 3 + 20 * 0.25


@pytest.mark.parametrize("transposes", list(product((0, 1), repeat=2)))
def test_gemm_scales_its_sums_and_its_bias(transposes):
    trans_a, trans_b = transposes
    a, b = activations(5, 7), filters(7, 3)
    scales, bias = np.float32([0.5, 0.1, 3.0]), np.float32([0.25, -2.0, 7.0])
    builder = ProgramBuilder()
    left = builder.coded(builder.input("a", a.T.shape if trans_a else a.shape), 0.05, 9)
    right = builder.codes("b", b.T if trans_b else b, scales, axis=0 if trans_b else 1)
    third = builder.constant("c", bias, unrounded=True)
    made = builder.op(
        "Gemm", left, right, third, alpha=0.5, beta=3.0, transA=trans_a, transB=trans_b
    )

    found = accumulated(builder.program(made), a=a.T if trans_a else a)

    expected = np.zeros((5, 3), np.float32)
    for m, n in np.ndindex(5, 3):
        total = sum((int(a[m, k]) - 9) * int(b[k, n]) for k in range(7))
        scale = np.float32(np.float64(np.float32(0.05)) * np.float64(scales[n]))
        expected[m, n] = np.float32(total * 0.5) * scale + bias[n] * np.float32(3)
    np.testing.assert_array_equal(found, expected)


def test_two_activations_have_a_zero_point_each():
    a, b = activations(2, 3, 4, 5), activations(3, 5, 6)
    builder = ProgramBuilder()
    left = builder.coded(builder.input("a", a.shape), 0.25, 100)
    right = builder.coded(builder.input("b", b.shape), 0.5, 7)
    program = builder.program(builder.op("MatMul", left, right))

    found = accumulated(program, a=a, b=b)

    total = np.zeros((2, 3, 4, 6), np.int64)
    for n, h, r, c in np.ndindex(*total.shape):
        total[n, h, r, c] = sum(
            (int(a[n, h, r, k]) - 100) * (int(b[h, k, c]) - 7) for k in range(5)
        )
    np.testing.assert_array_equal(found, times(total, 0.125))


def test_columns_of_a_product_have_their_own_scales():
    a, b = activations(2, 5), filters(5, 3)
    scales = np.float32([0.5, 2, 4])
    builder = ProgramBuilder()
    left = builder.coded(builder.input("a", a.shape), 1.0, 1)
    program = builder.program(builder.op("MatMul", left, builder.codes("b", b, scales, axis=1)))
    total = (a.astype(np.int64) - 1) @ b.astype(np.int64)
    np.testing.assert_array_equal(accumulated(program, a=a), times(total, scales))


def test_the_longest_sum_of_32_bits_is_exact():
    """66,311 · 255 · 127 = 2,147,481,735: the last that an accumulator holds; float32 rounds it
    once, to the nearest multiple of 128."""
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (1, 66_311)), 1.0)
    weight = builder.codes("w", np.full((66_311, 1), 127, np.int8), 1.0)
    program = builder.program(builder.op("Gemm", x, weight))
    total = accumulated(program, x=np.full((1, 66_311), 255, np.uint8))
    assert total.item() == 2_147_481_728


def test_groups_of_int4_are_scaled_within_the_sum():
    a, b = activations(2, 7), RNG.integers(-7, 8, (3, 7), np.int8)
    scales = 2.0 ** RNG.integers(-3, 4, (3, 3))  # groups of 3, 3 and 1 weights
    builder = ProgramBuilder()
    left = builder.coded(builder.input("a", a.shape), 0.5, 128)
    right = builder.codes("b", b, scales, group_size=3, dtype=DType.INT4)
    program = builder.program(builder.op("Gemm", left, right, transB=1))

    found = accumulated(program, a=a)

    for m, n in np.ndindex(2, 3):
        groups = [
            sum((int(a[m, k]) - 128) * int(b[n, k]) for k in range(7) if k // 3 == g) * scales[n, g]
            for g in range(3)
        ]
        assert found[m, n] == sum(groups) * 0.5  # powers of two: exact in any order


def test_groups_of_a_filter_run_over_its_channels_and_taps():
    x, w = activations(1, 2, 2, 2), RNG.integers(-7, 8, (1, 2, 2, 2), np.int8)
    builder = ProgramBuilder()
    image = builder.coded(builder.input("x", x.shape), 1.0)
    weight = builder.codes("w", w, [[1.0, 0.5]], group_size=5, dtype=DType.INT4)
    program = builder.program(builder.op("Conv", image, weight))
    products = [int(a) * int(b) for a, b in zip(x.ravel(), w.ravel(), strict=True)]
    assert accumulated(program, x=x).item() == sum(products[:5]) + 0.5 * sum(products[5:])
