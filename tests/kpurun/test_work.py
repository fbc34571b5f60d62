"""Work joins an op's loop nest with where and how its operands are stored."""

from dataclasses import replace

import pytest

from formats.config import KPUConfig
from formats.precision import DType, KPUPrecision
from formats.program import EpilogueStage, KPUOp, KPUProgram, KPUTensor, MemoryLayout, MemoryType
from kpurun.ops.loopnest import Axis, Unit
from kpurun.ops.types import OpError, TensorType
from kpurun.timing import estimate
from kpurun.work import Placed, Work, build_work, semantic_type, work_of
from tests.kpurun.programs import ProgramBuilder

L2 = MemoryType.SRAM_L2
DRAM = MemoryType.DRAM


def placed(
    name: str,
    *shape: int,
    dtype: DType = DType.FP16,
    memory: MemoryType = L2,
    order: str = "NCHW",
) -> Placed:
    means = TensorType(shape) if dtype in (DType.FP16, DType.FP32) else TensorType(shape, dtype)
    return Placed(name, means, dtype, memory, order)


def work(op, attributes, reads, writes, epilogue=()) -> Work:
    return build_work(op, attributes, epilogue, reads, writes, KPUPrecision.FP16)


CONV = {"pads": (1, 1, 1, 1)}
IMAGE = placed("x", 1, 8, 6, 6)
FILTERS = placed("w", 4, 8, 3, 3, memory=DRAM)
BIAS = placed("b", 4, dtype=DType.FP32)
MAPS = placed("y", 1, 4, 6, 6)


def test_operands_keep_their_place_and_storage():
    built = work("Conv", CONV, [IMAGE, FILTERS, BIAS], [MAPS])

    weight = built.reads[1]
    assert (weight.tensor_id, weight.dtype, weight.memory_type) == ("w", DType.FP16, DRAM)
    assert weight.shape == (4, 8, 3, 3)
    assert weight.access == built.nest.reads[1]
    assert built.writes[0].tensor_id == "y"


def test_the_drain_edge_adds_the_bias_and_the_stages():
    residual = placed("r", 1, 4, 6, 6)
    epilogue = (EpilogueStage("Swish"), EpilogueStage("Add", operand=3))

    built = work("Conv", CONV, [IMAGE, FILTERS, BIAS, residual], [MAPS], epilogue)

    assert built.epilogue_lane_ops == 1 + 4 + 1  # bias, Swish, Add; rounded on the way out


def test_an_output_left_in_fp32_is_not_converted():
    fp32_maps = placed("y", 1, 4, 6, 6, dtype=DType.FP32)
    assert work("Conv", CONV, [IMAGE, FILTERS], [fp32_maps]).epilogue_lane_ops == 0


@pytest.mark.parametrize("last", ["Relu", "Clip"])
def test_a_last_clamp_is_free_beside_other_work(last):
    epilogue = (EpilogueStage("Swish"), EpilogueStage(last))
    built = work("Conv", CONV, [IMAGE, FILTERS, BIAS], [MAPS], epilogue)
    assert built.epilogue_lane_ops == 1 + 4  # bias, Swish


def test_a_clamp_that_others_follow_is_work():
    epilogue = (EpilogueStage("Relu"), EpilogueStage("Swish"))
    built = work("Conv", CONV, [IMAGE, FILTERS, BIAS], [MAPS], epilogue)
    assert built.epilogue_lane_ops == 1 + 1 + 4  # bias, Relu, Swish


def test_a_depthwise_bias_is_where_the_accumulator_starts():
    filters = placed("w", 8, 1, 3, 3)
    reads = [IMAGE, filters, placed("b", 8, dtype=DType.FP32)]

    built = work("Conv", {"group": 8, **CONV}, reads, [placed("y", 1, 8, 6, 6)])

    assert built.nest.unit is Unit.VECTOR
    assert built.epilogue_lane_ops == 0  # rounded on the way out


@pytest.mark.parametrize(
    ("attributes", "operands", "lane_ops"),
    [({}, 2, 0), ({}, 3, 1), ({"beta": 0.5}, 3, 1), ({"alpha": 2.0}, 2, 1), ({"alpha": 2.0}, 3, 2)],
)
def test_gemm_scales_on_the_drain_edge(attributes, operands, lane_ops):
    reads = [placed("a", 2, 3), placed("b", 3, 5), placed("c", 5)][:operands]
    built = work("Gemm", attributes, reads, [placed("y", 2, 5, dtype=DType.FP32)])
    assert built.epilogue_lane_ops == lane_ops


def test_an_epilogue_operand_follows_the_output_and_broadcasts():
    per_channel = placed("s", 4, 1, 1)
    epilogue = (EpilogueStage("Mul", operand=2),)

    built = work("Conv", CONV, [IMAGE, FILTERS, per_channel], [MAPS], epilogue)

    assert built.nest.lane_ops == 0  # the third operand is the epilogue's, not a bias
    assert built.reads[2].access.axes == (Axis(4, (("OC", 1),)), Axis(1), Axis(1))


def test_an_epilogue_operand_that_does_not_fit_is_refused():
    epilogue = (EpilogueStage("Add", operand=2),)
    with pytest.raises(OpError, match=r"shape \[3\] does not broadcast to the output"):
        work("Conv", CONV, [IMAGE, FILTERS, placed("r", 3)], [MAPS], epilogue)


VIEW_ROWS = [
    # op, attributes, source, view, unit
    ("Flatten", {}, IMAGE, placed("y", 1, 288), Unit.VIEW),
    ("Identity", {}, IMAGE, placed("y", 1, 8, 6, 6), Unit.VIEW),
    ("Identity", {}, IMAGE, placed("y", 1, 8, 6, 6, order="NHWC"), Unit.MOVE),
    ("Identity", {}, IMAGE, placed("y", 1, 8, 6, 6, memory=DRAM), Unit.MOVE),
    ("Identity", {}, IMAGE, placed("y", 1, 8, 6, 6, dtype=DType.FP32), Unit.VECTOR),
    ("Flatten", {}, placed("x", 1, 8, 6, 6, order="NHWC"), placed("y", 1, 288), Unit.MOVE),
    (
        "Reshape",
        {"shape": (1, 4, 12, 6)},
        placed("x", 1, 8, 6, 6, order="NHWC"),
        placed("y", 1, 4, 12, 6, order="NHWC"),
        Unit.MOVE,
    ),
]


@pytest.mark.parametrize(("op", "attributes", "source", "view", "unit"), VIEW_ROWS)
def test_a_view_is_free_only_where_its_bytes_stay(op, attributes, source, view, unit):
    built = work(op, attributes, [source], [view])
    assert built.nest.unit is unit
    assert built.epilogue_lane_ops == 0


@pytest.mark.parametrize(("root", "unit"), [("x", Unit.VIEW), ("y", Unit.MOVE)])
def test_a_view_with_bytes_of_its_own_is_copied_there(root, unit):
    source, view = replace(IMAGE, root="x"), replace(placed("y", 1, 288), root=root)
    assert work("Flatten", {}, [source], [view]).nest.unit is unit


def test_an_identity_with_a_stage_runs_on_the_vector_unit():
    built = work("Identity", {}, [IMAGE], [placed("y", 1, 8, 6, 6)], (EpilogueStage("Relu"),))

    assert built.nest.unit is Unit.VECTOR
    assert built.nest.lane_ops == 0
    assert built.epilogue_lane_ops == 1  # clamped and rounded on the way through


def test_data_that_only_moves_costs_no_lane():
    built = work("Concat", {"axis": 1}, [IMAGE, IMAGE], [placed("y", 1, 16, 6, 6)])
    assert built.nest.unit is Unit.MOVE
    assert built.epilogue_lane_ops == 0


def test_a_gather_of_floats_by_integers_only_moves():
    indices = placed("i", 4, dtype=DType.INT64)
    built = work("Gather", {"axis": 2}, [IMAGE, indices], [placed("y", 1, 8, 4, 6)])
    assert built.nest.unit is Unit.MOVE


def test_work_of_a_program_reads_its_tensors():
    tensors = {
        "x": KPUTensor("x", "x", (1, 8, 6, 6), DType.FP16, MemoryLayout(L2, format="NHWC")),
        "w": KPUTensor("w", "w", (4, 8, 3, 3), DType.FP16, is_weight=True),
        "y": KPUTensor("y", "y", (1, 4, 6, 6), DType.FP16, MemoryLayout(L2)),
    }
    op = KPUOp("conv", "Conv", ("x", "w"), ("y",), CONV, operand_count=2)
    program = KPUProgram("p", precision=KPUPrecision.FP16, ops=(op,), tensors=tensors)

    built = work_of(program, op)

    assert [(read.format, read.is_weight) for read in built.reads] == [
        ("NHWC", False),
        ("NCHW", True),
    ]
    assert built.reads[1].memory_type is DRAM
    assert built.precision is KPUPrecision.FP16


CODES = replace(IMAGE, dtype=DType.UINT8, code=(0.5, 128))
CODED_FILTERS = replace(FILTERS, dtype=DType.INT8, scale_axis=0)
SCALES = placed("s", 4, dtype=DType.FP32, memory=DRAM)
CODED_MAPS = replace(MAPS, dtype=DType.UINT8, code=(0.25, 0))


def quantised(*reads: Placed, epilogue=(), operand_count=2, output=CODED_MAPS) -> Work:
    return build_work("Conv", CONV, epilogue, reads, [output], KPUPrecision.INT8, operand_count)


def test_scales_follow_the_channels_of_their_weight():
    built = quantised(CODES, CODED_FILTERS, SCALES)
    assert built.reads[2].tensor_id == "s"
    assert built.reads[2].access.axes == (Axis(4, (("OC", 1),)),)


def test_the_scales_of_groups_are_read_whole_with_their_channel():
    groups = placed("s", 4, 9, dtype=DType.FP32, memory=DRAM)
    built = quantised(CODES, CODED_FILTERS, groups)
    assert built.reads[2].access.axes == (Axis(4, (("OC", 1),)), Axis(9))


def test_scales_stand_after_the_operands_of_the_epilogue():
    residual = replace(CODED_MAPS, tensor_id="r")
    stages = (EpilogueStage("Add", operand=3),)
    built = quantised(
        CODES, CODED_FILTERS, BIAS, residual, SCALES, epilogue=stages, operand_count=3
    )
    assert [len(read.access.axes) for read in built.reads] == [4, 4, 1, 4, 1]
    assert built.reads[4].access == built.reads[2].access


def test_the_bytes_of_scales_are_counted():
    config = KPUConfig()
    without = estimate(quantised(CODES, replace(CODED_FILTERS, scale_axis=None)), None, config)
    scaled = estimate(quantised(CODES, CODED_FILTERS, SCALES), None, config)
    assert scaled.dram_read_bytes - without.dram_read_bytes == 4 * 4


@pytest.mark.parametrize(
    ("reads", "output", "lane_ops"),
    [
        ((CODES, CODED_FILTERS, SCALES), CODED_MAPS, 1),
        ((CODES, CODED_FILTERS, BIAS, SCALES), CODED_MAPS, 1),
        ((CODES, CODED_FILTERS, BIAS, SCALES), replace(MAPS, dtype=DType.FP32), 1),
    ],
    ids=["scale", "scale and bias", "to fp32"],
)
def test_scale_and_bias_are_one_operation_of_a_lane(reads, output, lane_ops):
    built = quantised(*reads, operand_count=len(reads) - 1, output=output)
    assert built.epilogue_lane_ops == lane_ops


CONVERSIONS = {
    "equal codes": (CODES, CODES, Unit.VIEW),
    "another scale": (CODES, replace(CODES, code=(0.25, 128)), Unit.VECTOR),
    "another zero point": (CODES, replace(CODES, code=(0.5, 0)), Unit.VECTOR),
    "codes to floats": (CODES, IMAGE, Unit.VECTOR),
    "floats to codes": (IMAGE, CODES, Unit.VECTOR),
}


@pytest.mark.parametrize(("source", "made", "unit"), CONVERSIONS.values(), ids=CONVERSIONS)
def test_a_view_is_work_where_the_codes_change(source, made, unit):
    built = work("Identity", {}, [source], [replace(made, tensor_id="y")])
    assert built.nest.unit is unit
    assert built.epilogue_lane_ops == (1 if unit is Unit.VECTOR else 0)


def test_a_concat_of_unlike_codes_is_work_for_the_lanes():
    output = replace(CODES, tensor_id="y", type=TensorType((1, 16, 6, 6)))
    other = replace(CODES, code=(0.25, 128))
    assert work("Concat", {"axis": 1}, [CODES, CODES], [output]).nest.unit is Unit.MOVE
    assert work("Concat", {"axis": 1}, [CODES, other], [output]).nest.unit is Unit.VECTOR


def test_an_op_runs_in_its_own_precision():
    builder = ProgramBuilder()
    x = builder.input("x", (2, 2))
    coded = builder.op("MatMul", x, x, precision=KPUPrecision.INT8)
    program = builder.program(builder.op("MatMul", coded, x))
    first, second = (work_of(program, op).precision for op in program.ops)
    assert (first, second) == (KPUPrecision.INT8, KPUPrecision.FP16)


def test_quantised_codes_mean_floats():
    codes = KPUTensor("x", "x", (3,), DType.UINT8, scale=0.1, zero_point=3)
    assert semantic_type(codes) == TensorType((3,))
    assert semantic_type(KPUTensor("i", "i", (3,), DType.INT64)).dtype == DType.INT64
