"""Chains of ops as a compiler would emit them, with and without fusion, and profiles of them."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from formats.precision import DType, KPUPrecision
from formats.profile import Bound, KPUPerformanceMetrics, Profile, SimulationMode
from formats.program import EpilogueStage, KPUOp, KPUProgram, KPUTensor, MemoryLayout
from tests.kpuprof.profiles import figures

Layer = tuple[str, str, tuple[str, ...]]  # module, type, and what follows it

LAYERS: tuple[Layer, ...] = (
    ("stem", "Conv", ("Relu",)),
    ("block.conv1", "Conv", ("Tanh", "Relu")),
    ("block.conv2", "Conv", ("Sigmoid",)),
    ("", "Concat", ()),
    ("head", "Gemm", ()),
)


def network(layers=LAYERS, is_fused=True, prefix="", unfused=(), size=8) -> KPUProgram:
    """One op a layer when fused, else one for each of its parts; `unfused` modules never are.

    Source names are numbered by type, as a tracer does: `conv`, `conv_1`.
    """
    numbers: dict[str, int] = defaultdict(int)
    ops: list[KPUOp] = []
    last = "x"

    def source(op_type: str) -> str:
        number = numbers[op_type]
        numbers[op_type] += 1
        return op_type.lower() + (f"_{number}" if number else "")

    def emit(op_id: str, op_type: str, name: str, **more) -> None:
        nonlocal last
        result = f"{op_id}.out"
        ops.append(
            KPUOp(
                op_id,
                op_type,
                (last,),
                (result,),
                schedule_order=len(ops),
                operand_count=1,
                name=name,
                **more,
            )
        )
        last = result

    for module, op_type, after in layers:
        op_id = source(op_type)
        parts = [(source(kind), kind) for kind in after]
        name = f"{prefix}{module}" if module else op_id
        if is_fused and module not in unfused:
            stages = tuple(EpilogueStage(kind) for _, kind in parts)
            emit(op_id, op_type, name, epilogue=stages, fused_with=tuple(i for i, _ in parts))
            continue
        emit(op_id, op_type, name)
        for part_id, kind in parts:
            emit(part_id, kind, part_id)
    return _program(tuple(ops), last, size)


def _program(ops: tuple[KPUOp, ...], last: str, size: int) -> KPUProgram:
    shape = (1, size)
    names = ["x", *(op.output_ids[0] for op in ops)]
    tensors = {
        name: KPUTensor(name, name, shape, DType.FP16, MemoryLayout(base_address=64 * place))
        for place, name in enumerate(names)
    }
    tensors["x"] = replace(tensors["x"], is_input=True)
    tensors[last] = replace(tensors[last], is_output=True)
    return KPUProgram(
        name="net",
        precision=KPUPrecision.FP16,
        ops=ops,
        tensors=tensors,
        input_ids=("x",),
        output_ids=(last,),
        peak_sram_bytes=4096,
    )


def profile_of(program: KPUProgram, cycles=100, **changed: int) -> Profile:
    """Every op takes `cycles`, those of `changed` (by id) as many as it says."""
    taken = {op.id: changed.get(op.id, cycles) for op in program.ops}
    rows = {
        op_id: figures(count, count - 50, Bound.COMPUTE, energy_pj=1e6 * count)
        for op_id, count in taken.items()
    }
    total, count = sum(taken.values()), len(taken)
    metrics = KPUPerformanceMetrics(
        total_cycles=total,
        total_time_us=total / 500,
        compute_cycles=total - 50 * count,
        memory_stall_cycles=40 * count,
        other_cycles=10 * count,
        dram_reads_bytes=64 * count,
        total_energy_uj=float(total),
        average_power_watts=500.0,
        compute_utilization=0.5,
        op_metrics=rows,
    )
    ends = np.cumsum([*taken.values()])
    events = {
        "op.start_cycle": ends - [*taken.values()],
        "op.end_cycle": ends,
        "op.l2_live_bytes": np.arange(count, dtype=np.int64) * 512,
    }
    return Profile(program, SimulationMode.FUNCTIONAL, metrics, {}, events)
