"""Small programs of several ops in tiles, for tests of whole simulations."""

from dataclasses import replace

import numpy as np

from formats.program import Buffer, KPUProgram, MemoryType, TileConfig
from kpurun.buffers import l2_buffers
from kpurun.work import work_of
from tests.kpurun.programs import ProgramBuilder


def two_convolutions(prefetch_ops: int = 0) -> KPUProgram:
    """Two 1×1 convolutions with a view between them, everything in DRAM, in tiles of filters.

    prefetch_ops: how many ops earlier the weights of the second may come.
    """
    builder = ProgramBuilder(name="two")
    random = np.random.default_rng(1)
    x = builder.input("x", (1, 16, 8, 8))
    first = builder.op("Conv", x, builder.constant("w1", random.normal(size=(32, 16, 1, 1))))
    view = builder.op("Reshape", first, shape=(1, 32, 64, 1))
    second = builder.op("Conv", view, builder.constant("w2", random.normal(size=(16, 32, 1, 1))))
    program = builder.program(second)
    tiling = TileConfig({"OC": 8}, ("OC",), True, 1, {"OC": 8}, ("OC",))
    ops = tuple(replace(op, tiling=tiling if op.op_type == "Conv" else None) for op in program.ops)
    program = replace(program, ops=ops)
    staged = [
        Buffer(op.id, each.tensor_id, MemoryType.SRAM_L2, 0, each.size_bytes, each.copies)
        for op in ops
        for each in l2_buffers(work_of(program, op), op.tiling)
    ]
    placed, address = [], 0
    for buffer in staged:
        ahead = prefetch_ops if buffer.tensor_id == "w2" else 0
        placed.append(replace(buffer, base_address=address, prefetch_ops=ahead))
        address += buffer.size_bytes
    return replace(program, buffers=tuple(placed))
