"""Joins the graph with every decision made about it into the program that is written to disk."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from formats import tensors
from formats.config import KPUConfig
from formats.precision import KPUPrecision
from formats.program import KPUOp, KPUProgram, KPUTensor, MemoryLayout
from formats.verify import verify
from kpuc.graph import Node
from kpuc.memory_plan import MemoryPlan
from kpuc.scheduled import Scheduled
from kpuc.storage import QuantParams
from kpurun.sim.timeline import simulate, simulated_metrics


@dataclass(frozen=True)
class Source:
    """Where the program comes from, for its header."""

    name: str = "model"
    model: str = ""
    sha256: str = ""
    preprocess: str = "none"
    options: Mapping[str, Any] | None = None


def emit(scheduled: Scheduled, plan: MemoryPlan, config: KPUConfig, source: Source) -> KPUProgram:
    """The verified program, with estimates of every op. The same arguments give the same bytes."""
    graph, program = scheduled.graph, skeleton(scheduled, plan, config)
    weights = {
        value: scheduled.storage.encoded(graph, value)
        for value in graph.constants
        if value in program.tensors
    }
    program = replace(
        program,
        name=source.name,
        source_model=source.model,
        source_hash=source.sha256,
        weights_blob=tensors.pack(weights, scheduled.storage.dtypes) if weights else None,
        preprocess=source.preprocess,
        options=_plain(source.options or {}),
    )
    verify(program)
    return with_estimates(program)


def skeleton(scheduled: Scheduled, plan: MemoryPlan, config: KPUConfig) -> KPUProgram:
    """The program without its weights: all that its cycles depend on."""
    return KPUProgram(
        name="",
        target_config=config,
        precision=scheduled.storage.precision,
        ops=tuple(
            _op(node, position, plan, scheduled.storage.op_precisions.get(node.id))
            for position, node in enumerate(scheduled.order)
        ),
        tensors={value: _tensor(scheduled, value, plan) for value in scheduled.values},
        input_ids=scheduled.graph.inputs,
        output_ids=scheduled.graph.outputs,
        peak_sram_bytes=plan.l2_peak_bytes,
        peak_dram_bytes=plan.dram_peak_bytes,
        weight_bytes=scheduled.weight_bytes,
        activation_bytes=scheduled.activation_bytes,
        buffers=plan.buffers,
        live_set_bound_bytes=plan.l2_bound_bytes,
        quantization=scheduled.quantization,
    )


def _tensor(scheduled: Scheduled, value: str, plan: MemoryPlan) -> KPUTensor:
    graph, root = scheduled.graph, scheduled.roots[value]
    params = scheduled.storage.params.get(value, QuantParams())
    return KPUTensor(
        id=value,
        name=graph.names.get(value, value),
        shape=tuple(int(size) for size in graph.types[value].shape),
        dtype=scheduled.storage.dtypes[value],
        layout=MemoryLayout(
            memory_type=plan.memory[value],
            base_address=plan.addresses[root],
            format=scheduled.formats.get(value, "NCHW"),
            alignment_bytes=plan.alignment_bytes,
        ),
        is_weight=value in graph.constants,
        is_input=value in graph.inputs,
        is_output=value in graph.outputs,
        host_dtype=graph.host_dtypes.get(value, "float32"),
        alias_of=None if root == value else root,
        starts=scheduled.aliases.starts.get(value, ()),
        scale=params.scale,
        zero_point=None if params.scale is None else params.zero_point,
        scales=params.scales,
        scale_axis=params.scale_axis,
        group_size=params.group_size,
    )


def _op(node: Node, position: int, plan: MemoryPlan, precision: KPUPrecision | None) -> KPUOp:
    return KPUOp(
        id=node.id,
        op_type=node.op_type,
        input_ids=node.inputs,
        output_ids=node.outputs,
        attributes=_plain(node.attributes),
        tiling=plan.tiles[node.id],
        schedule_order=position,
        fused_with=node.fused,
        epilogue=tuple(
            replace(stage, attributes=_plain(stage.attributes)) for stage in node.epilogue
        ),
        operand_count=len(node.operands),
        precision=precision,
        name=node.name,
        source=node.source,
    )


def _plain(value: Any) -> Any:
    """Attributes as a file gives them back: tuples, and infinities by name as JSON has none."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def with_estimates(program: KPUProgram) -> KPUProgram:
    """The program with the cycles and the energy of every op, and of all."""
    metrics = simulated_metrics(simulate(program))
    ops = tuple(
        replace(
            op,
            estimated_cycles=int(metrics.op_metrics[op.id]["cycles"]),
            estimated_energy_pj=metrics.op_metrics[op.id]["energy_pj"],
        )
        for op in program.ops
    )
    return replace(
        program,
        ops=ops,
        estimated_total_cycles=metrics.total_cycles,
        estimated_total_energy_uj=metrics.total_energy_uj,
    )
