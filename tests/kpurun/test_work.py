"""Work joins an op's loop nest with where and how its operands are stored."""

import pytest

from formats.precision import DType, KPUPrecision
from formats.program import EpilogueStage, KPUOp, KPUProgram, KPUTensor, MemoryLayout, MemoryType
from kpurun.ops.loopnest import Axis, Unit
from kpurun.ops.types import OpError, TensorType
from kpurun.work import Placed, Work, build_work, semantic_type, work_of

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


def test_the_drain_edge_adds_the_bias_the_stages_and_the_conversion():
    residual = placed("r", 1, 4, 6, 6)
    epilogue = (EpilogueStage("Swish"), EpilogueStage("Add", operand=3))

    built = work("Conv", CONV, [IMAGE, FILTERS, BIAS, residual], [MAPS], epilogue)

    assert built.epilogue_lane_ops == 1 + 4 + 1 + 1  # bias, Swish, Add, to fp16


def test_an_output_left_in_fp32_is_not_converted():
    fp32_maps = placed("y", 1, 4, 6, 6, dtype=DType.FP32)
    assert work("Conv", CONV, [IMAGE, FILTERS], [fp32_maps]).epilogue_lane_ops == 0


def test_a_depthwise_bias_is_where_the_accumulator_starts():
    filters = placed("w", 8, 1, 3, 3)
    reads = [IMAGE, filters, placed("b", 8, dtype=DType.FP32)]

    built = work("Conv", {"group": 8, **CONV}, reads, [placed("y", 1, 8, 6, 6)])

    assert built.nest.unit is Unit.VECTOR
    assert built.epilogue_lane_ops == 1  # to fp16


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


def test_an_identity_with_a_stage_runs_on_the_vector_unit():
    built = work("Identity", {}, [IMAGE], [placed("y", 1, 8, 6, 6)], (EpilogueStage("Relu"),))

    assert built.nest.unit is Unit.VECTOR
    assert built.nest.lane_ops == 0
    assert built.epilogue_lane_ops == 2  # Relu, to fp16


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


def test_quantised_codes_mean_floats():
    codes = KPUTensor("x", "x", (3,), DType.UINT8, scale=0.1, zero_point=3)
    assert semantic_type(codes) == TensorType((3,))
    assert semantic_type(KPUTensor("i", "i", (3,), DType.INT64)).dtype == DType.INT64
