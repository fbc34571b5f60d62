"""Small programs of several ops in tiles, for tests of whole simulations."""

from dataclasses import replace

import numpy as np

from formats.program import Buffer, KPUProgram, MemoryType, TileConfig
from kpurun.buffers import l1_buffers, l2_buffers
from kpurun.work import work_of
from tests.kpurun.programs import ProgramBuilder


def two_convolutions(apart: bool = True) -> KPUProgram:
    """Two convolutions with a copy between them, everything in DRAM, in tiles of filters; the first
    has more to compute than to load.

    apart: the buffers of one share no bytes with those of the other.
    """
    builder = ProgramBuilder(name="two")
    random = np.random.default_rng(1)
    x = builder.input("x", (1, 64, 16, 16))
    filters = builder.constant("w1", random.normal(size=(32, 64, 3, 3)))
    first = builder.op("Conv", x, filters, pads=(1, 1, 1, 1))
    view = builder.op("Reshape", first, shape=(1, 32, 256, 1))
    second = builder.op("Conv", view, builder.constant("w2", random.normal(size=(16, 32, 1, 1))))
    program = builder.program(second)
    tiling = TileConfig({"OC": 8}, ("OC",), True, 1, {"OC": 8}, ("OC",))
    ops = tuple(replace(op, tiling=tiling if op.op_type == "Conv" else None) for op in program.ops)
    program = replace(program, ops=ops)
    placed, top = [], {MemoryType.SRAM_L1: 0, MemoryType.SRAM_L2: 0}
    for op in ops:
        if not apart:
            top = dict.fromkeys(top, 0)
        work = work_of(program, op)
        for each in (*l1_buffers(work, op.tiling), *l2_buffers(work, op.tiling)):
            memory = each.memory_type
            placed.append(
                Buffer(op.id, each.tensor_id, memory, top[memory], each.size_bytes, each.copies)
            )
            top[memory] += each.size_bytes
    return replace(program, buffers=tuple(placed))
