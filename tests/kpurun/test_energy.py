"""Joules: counts times constants, by component."""

from dataclasses import astuple, fields, replace

import pytest

from formats.config import EnergyConstants, KPUConfig
from formats.precision import KPUPrecision
from formats.program import TileConfig
from kpurun.energy import EnergyBreakdown, energy_pj, mac_pj
from kpurun.timing import OpEstimate, estimate
from tests.kpurun.works import WORKS, conv

CONFIG = KPUConfig()
FP16 = KPUPrecision.FP16


def test_an_op_worked_by_hand():
    found = OpEstimate(
        total_cycles=500,  # 1 us at 500 MHz
        macs=1000,
        lane_ops=300,
        lane_macs=100,
        accumulations=50,
        steps=4,
        stream_bytes=1000,
        l1_read_bytes=100,
        l1_write_bytes=10,
        l2_read_bytes=60,
        l2_write_bytes=40,
        dram_read_bytes=50,
        dram_burst_bytes=64,
    )
    assert energy_pj(found, CONFIG, FP16) == EnergyBreakdown(
        mac_pj=1000 * 0.4,
        vector_pj=200 * 0.12,
        accumulate_pj=50 * 0.08,
        stream_pj=1000 * 0.15,
        l1_pj=100 * 0.2 + 10 * 0.3,
        l2_pj=100 * 0.7,
        dram_pj=64 * 12.0,
        control_pj=500 + 4 * 10,
        static_pj=0.5 * 1e-6 * 1e12,  # 0.5 W for 1 us
    )


def test_the_total_is_the_sum_of_the_parts():
    found = energy_pj(estimate(conv(8, 9, 16, 3), None, CONFIG), CONFIG, FP16)
    assert found.total_pj == pytest.approx(sum(astuple(found)))
    assert min(astuple(found)) >= 0


def test_a_view_takes_no_energy():
    assert energy_pj(OpEstimate(), CONFIG, FP16).total_pj == 0


@pytest.mark.parametrize("name", [field.name for field in fields(EnergyConstants)])
def test_every_constant_counts(name):
    constants = replace(CONFIG.energy, **{name: 2 * getattr(CONFIG.energy, name)})
    dearer = replace(CONFIG, energy=constants)
    tiling = TileConfig({"IC": 16}, ("IC",), True)
    found = estimate(conv(32, 9, 16, 3, bias=True), tiling, CONFIG)
    precision = {
        "mac_int8_pj": KPUPrecision.INT8,
        "mac_fp32_pj": KPUPrecision.POSIT16,
    }.get(name, FP16)
    before = energy_pj(found, CONFIG, precision).total_pj
    assert energy_pj(found, dearer, precision).total_pj > before


@pytest.mark.parametrize("precision", list(KPUPrecision))
def test_every_precision_has_a_mac(precision):
    assert mac_pj(CONFIG.energy, precision) > 0


def test_lanes_that_multiply_pay_for_multiplying():
    work = WORKS["conv depthwise"]
    found = estimate(work, None, CONFIG)
    assert found.macs == found.lane_macs == work.nest.points
    energy = energy_pj(found, CONFIG, FP16)
    assert energy.mac_pj == pytest.approx(0.4 * work.nest.points)
    assert energy.vector_pj == 0  # results are rounded on their way out


def test_pooling_does_not_multiply():
    found = estimate(WORKS["max pool"], None, CONFIG)
    assert (found.macs, found.lane_macs) == (0, 0)
    assert found.lane_ops == 6 * 7 * 7 * 9  # comparisons
