"""Programs with tiles, places and buffers, made without the compiler."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from formats.program import Buffer, KPUOp, KPUProgram, MemoryLayout, MemoryType, TileConfig
from kpurun.buffers import aligned, l1_buffers, l2_buffers
from kpurun.ops import OPS
from kpurun.ops.checks import type_of
from kpurun.ops.loopnest import Unit
from kpurun.work import work_of
from tests.kpurun.coded_programs import coded
from tests.kpurun.programs import ProgramBuilder
from tests.kpurun.works import tilings
from tests.op_case import OpCase

DRAM, L2, L1 = MemoryType.DRAM, MemoryType.SRAM_L2, MemoryType.SRAM_L1

RNG = np.random.default_rng(9)
INPUTS = {"x": RNG.standard_normal((1, 8, 12, 12)).astype(np.float32)}  # of residual_block
CUT = TileConfig(
    tile_sizes={"OC": 8, "OH": 3, "IC": 4},
    loop_order=("OC", "OH", "IC"),
    double_buffer=True,
    l2_tile_sizes={"OC": 8, "OH": 6},
    l2_loop_order=("OC", "OH"),
)

Layouts = Mapping[str, tuple[MemoryType, str]]


def placed(program: KPUProgram, layouts: Layouts) -> KPUProgram:
    """Tensors one after another in the memory and order that `layouts` says (DRAM and NCHW where it
    says nothing); a view of what lies in the same place names its bytes."""
    tops = {DRAM: 0, L2: 0}
    tensors = {}
    for tensor in program.tensors.values():
        memory, order = layouts.get(tensor.id, (DRAM, "NCHW"))
        layout = MemoryLayout(memory, tops[memory], order)
        tensors[tensor.id] = replace(tensor, layout=layout)
        tops[memory] += aligned(tensor.size_bytes)
    return replace(program, tensors=tensors)


def tiled(program: KPUProgram, tiles: Mapping[str, TileConfig]) -> KPUProgram:
    """Each op in its tiles, buffers above the tensors in L2, memories no larger than needed."""
    in_l2 = [t for t in program.tensors.values() if t.layout.memory_type is L2]
    top = max((t.layout.base_address + aligned(t.size_bytes) for t in in_l2), default=0)
    program = replace(
        program, ops=tuple(replace(op, tiling=tiles.get(op.id, TileConfig())) for op in program.ops)
    )
    buffers = [
        buffer
        for op in program.ops
        for needed, memory, start in ((l1_buffers, L1, 0), (l2_buffers, L2, top))
        for buffer in _buffers(op, needed(work_of(program, op), op.tiling), memory, start)
    ]
    ends = dict.fromkeys((L1, L2), 64)
    for buffer in buffers:
        end = buffer.base_address + buffer.size_bytes
        ends[buffer.memory_type] = max(ends[buffer.memory_type], end)
    memory = replace(
        program.target_config.memory,
        sram_l1_bytes=ends[L1],
        sram_l2_bytes=max(ends[L1], ends[L2], top),
    )
    config = replace(program.target_config, memory=memory)
    return replace(program, buffers=tuple(buffers), target_config=config)


def _buffers(op: KPUOp, needed, memory: MemoryType, address: int) -> list[Buffer]:
    """One for each tensor: its buffers side by side."""
    merged: dict[str, Buffer] = {}
    for each in needed:
        before = merged.get(each.tensor_id, Buffer(op.id, each.tensor_id, memory, 0, 0, 1))
        merged[each.tensor_id] = replace(
            before,
            size_bytes=before.size_bytes + each.size_bytes,
            copies=max(before.copies, each.copies),
        )
    buffers = []
    for buffer in merged.values():
        buffers.append(replace(buffer, base_address=address))
        address += aligned(buffer.size_bytes)
    return buffers


def between_copies(
    case: OpCase,
    arrays: Sequence[np.ndarray],
    constants: Sequence[int] = (),
    coded_too: bool = False,
) -> tuple[KPUProgram, dict[str, np.ndarray]]:
    """A case whose operands and results are copied, so that they may lie anywhere in any order, and
    its inputs. Operands of the indices in `constants` are weights."""
    builder = ProgramBuilder(name=case.name)
    operands, inputs = [], {}
    for index, array in enumerate(arrays):
        name = f"x{index}"
        if index in constants:
            unrounded = index in OPS[case.op].accumulator_operands
            operands.append(builder.constant(name, array, unrounded=unrounded))
            continue
        inputs[name] = array
        builder.input(name, array.shape, type_of(array).dtype)
        operands.append(builder.op("Identity", name))
    first = builder.op(case.op, *operands, name="case", **case.attributes)
    results = [i for i in builder._tensors if i.startswith(first)]
    program = builder.program(*(builder.op("Identity", result) for result in results))
    return (coded(program, inputs) if coded_too else program), inputs


@st.composite
def in_random_tiles(draw: st.DrawFn, program: KPUProgram) -> KPUProgram:
    """The program with random places, orders of elements and legal tilings."""
    layouts = {}
    for tensor in program.tensors.values():
        is_inside = not (tensor.is_input or tensor.is_output)
        order = draw(st.sampled_from(("NCHW", "NHWC"))) if len(tensor.shape) == 4 else "NCHW"
        memory = draw(st.sampled_from((DRAM, L2)))
        layouts[tensor.id] = (memory, order) if is_inside else (DRAM, "NCHW")
    program = placed(program, layouts)
    works = {op.id: work_of(program, op) for op in program.ops}
    tiles = {
        op_id: draw(tilings(work))
        for op_id, work in works.items()
        if work.nest.unit is not Unit.VIEW
    }
    return tiled(program, tiles)


def residual_block(double_buffer: bool = True) -> KPUProgram:
    """On codes: a copy into L2, a pool to DRAM, a convolution with bias, residual and Relu of both
    in tiles on both levels, its reduction split, a second one and a copy to the output."""
    builder = ProgramBuilder()
    x = builder.op("Identity", builder.input("x", (1, 8, 12, 12)), name="copy")
    pool = builder.op("MaxPool", x, kernel_shape=(3, 3), pads=(1, 1, 1, 1), name="pool")
    weight = builder.constant("w", RNG.standard_normal((8, 8, 3, 3)) * 0.1)
    wide = builder.constant("w2", RNG.standard_normal((16, 8, 1, 1)) * 0.1)
    bias = builder.constant("b", RNG.standard_normal(8), unrounded=True)
    stages = [("Add", x, 0), ("Relu", {})]
    conv = builder.op("Conv", pool, weight, bias, pads=(1,) * 4, epilogue=stages, name="conv")
    last = builder.op("Conv", conv, wide, name="last")
    program = coded(builder.program(builder.op("Identity", last, name="out")), INPUTS)
    in_l2 = dict.fromkeys(("copy_out", "conv_out"), (L2, "NHWC"))
    tiles = {"conv": replace(CUT, double_buffer=double_buffer)}
    rows = TileConfig(tile_sizes={"OH": 4}, loop_order=("OH",), double_buffer=double_buffer)
    return tiled(placed(program, in_l2), {**tiles, "pool": rows, "last": rows})
