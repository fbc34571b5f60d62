"""Small programs of several ops in tiles, for tests of whole simulations."""

from dataclasses import replace

import numpy as np

from formats.program import KPUProgram, TileConfig
from tests.kpurun.programs import ProgramBuilder


def two_convolutions() -> KPUProgram:
    """Two 1×1 convolutions with a view between them, everything in DRAM, in tiles of filters."""
    builder = ProgramBuilder(name="two")
    random = np.random.default_rng(1)
    x = builder.input("x", (1, 16, 8, 8))
    first = builder.op("Conv", x, builder.constant("w1", random.normal(size=(32, 16, 1, 1))))
    view = builder.op("Reshape", first, shape=(1, 32, 64, 1))
    second = builder.op("Conv", view, builder.constant("w2", random.normal(size=(16, 32, 1, 1))))
    program = builder.program(second)
    tiling = TileConfig({"OC": 8}, ("OC",), True, 1, {"OC": 8}, ("OC",))
    ops = tuple(replace(op, tiling=tiling if op.op_type == "Conv" else None) for op in program.ops)
    return replace(program, ops=ops)
