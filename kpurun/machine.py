"""A configuration as the numbers that timing needs: exact integer ratios, derived once.

Ratios of decimal fields are kept as integers, so that cycle counts never depend on the rounding of
a float.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, lcm

from formats.config import ComputeConfig, DramTiming, KPUConfig
from formats.errors import ConfigurationError
from formats.precision import KPUPrecision


@dataclass(frozen=True)
class Ratio:
    """numerator / denominator of something per cycle."""

    numerator: int
    denominator: int

    def cycles(self, amount: int) -> int:
        """Whole cycles that `amount` takes at this rate."""
        return -(-amount * self.denominator // self.numerator)

    def time(self, amount: int) -> float:
        """Cycles, fractions included, that `amount` takes at this rate."""
        return amount * self.denominator / self.numerator


@dataclass(frozen=True, eq=False)
class Machine:
    """What one cycle can do. Byte rates are peaks; `rates` are MACs per processing element.

    A burst and a row activation are counted in ticks, `ticks_per_cycle` of them to a cycle, which
    include the share of time that refresh takes.
    """

    tiles: int
    rows: int
    columns: int
    lanes: int  # of one tile's vector unit
    rates: Mapping[KPUPrecision, Ratio]
    line_bytes: int
    sram: Ratio  # bytes
    dram: Ratio  # bytes
    mover_startup_cycles: int
    dma_startup_cycles: int  # with the latency of the first access
    burst_bytes: int
    row_bytes: int
    burst_ticks: int
    row_ticks: int
    ticks_per_cycle: int
    dispatch_cycles: int
    overlap_folds: bool

    @property
    def all_lanes(self) -> int:
        return self.tiles * self.lanes

    def macs(self, precision: KPUPrecision) -> Ratio:
        """Multiply-accumulates of all arrays: tiles · rows · columns · rate."""
        rate = self.rates[precision]
        elements = self.tiles * self.rows * self.columns
        return Ratio(rate.numerator * elements, rate.denominator)


@lru_cache(maxsize=64)
def machine_of(config: KPUConfig) -> Machine:
    """Derive the machine; ConfigurationError where DRAM would do nothing but refresh."""
    compute, memory, timing = config.compute, config.memory, config.timing
    cycles_per_ns = _exact(compute.clock_mhz) / 1000
    sram_bytes = (
        Fraction(timing.sram_bytes_per_cycle)
        if timing.sram_bytes_per_cycle
        else _exact(memory.sram_bandwidth_gbps) / cycles_per_ns
    )
    dram_bytes = _exact(memory.dram_bandwidth_gbps) / cycles_per_ns
    burst, row, latency_cycles = _dram_costs(timing.dram, dram_bytes, cycles_per_ns)
    ticks_per_cycle = lcm(burst.denominator, row.denominator)
    return Machine(
        tiles=compute.tiles,
        rows=compute.systolic_rows,
        columns=compute.systolic_cols,
        lanes=compute.vector_lanes,
        rates=_rates(compute),
        line_bytes=memory.cache_line_bytes,
        sram=_ratio(sram_bytes),
        dram=_ratio(dram_bytes),
        mover_startup_cycles=timing.block_mover_startup_cycles,
        dma_startup_cycles=timing.dma_startup_cycles + latency_cycles,
        burst_bytes=timing.dram.burst_bytes,
        row_bytes=timing.dram.row_bytes,
        burst_ticks=int(burst * ticks_per_cycle),
        row_ticks=int(row * ticks_per_cycle),
        ticks_per_cycle=ticks_per_cycle,
        dispatch_cycles=timing.dispatch_cycles,
        overlap_folds=timing.overlap_folds,
    )


def _rates(compute: ComputeConfig) -> dict[KPUPrecision, Ratio]:
    """MACs per processing element and cycle: the quoted TOPS over those of INT8."""
    int8 = Fraction(1)
    fp16 = _exact(compute.tops_fp16) / _exact(compute.tops_int8)
    posit8 = _exact(compute.tops_posit8) / _exact(compute.tops_int8)
    rates = {
        KPUPrecision.INT8: int8,
        KPUPrecision.INT4: int8,  # weights are unpacked to INT8 on their way into the array
        KPUPrecision.FP16: fp16,
        KPUPrecision.BF16: fp16,
        KPUPrecision.POSIT8: posit8,
        KPUPrecision.POSIT16: posit8 / 2,
    }
    return {precision: _ratio(rate) for precision, rate in rates.items()}


def _dram_costs(
    dram: DramTiming, bytes_per_cycle: Fraction, cycles_per_ns: Fraction
) -> tuple[Fraction, Fraction, int]:
    """(cycles per burst, cycles per row activation, latency of a first access in whole cycles).

    Banks activate in parallel, so a row costs 1/banks of its precharge and activation; refresh
    takes refresh_cycle out of every refresh_interval (JESD209-4, all-bank).
    """
    interval, refresh = _exact(dram.refresh_interval_ns), _exact(dram.refresh_cycle_ns)
    if not 0 <= refresh < interval:
        raise ConfigurationError("DRAM refresh must take less than its interval")
    slowdown = interval / (interval - refresh)
    open_row_ns = _exact(dram.precharge_ns) + _exact(dram.row_activate_ns)
    burst = Fraction(dram.burst_bytes) / bytes_per_cycle * slowdown
    row = open_row_ns * cycles_per_ns / dram.banks * slowdown
    latency = (open_row_ns + _exact(dram.column_latency_ns)) * cycles_per_ns
    return burst, row, ceil(latency)


def _exact(value: float) -> Fraction:
    """The decimal number that was written: 25.6 is 128/5."""
    return Fraction(str(value))


def _ratio(value: Fraction) -> Ratio:
    return Ratio(value.numerator, value.denominator)
