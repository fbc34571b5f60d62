"""Power over time: it integrates to the energy of the table, and knows where it is too high."""

import numpy as np
import pytest

from formats.config import KPUConfig
from kpurun.sim.power import PowerTrace, power_trace
from kpurun.sim.timeline import simulate, simulated_metrics
from tests.kpurun.programs import classifier
from tests.kpurun.sim.machines import two_convolutions

IDLE = KPUConfig().compute.idle_watts
TWO_STEPS = PowerTrace(np.array([0, 10, 20, 40]), np.array([1.0, 6.0, 5.5, 2.0]), 50)


@pytest.mark.parametrize(
    "program",
    [classifier(), two_convolutions(), two_convolutions(apart=False)],
    ids=["untiled", "apart", "in the same bytes"],
)
def test_the_trace_integrates_to_the_energy_of_the_table(program):
    timeline = simulate(program)
    trace, metrics = power_trace(timeline), simulated_metrics(timeline)
    clock_mhz = program.target_config.compute.clock_mhz
    assert trace.energy_uj(clock_mhz) == pytest.approx(metrics.total_energy_uj, rel=1e-9)


def test_power_is_never_below_idle():
    assert power_trace(simulate(two_convolutions())).watts.min() >= IDLE


def test_every_cycle_has_one_power():
    trace = power_trace(simulate(two_convolutions()))
    assert trace.starts[0] == 0
    assert (np.diff(trace.starts) > 0).all()
    assert trace.cycles.sum() == trace.total_cycles


def test_neighbouring_values_above_a_power_are_one_window():
    # 10 to 20 at 6 W and 20 to 40 at 5.5 W
    assert TWO_STEPS.windows_over(5.0) == [(10, 40, 6.0)]
    assert TWO_STEPS.windows_over(5.8) == [(10, 20, 6.0)]
    assert TWO_STEPS.windows_over(6.0) == []


def test_energy_is_power_times_time():
    # 10·1 + 10·6 + 20·5.5 + 10·2 = 200 W·cycles, at 500 MHz 0.4 µJ
    assert TWO_STEPS.energy_uj(500) == pytest.approx(0.4)
