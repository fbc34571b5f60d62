"""Axes of the report's drawings: scales from values to places, and round numbers to mark."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log10

from kpuprof.filters import bytes_text


@dataclass(frozen=True)
class Tick:
    """A mark: its place in the drawing and what is written there."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` along the places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """The place of a value, to a tenth of a pixel; one outside goes to the nearer end."""
        value = min(max(value, self.low), self.high)
        share = (
            log10(value / self.low) / log10(self.high / self.low)
            if self.is_log
            else (value - self.low) / ((self.high - self.low) or 1)
        )
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int = 6, factor: float = 1.0) -> list[Tick]:
        """Marks at round values; labels show them times `factor`."""
        if self.is_log:
            return [Tick(self.at(value), _decade_text(value)) for value in self._decades()]
        values = self._steps(count, factor)
        return [Tick(self.at(value), f"{value * factor:,.10g}") for value in values]

    def quarters(self) -> list[Tick]:
        """Marks at every quarter, labelled as sizes in bytes."""
        values = [self.low + (self.high - self.low) * part / 4 for part in range(5)]
        return [Tick(self.at(value), bytes_text(value) if value else "0") for value in values]

    def _decades(self) -> Iterator[float]:
        """Powers of ten."""
        for exponent in range(ceil(log10(self.low)), floor(log10(self.high)) + 1):
            yield 10.0**exponent

    def _steps(self, count: int, factor: float) -> Iterator[float]:
        """Multiples of 1, 2 or 5 times a power of ten, as the label shows them."""
        reach = (self.high - self.low) * factor
        if reach <= 0:
            return
        rough = reach / count
        power = 10.0 ** floor(log10(rough))
        step = next(power * round_one for round_one in (1, 2, 5, 10) if power * round_one >= rough)
        for index in range(floor(reach / step + 1e-9) + 1):
            yield self.low + round(index * step, 12) / factor


def _decade_text(value: float) -> str:
    """0.01, 1, 100, 10k, 1M"""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.0f}{unit}"
    return f"{value:g}"


def time_axis(total_cycles: int, clock_mhz: float, start: float, end: float) -> tuple[Axis, str]:
    """An axis of cycles, and the unit ("ms" or "µs") in which its ticks are to be labelled."""
    unit = "ms" if total_cycles / clock_mhz >= 1000 else "µs"
    return Axis(0, max(1, total_cycles), start, end), unit


def cycle_factor(clock_mhz: float, unit: str) -> float:
    """Units of time per cycle."""
    return 1 / clock_mhz / (1000 if unit == "ms" else 1)
