"""Results as a sweep makes them, without computing any."""

from kpuprof.sweep.result import Figures, Result


def figures(time_us=1.0, energy_uj=1.0, area=1.0):
    return Figures(
        cycles=500,
        time_us=time_us,
        energy_uj=energy_uj,
        average_power_watts=1.0,
        dram_bytes=64,
        peak_l2_bytes=128,
        utilization=0.5,
        area_proxy=area,
    )


def result(key, objectives=(1.0, 1.0, 1.0), model="net", **fields):
    own = None if objectives is None else figures(*objectives)
    message = "SRAM memory exceeded" if own is None else ""
    return Result(key, model, "int8", fields or {"a.b": 1}, own, message)
