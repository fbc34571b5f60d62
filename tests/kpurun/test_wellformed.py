"""What a program may do with codes: where scales belong, and sums that 32 bits hold."""

from dataclasses import replace

import numpy as np
import pytest

from formats.errors import FileError, LimitError
from formats.precision import DType
from formats.program import KPUProgram, TileConfig
from kpurun.sim.timeline import simulate
from kpurun.wellformed import problems, require_wellformed
from tests.kpurun.programs import ProgramBuilder


def product_of(
    op_type: str, x_shape, w_shape, axis: int, group_size: int = 0, scales=None, **attributes
) -> KPUProgram:
    """One product of a coded input and a coded weight with scales along `axis`."""
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", x_shape), 0.5, 128)
    scales = np.ones(w_shape[axis]) if scales is None else scales
    weight = builder.codes("w", np.ones(w_shape, np.int8), scales, axis, group_size)
    return builder.program(builder.op(op_type, x, weight, name="made", **attributes))


CHANNELS = {
    "Conv": product_of("Conv", (1, 3, 2, 2), (4, 3, 1, 1), 0),
    "Conv of groups": product_of("Conv", (1, 4, 2, 2), (4, 2, 1, 1), 0, group=2),
    "Gemm": product_of("Gemm", (2, 3), (3, 4), 1),
    "Gemm transposed": product_of("Gemm", (2, 3), (4, 3), 0, transB=1),
    "MatMul": product_of("MatMul", (2, 5, 3), (3, 4), 1),
    "MatMul of a batch": product_of("MatMul", (2, 5, 3), (2, 3, 4), 2),
}


@pytest.mark.parametrize("program", CHANNELS.values(), ids=CHANNELS)
def test_scales_follow_the_channels_of_the_output(program):
    assert list(problems(program)) == []


OTHER_AXES = {
    "Conv": (product_of("Conv", (1, 3, 2, 2), (4, 3, 1, 1), 1), "they are axis 0"),
    "Gemm": (product_of("Gemm", (2, 3), (3, 4), 0), "they are axis 1"),
    "Gemm transposed": (product_of("Gemm", (2, 3), (4, 3), 1, transB=1), "they are axis 0"),
    "MatMul": (product_of("MatMul", (2, 5, 3), (3, 4), 0), "they are axis 1"),
    "MatMul of a batch": (product_of("MatMul", (2, 5, 3), (2, 3, 4), 0), "they are axis 2"),
    "MatMul by a vector": (product_of("MatMul", (5, 3), (3,), 0), "it has none"),
}


@pytest.mark.parametrize(("program", "message"), OTHER_AXES.values(), ids=OTHER_AXES)
def test_scales_of_another_axis_are_refused(program, message):
    with pytest.raises(FileError, match=f"op made .*the scales of 'w' follow its axis.*{message}"):
        require_wellformed(program)


def misplaced(*operands: str, op_type: str, epilogue=(), **attributes) -> KPUProgram:
    builder = ProgramBuilder()
    builder.coded(builder.input("x", (2, 2)), 0.5, 128)
    builder.codes("w", np.ones((2, 2), np.int8), np.ones(2))
    builder.input("ids", (2,), DType.INT64)
    made = builder.op(op_type, *operands, epilogue=epilogue, name="made", **attributes)
    return builder.program(made)


MISPLACED = {
    "first factor": misplaced("w", "x", op_type="MatMul"),
    "no product": misplaced("x", "w", op_type="Add"),
    "rows of a table": misplaced("w", "ids", op_type="Gather", axis=0),
    "bias": misplaced("x", "x", "w", op_type="Gemm"),
    "epilogue": misplaced("x", "x", op_type="MatMul", epilogue=[("Add", "w")]),
}


@pytest.mark.parametrize("program", MISPLACED.values(), ids=MISPLACED)
def test_scales_of_channels_where_no_product_applies_them_are_refused(program):
    with pytest.raises(FileError, match="operand 'w' has scales of channels, which only"):
        require_wellformed(program)


@pytest.mark.parametrize(
    ("depth", "group_size", "scales"),
    [(66_311, 0, None), (70_000, 35_000, np.ones((1, 2)))],
    ids=["whole", "groups"],
)
def test_the_longest_sums_that_32_bits_hold_are_taken(depth, group_size, scales):
    program = product_of("Gemm", (1, depth), (depth, 1), 1, group_size, scales)
    widest = replace(program.tensors["x"], zero_point=0)
    assert list(problems(replace(program, tensors={**program.tensors, "x": widest}))) == []


TOO_LONG = {
    # 2^31 - 1 = 66,311 · 255 · 127 + 1,912
    "uint8 · int8": (0, DType.INT8, "66,312 products of uint8 and int8 codes.*hold 66,311"),
    # 33,025 · 255 · 255 + 33,022
    "uint8 · uint8": (0, DType.UINT8, "66,312 products of uint8 and uint8 codes.*hold 33,025"),
}


@pytest.mark.parametrize(("zero_point", "dtype", "message"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_sum_beyond_32_bits_is_refused(zero_point, dtype, message):
    builder = ProgramBuilder()
    x = builder.coded(builder.input("x", (1, 66_312)), 0.5, zero_point)
    other = builder.coded(builder.input("y", (66_312, 1)), 0.5, 0, dtype)
    with pytest.raises(FileError, match=message):
        require_wellformed(builder.program(builder.op("MatMul", x, other)))


def test_a_zero_point_in_the_middle_makes_room_for_longer_sums():
    """The code is at most 128 from its zero point: 2^31 - 1 = 132,104 · 128 · 127 + 983."""
    assert list(problems(product_of("Gemm", (1, 132_104), (132_104, 1), 1))) == []
    (problem,) = problems(product_of("Gemm", (1, 132_105), (132_105, 1), 1))
    assert "32 bits hold 132,104" in problem


def test_a_sum_of_a_convolution_is_over_channels_and_taps():
    # 700 · 10 · 10 = 70,000
    program = product_of("Conv", (1, 700, 10, 10), (1, 700, 10, 10), 0)
    wide = replace(program.tensors["x"], zero_point=0)
    (problem,) = problems(replace(program, tensors={**program.tensors, "x": wide}))
    assert "sums 70,000 products" in problem


def test_codes_are_no_indices():
    builder = ProgramBuilder()
    table, ids = builder.input("table", (3, 2)), builder.input("ids", (2,), DType.INT64)
    program = builder.program(builder.op("Gather", table, ids, axis=0))
    coded = replace(program.tensors["ids"], dtype=DType.UINT8, scale=1.0)
    with pytest.raises(FileError, match="Gather"):
        require_wellformed(replace(program, tensors={**program.tensors, "ids": coded}))


def test_an_integer_result_has_no_codes():
    builder = ProgramBuilder()
    ids = builder.input("ids", (2,), DType.INT64)
    made = builder.op("Add", ids, ids, name="made")
    program = builder.program(made)
    coded = replace(program.tensors[made], dtype=DType.UINT8, scale=1.0)
    with pytest.raises(FileError, match=r"gives int64 \[2\], but its outputs are fp32 \[2\]"):
        require_wellformed(replace(program, tensors={**program.tensors, made: coded}))


def parts(*starts, **changes):
    """Two results of four channels as parts of their concatenation, at `starts`."""
    builder = ProgramBuilder()
    x = builder.input("x", (1, 4, 2, 2))
    a, b = builder.op("Relu", x, name="a"), builder.op("Sigmoid", x, name="b")
    whole = builder.op("Concat", a, b, axis=1, name="whole")
    program = builder.program(builder.op("Relu", whole, name="last"))
    root = program.tensors[whole]
    made = {
        name: replace(program.tensors[name], alias_of=whole, starts=at, layout=root.layout)
        for name, at in zip((a, b), starts, strict=True)
    }
    return replace(program, tensors={**program.tensors, **made, **changes})


def test_parts_beside_each_other_are_well_formed():
    assert list(problems(parts((0, 0, 0, 0), (0, 4, 0, 0)))) == []


def test_parts_that_overlap_are_named():
    (problem, *_) = problems(parts((0, 0, 0, 0), (0, 3, 0, 0)))
    assert problem == "op b (Sigmoid): writes 'b_out' over 'a_out'"


def test_parts_in_the_wrong_order_are_written_over_by_the_concatenation():
    """It would have to move them, to where they are."""
    (problem, *_) = problems(parts((0, 4, 0, 0), (0, 0, 0, 0)))
    assert problem == "op whole (Concat): writes 'whole_out' over 'a_out'"


def tiled_convolution(tiling: TileConfig) -> KPUProgram:
    builder = ProgramBuilder()
    x = builder.input("x", (1, 3, 8, 8))
    made = builder.op("Conv", x, builder.constant("w", np.ones((4, 3, 1, 1))), name="made")
    program = builder.program(made)
    return replace(program, ops=tuple(replace(op, tiling=tiling) for op in program.ops))


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        (TileConfig({"OC": 9}, ("OC",)), "a tile of 9 does not fit the 4 of OC"),
        (TileConfig({"IC": 1}, ()), "IC is split but not in the loop order"),
        (TileConfig({"IC": 1, "OC": 1}, ("IC", "OC")), "before its reduction is complete"),
    ],
)
def test_tiles_that_cannot_be_executed_are_named(tiling, message):
    (problem,) = problems(tiled_convolution(tiling))
    assert message in problem


def test_more_tiles_than_can_be_played_are_refused():
    builder = ProgramBuilder()
    x = builder.input("x", (1, 2**21))
    program = builder.program(builder.op("Relu", x, name="made"))
    tiling = TileConfig({"D1": 1}, ("D1",))
    program = replace(program, ops=tuple(replace(op, tiling=tiling) for op in program.ops))
    with pytest.raises(LimitError, match="2,097,152 tiles is not played"):
        simulate(program)
