"""Profiles of real simulations: a small network, compiled and played."""

from functools import cache

import numpy as np

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from formats.profile import Profile, SimulationMode
from formats.program import KPUProgram
from kpuc.compiler import compile_graph
from kpurun import KPURuntime
from kpurun.profiling import DEFAULT_MAX_EVENTS, make_profile
from tests.kpuc.passes.draft import Draft


@cache
def played(
    mode: SimulationMode = SimulationMode.POWER_TRACE, max_events: int = DEFAULT_MAX_EVENTS
) -> Profile:
    """Convolutions on arrays, one on lanes, weights ahead, a view; every unit has work."""
    draft = Draft()
    first = draft.conv("first", draft.input("x", 1, 16, 40, 40), 64)
    deep = draft.conv("deep", draft.op("relu", "Relu", first), 64, group=64)
    wide = draft.conv("wide", deep, 128)
    flat = draft.op("flat", "Flatten", draft.op("pool", "GlobalAveragePool", wide), axis=1)
    graph = draft.graph(draft.op("y", "MatMul", flat, draft.weights("w", 128, 512)))
    program = compile_graph(graph, KPUConfig(), KPUPrecision.FP16)
    runtime = KPURuntime(max_cycles=None)
    runtime.load_program(program)
    image = np.random.default_rng(0).standard_normal((1, 16, 40, 40)).astype(np.float32)
    result = runtime.run({"x": image}, mode)
    timeline = None if mode is SimulationMode.FUNCTIONAL else runtime.timeline
    return make_profile(runtime.program, result, {}, timeline, max_events)


def shallow_program() -> KPUProgram:
    """A convolution of so few products that draining its results keeps the lanes busier."""
    draft = Draft()
    shallow = draft.conv("shallow", draft.input("x", 1, 3, 32, 32), 16, kernel=1)
    lanes = draft.op("lanes", "MaxPool", draft.op("act", "Tanh", shallow), kernel_shape=(2, 2))
    return compile_graph(draft.graph(lanes), KPUConfig(), KPUPrecision.FP16)
