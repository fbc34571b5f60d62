"""The bound that a report prints is the compiler's, though it is worked out from the profile."""

from dataclasses import replace

import pytest

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from formats.profile import Profile, SimulationMode
from formats.schema import changed
from kpuc.compiler import compile_graph
from kpuprof.bound import bound_cycles
from kpuprof.rows import op_rows
from kpurun.metrics import bound_cycles as bound_of_the_machine
from kpurun.metrics import estimates, summarize
from tests.kpuc.passes.draft import Draft
from tests.kpuprof.simulated import played


def profile_of(program):
    return Profile(
        program, SimulationMode.FUNCTIONAL, summarize(program, estimates(program)), {}, {}
    )


def convolutions(groups):
    draft = Draft()
    x = draft.conv("a", draft.input("x", 1, 32, 24, 24), 32, group=groups)
    return draft.graph(draft.op("y", "Sigmoid", draft.conv("b", x, 64, kernel=1)))


def product():
    draft = Draft()
    x = draft.input("x", 16, 256)
    return draft.graph(draft.op("y", "Gemm", x, draft.weights("w", 256, 128)))


@pytest.mark.parametrize("graph", [convolutions(1), convolutions(4), convolutions(32), product()])
@pytest.mark.parametrize(
    "assignment",
    ["memory.dram_bandwidth_gbps=25.6", "memory.dram_bandwidth_gbps=1", "compute.compute_tiles=1"],
)
def test_the_bound_is_that_of_the_compiler(graph, assignment):
    config = changed(KPUConfig(), *assignment.split("="))
    profile = profile_of(compile_graph(graph, config, KPUPrecision.FP16))
    assert bound_cycles(profile, op_rows(profile)) == bound_of_the_machine(profile.program)


def test_without_overlap_nothing_drains():
    config = KPUConfig()
    config = replace(config, timing=replace(config.timing, overlap_folds=False))
    profile = profile_of(compile_graph(convolutions(32), config, KPUPrecision.FP16))
    assert bound_cycles(profile, op_rows(profile)) == bound_of_the_machine(profile.program)


def test_no_simulation_beats_it():
    profile = played()
    assert bound_cycles(profile, op_rows(profile)) <= profile.metrics.total_cycles
