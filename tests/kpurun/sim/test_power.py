"""Power over time: it integrates to the energy table, idles in between, and shows its peaks."""

from dataclasses import replace

import numpy as np
import pytest

from formats.program import KPUProgram
from kpurun.sim.power import PowerTrace, power_trace
from kpurun.sim.tasks import Resource
from kpurun.sim.timeline import Timeline, simulate, simulated_metrics
from tests.kpurun.programs import ProgramBuilder, classifier
from tests.kpurun.sim.machines import two_convolutions


def moves() -> KPUProgram:
    """An op that computes nothing."""
    builder = ProgramBuilder(name="moves")
    x = builder.input("x", (1, 4, 6, 6))
    return builder.program(builder.op("Transpose", x, perm=(0, 2, 3, 1)))


PROGRAMS = {"classifier": classifier, "two convolutions": two_convolutions, "moves": moves}


@pytest.fixture(params=PROGRAMS)
def timeline(request) -> Timeline:
    return simulate(PROGRAMS[request.param]())


def idling(dispatch_cycles: int) -> Timeline:
    """The classifier on a machine whose dispatch takes so many cycles."""
    program = classifier()
    config = program.target_config
    timing = replace(config.timing, dispatch_cycles=dispatch_cycles)
    return simulate(replace(program, target_config=replace(config, timing=timing)))


def energy_uj(timeline: Timeline) -> float:
    return simulated_metrics(timeline).total_energy_uj


def test_the_trace_integrates_to_the_energy_of_the_table(timeline):
    found = power_trace(timeline).energy_uj(clock_mhz=500)
    assert found == pytest.approx(energy_uj(timeline), rel=1e-9)


def test_each_op_integrates_to_its_own_row_of_the_table(timeline):
    trace = power_trace(timeline)
    ends = trace.starts + trace.cycles
    for op, start, played in zip(timeline.ops, timeline.starts, timeline.played, strict=True):
        overlap = np.minimum(ends, start + played.total_cycles) - np.maximum(trace.starts, start)
        spent_pj = float(trace.watts @ np.maximum(overlap, 0)) * 1e6 / 500
        row = simulated_metrics(timeline).op_metrics[op.id]
        assert spent_pj == pytest.approx(row["energy_pj"], rel=1e-9)


def test_the_trace_covers_every_cycle_once(timeline):
    trace = power_trace(timeline)
    assert trace.starts[0] == 0
    assert (trace.cycles > 0).all()
    assert trace.cycles.sum() == timeline.total_cycles


def test_power_is_never_below_idle(timeline):
    idle = timeline.program.target_config.compute.idle_watts
    assert power_trace(timeline).watts.min() >= idle


@pytest.mark.parametrize("dispatch_cycles", [0, 1, 1000])
def test_energy_is_kept_however_long_dispatch_takes(dispatch_cycles):
    timeline = idling(dispatch_cycles)
    assert power_trace(timeline).energy_uj(500) == pytest.approx(energy_uj(timeline), rel=1e-9)


def test_dispatch_takes_idle_power_and_the_load_of_the_op():
    """500 pJ over 64 cycles of 2 ns: 500 / 128 mW = 3.90625 mW above the 0.5 W."""
    trace = power_trace(simulate(classifier()))
    assert trace.watts[0] == pytest.approx(0.5 + 0.00390625)


def test_a_load_from_dram_takes_what_it_moves():
    """x comes first and alone: 8·8·3 numbers of fp16 are 384 B or 6 bursts, (6·64·12 + 384·0.7) pJ
    in 43 + ⌈6 · 1.25 · 1.077⌉ = 52 cycles of 2 ns: 4876.8 / 104 mW above idle."""
    timeline = simulate(classifier())
    first = timeline.played[0].tasks[0]
    assert (first.resource, first.start, first.length) == (Resource.DMA, 64, 52)
    trace = power_trace(timeline)
    (at_load,) = np.flatnonzero(trace.starts == 64)
    assert trace.watts[at_load] == pytest.approx(0.5 + 4876.8 / 104 / 1000)


def test_a_program_without_ops_idles_for_no_time():
    builder = ProgramBuilder()
    trace = power_trace(simulate(builder.program(builder.input("x", (2, 3)))))
    assert trace.energy_uj(500) == 0
    assert trace.windows_over(0) == []


def test_neighbouring_values_above_a_power_are_one_window_with_the_highest():
    trace = PowerTrace(np.array([0, 10, 20, 35, 40]), np.array([1.0, 6.0, 7.0, 2.0, 6.5]), 50)
    assert trace.windows_over(5.0) == [(10, 35, 7.0), (40, 50, 6.5)]
    assert trace.windows_over(7.0) == []
    assert trace.energy_uj(1.0) == 10 + 60 + 105 + 10 + 65


def test_a_dearer_mac_shows_while_arrays_work_and_nowhere_else():
    program = two_convolutions()
    config = program.target_config
    dear = replace(config, energy=replace(config.energy, mac_fp16_pj=4.0))
    timeline = simulate(program)
    before, after = (
        power_trace(timeline),
        power_trace(simulate(replace(program, target_config=dear))),
    )
    computing = np.zeros(timeline.total_cycles, bool)
    for index, task in timeline.tasks():
        if task.resource is Resource.COMPUTE:
            start = timeline.starts[index]
            computing[start + task.start : start + task.end] = True
    rose = np.repeat(after.watts - before.watts > 1e-9, before.cycles)
    np.testing.assert_array_equal(rose, computing)
