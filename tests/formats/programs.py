"""A small program and profile that use every field of the data classes, built by hand."""

from dataclasses import replace

import numpy as np

from formats import (
    Bound,
    Buffer,
    DType,
    EpilogueStage,
    KPUOp,
    KPUPerformanceMetrics,
    KPUPrecision,
    KPUProgram,
    KPUTensor,
    MemoryLayout,
    MemoryType,
    Profile,
    Quantization,
    SimulationMode,
    TileConfig,
    tensors,
)
from formats.profile import OP_FIGURES

L2 = MemoryType.SRAM_L2

CONV_WEIGHT = np.arange(4 * 3 * 3 * 3, dtype=np.int8).reshape(4, 3, 3, 3)
CONV_SCALES = np.array([0.25, 0.5, 0.125, 1.0], np.float32)
CONV_BIAS = np.array([0.5, -0.25, 0.125, 1.0], np.float32)
WEIGHTS = {"weight": CONV_WEIGHT, "bias": CONV_BIAS, "weight.scales": CONV_SCALES}


def tiny_program(**changes) -> KPUProgram:
    """Conv + Add + Relu, a view, and a sum: 1×3×4×4 in, 64 values and their mean out."""
    program = KPUProgram(
        name="tiny",
        source_model="tiny.pt2",
        source_hash="sha256:0123",
        precision=KPUPrecision.FP16,
        ops=(_conv(), _view(), _mean()),
        tensors={tensor.id: tensor for tensor in _tensors()},
        input_ids=("image", "residual"),
        output_ids=("mean",),
        peak_sram_bytes=192,
        peak_dram_bytes=1024,
        weight_bytes=232,
        activation_bytes=192,
        estimated_total_cycles=1300,
        estimated_total_energy_uj=1.25,
        weights_blob=tensors.pack(WEIGHTS),
        buffers=(
            Buffer("conv", "image", L2, 1024, 192, 2),
            Buffer("conv", "image", MemoryType.SRAM_L1, 0, 128, 1),
            Buffer("conv", "features", MemoryType.SRAM_L1, 128, 128, 2),
            Buffer("mean", "flat", MemoryType.SRAM_L1, 0, 128, 1),
        ),
        live_set_bound_bytes=192,
        preprocess="imagenet",
        quantization=Quantization(
            method="mse",
            samples=100,
            held_out=40,
            sqnr_db={"mean": 44.5},
            max_difference={"mean": 0.0033},
            op_sqnr_db={"conv": 38.25},
            mac_share=1.0,
            gains_db={"bias correction": 0.75},
        ),
        options={"layout": "cost", "passes": ("fold", "fuse"), "limits": {"seconds": 1.5}},
    )
    return replace(program, **changes)


def _conv() -> KPUOp:
    return KPUOp(
        id="conv",
        op_type="Conv",
        input_ids=("image", "weight", "bias", "residual", "weight.scales"),
        output_ids=("features",),
        attributes={"kernel_shape": (3, 3), "strides": (1, 1), "pads": (1, 1, 1, 1), "group": 1},
        tiling=TileConfig(
            tile_sizes={"OC": 4, "OH": 2},
            loop_order=("OH", "OC"),
            double_buffer=True,
            l2_tile_sizes={"OH": 4},
            l2_loop_order=("OH",),
            reduction_split=2,
        ),
        schedule_order=0,
        fused_with=("batch_norm", "relu"),
        estimated_cycles=1000,
        estimated_energy_pj=1e6,
        epilogue=(
            EpilogueStage("Add", operand=3),
            EpilogueStage("Clip", {"min": 0.0, "max": None}),
        ),
        operand_count=3,
        precision=KPUPrecision.INT8,
        name="layer1.0.conv",
        source="model.py:12: x = self.conv(x)",
    )


def _view() -> KPUOp:
    return KPUOp(
        id="flatten",
        op_type="Reshape",
        input_ids=("features",),
        output_ids=("flat",),
        attributes={"shape": (1, 64)},
        schedule_order=1,
        operand_count=1,
    )


def _mean() -> KPUOp:
    return KPUOp(
        id="mean",
        op_type="ReduceMean",
        input_ids=("flat",),
        output_ids=("mean",),
        attributes={"axes": (1,), "keepdims": False},
        schedule_order=2,
        estimated_cycles=300,
        estimated_energy_pj=2.5e5,
        operand_count=1,
    )


def _tensors() -> list[KPUTensor]:
    features = MemoryLayout(L2, 0, tile_shape=(1, 4, 2, 4), alignment_bytes=32)
    flat = MemoryLayout(L2, 0)
    return [
        KPUTensor(
            id="image",
            name="x",
            shape=(1, 3, 4, 4),
            dtype=DType.UINT8,
            scale=0.0625,
            zero_point=128,
            is_input=True,
            host_dtype="float64",
        ),
        KPUTensor(
            id="weight",
            name="conv.weight",
            shape=(4, 3, 3, 3),
            dtype=DType.INT8,
            layout=_dram(256),
            is_weight=True,
            scales="weight.scales",
        ),
        KPUTensor("weight.scales", "", (4,), DType.FP32, _dram(384), is_weight=True),
        KPUTensor("bias", "conv.bias", (4,), DType.FP32, _dram(512), is_weight=True),
        KPUTensor("residual", "skip", (1, 4, 1, 1), DType.FP16, _dram(576), is_input=True),
        KPUTensor("features", "layer1.0.conv", (1, 4, 4, 4), DType.FP16, features),
        KPUTensor("flat", "flat", (1, 64), DType.FP16, flat, alias_of="features"),
        KPUTensor("mean", "mean", (1,), DType.FP32, _dram(640), is_output=True),
    ]


def _dram(address: int) -> MemoryLayout:
    return MemoryLayout(base_address=address)


def tiny_profile(**changes) -> Profile:
    """A run of the tiny program: metrics, one row per op, two tables of events."""
    program = tiny_program(weights_blob=None)
    rows = {
        "conv": {"cycles": 1000.0, "compute_cycles": 900.0, "bound_by": float(Bound.COMPUTE)},
        "flatten": {},
        "mean": {"cycles": 300.0, "compute_cycles": 300.0, "bound_by": float(Bound.VECTOR)},
    }
    profile = Profile(
        program=program,
        mode=SimulationMode.FUNCTIONAL,
        metrics=KPUPerformanceMetrics(
            total_cycles=1300,
            total_time_us=2.6,
            compute_cycles=1200,
            memory_stall_cycles=60,
            other_cycles=40,
            average_power_watts=0.5,
            op_metrics={
                name: {**dict.fromkeys(OP_FIGURES, 0.0), **row} for name, row in rows.items()
            },
        ),
        options={"engine": "fast"},
        events={
            "op.start_cycle": np.array([0, 1000, 1000], np.int64),
            "op.end_cycle": np.array([1000, 1000, 1300], np.int64),
            "op.l2_live_bytes": np.array([320, 128, 128], np.int64),
            "power.watts": np.array([0.5, 1.5], np.float64),
        },
    )
    return replace(profile, **changes)
