"""The only joules: energy of an op by component, from what it moved and did.

The constants are the set that Stillwater published for the KPU-T64 (formats.config).
"""

from dataclasses import astuple, dataclass
from math import fsum

from formats.config import EnergyConstants, KPUConfig
from formats.precision import KPUPrecision
from kpurun.timing import OpEstimate


@dataclass(frozen=True)
class EnergyBreakdown:
    """Energy of one op in pJ by where it goes; static is idle power over the op's time."""

    mac_pj: float = 0.0
    vector_pj: float = 0.0
    accumulate_pj: float = 0.0
    stream_pj: float = 0.0
    l1_pj: float = 0.0
    l2_pj: float = 0.0
    dram_pj: float = 0.0
    control_pj: float = 0.0
    static_pj: float = 0.0

    @property
    def total_pj(self) -> float:
        return fsum(astuple(self))


def energy_pj(estimate: OpEstimate, config: KPUConfig, precision: KPUPrecision) -> EnergyBreakdown:
    """Counts times constants; a view costs nothing.

    MACs at their precision's energy, also those that lanes do (a depthwise convolution); any other
    lane operation counts as an activation. DRAM pays for whole bursts. One program load per op, one
    synchronisation per tile.
    """
    if not estimate.steps:
        return EnergyBreakdown()
    constants = config.energy
    seconds = estimate.total_cycles / (config.compute.clock_mhz * 1e6)
    l2_bytes = estimate.l2_read_bytes + estimate.l2_write_bytes
    return EnergyBreakdown(
        mac_pj=estimate.macs * mac_pj(constants, precision),
        vector_pj=(estimate.lane_ops - estimate.lane_macs) * constants.activation_pj,
        accumulate_pj=estimate.accumulations * constants.accumulate_pj,
        stream_pj=estimate.stream_bytes * constants.streamer_pj_per_byte,
        l1_pj=estimate.l1_read_bytes * constants.l1_read_pj_per_byte
        + estimate.l1_write_bytes * constants.l1_write_pj_per_byte,
        l2_pj=l2_bytes * constants.l2_pj_per_byte,
        dram_pj=estimate.dram_burst_bytes * constants.dram_pj_per_byte,
        control_pj=constants.program_load_pj + estimate.steps * constants.sync_pj,
        static_pj=config.compute.idle_watts * seconds * 1e12,
    )


def mac_pj(constants: EnergyConstants, precision: KPUPrecision) -> float:
    """One multiply-accumulate. A posit is multiplied as the float that holds its significand:
    posit8 (up to 6 bits) in an FP16 multiplier, posit16 (up to 13 bits) in an FP32 one."""
    return {
        KPUPrecision.INT8: constants.mac_int8_pj,
        KPUPrecision.INT4: constants.mac_int8_pj,
        KPUPrecision.FP16: constants.mac_fp16_pj,
        KPUPrecision.BF16: constants.mac_fp16_pj,
        KPUPrecision.POSIT8: constants.mac_fp16_pj,
        KPUPrecision.POSIT16: constants.mac_fp32_pj,
    }[precision]
