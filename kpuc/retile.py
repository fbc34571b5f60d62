"""A program for another machine: the same ops in the same order, tiled and placed anew.

What is fused, coded and laid out stays, so that a program without its model will do.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from formats.config import KPUConfig
from formats.program import KPUOp, KPUProgram, KPUTensor
from kpuc.aliases import Aliases
from kpuc.compact import plan_compactly
from kpuc.graph import Graph, Node
from kpuc.memory_plan import MemoryPlan
from kpuc.plan import plan_memory
from kpuc.scheduled import Scheduled
from kpuc.storage import QuantParams, Storage
from kpurun.compatibility import require_compatible
from kpurun.ops.checks import NUMPY_DTYPES
from kpurun.ops.loopnest import Unit
from kpurun.work import semantic_type, work_of


def retile(program: KPUProgram, config: KPUConfig) -> KPUProgram:
    """The program with tiles, places and buffers for `config`, its estimates left as they are.

    On its own machine it stays what it is. Raises MemoryError where the machine cannot hold it, and
    ConfigurationError, UnsupportedOpError or LimitError for what the machine does not do.
    """
    scheduled = _scheduled(program)
    plans = plan_compactly if program.options.get("optimise") == "size" else plan_memory
    plan = plans(scheduled, config)
    moved = replace(
        program,
        target_config=config,
        ops=tuple(replace(op, tiling=plan.tiles[op.id]) for op in program.ops),
        tensors={
            value: _placed(tensor, scheduled.roots[value], plan)
            for value, tensor in program.tensors.items()
        },
        buffers=plan.buffers,
        peak_sram_bytes=plan.l2_peak_bytes,
        peak_dram_bytes=plan.dram_peak_bytes,
        live_set_bound_bytes=plan.l2_bound_bytes,
    )
    require_compatible(moved, config)
    return moved


def _placed(tensor: KPUTensor, root: str, plan: MemoryPlan) -> KPUTensor:
    layout = replace(
        tensor.layout,
        memory_type=plan.memory[tensor.id],
        base_address=plan.addresses[root],
        alignment_bytes=plan.alignment_bytes,
    )
    return replace(tensor, layout=layout)


def _scheduled(program: KPUProgram) -> Scheduled:
    """What memory was planned for when the program was compiled."""
    graph, formats, named = graph_of(program), formats_of(program), _aliases(program)
    return Scheduled(graph, graph.nodes, storage_of(program), formats, named, program.quantization)


def storage_of(program: KPUProgram) -> Storage:
    """How the values of a program are stored."""
    tensors = program.tensors
    return Storage(
        precision=program.precision,
        dtypes={value: tensor.dtype for value, tensor in tensors.items()},
        params=_params(tensors),
        op_precisions={op.id: op.precision for op in program.ops if op.precision is not None},
    )


def graph_of(program: KPUProgram) -> Graph:
    """The graph of a program, its ops in their order; every constant is 1 throughout."""
    tensors = program.tensors
    return Graph(
        name=program.name,
        inputs=program.input_ids,
        outputs=program.output_ids,
        nodes=tuple(map(_node, program.get_ops_in_order())),
        types={value: semantic_type(tensor) for value, tensor in tensors.items()},
        constants={value: _ones(tensor) for value, tensor in tensors.items() if tensor.is_weight},
        host_dtypes={t.id: t.host_dtype for t in tensors.values() if t.is_input or t.is_output},
        names={value: tensor.name for value, tensor in tensors.items() if tensor.name != value},
    )


def formats_of(program: KPUProgram) -> dict[str, str]:
    """Value -> "NCHW" or "NHWC"."""
    return {value: tensor.layout.format for value, tensor in program.tensors.items()}


def _ones(tensor: KPUTensor) -> np.ndarray:
    """Of the tensor's shape, in the memory of one element."""
    one = np.ones((), NUMPY_DTYPES[semantic_type(tensor).dtype])
    return np.broadcast_to(one, tensor.shape)


def _aliases(program: KPUProgram) -> Aliases:
    tensors = program.tensors
    views = (op.id for op in program.ops if work_of(program, op).nest.unit is Unit.VIEW)
    return Aliases(
        roots={value: tensor.alias_of or value for value, tensor in tensors.items()},
        starts={value: tensor.starts for value, tensor in tensors.items() if tensor.starts},
        views=frozenset(views),
    )


def _node(op: KPUOp) -> Node:
    return Node(
        op.id,
        op.op_type,
        op.input_ids,
        op.output_ids,
        op.attributes,
        op.epilogue,
        op.operand_count,
        op.name,
        op.source,
        op.fused_with,
    )


def _params(tensors: Mapping[str, KPUTensor]) -> dict[str, QuantParams]:
    return {
        value: QuantParams(
            tensor.scale,
            tensor.zero_point or 0,
            tensor.scales,
            tensor.scale_axis,
            tensor.group_size,
        )
        for value, tensor in tensors.items()
        if tensor.is_quantized
    }
