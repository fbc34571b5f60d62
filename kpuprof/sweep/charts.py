"""The Pareto plots as places and texts: every pair of latency, energy and area proxy."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from kpuprof.axes import Axis, Tick
from kpuprof.charts import Frame
from kpuprof.filters import energy_text, short_count, time_text
from kpuprof.sweep.result import Figures
from kpuprof.sweep.table import Row

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560.0, 400.0, 58.0, 16.0, 22.0, 352.0
LOGARITHMIC_FROM = 30  # largest over smallest value of an axis
MOST_DOTS = 5000  # of results that are not on the front


@dataclass(frozen=True)
class Measure:
    """An objective: the field of Figures, its name, and its units from small to large."""

    field: str
    name: str
    units: tuple[tuple[str, float], ...]

    def of(self, row: Row) -> float:
        assert row.result.figures is not None, "only results with figures are drawn"
        return float(getattr(row.result.figures, self.field))

    def unit(self, largest: float) -> tuple[str, float]:
        """The largest unit of which there is a whole one."""
        fitting = [unit for unit in self.units if largest >= unit[1]]
        return fitting[-1] if fitting else self.units[0]


MEASURES = (
    Measure("time_us", "latency", (("µs", 1.0), ("ms", 1e3), ("s", 1e6))),
    Measure("energy_uj", "energy", (("µJ", 1.0), ("mJ", 1e3), ("J", 1e6))),
    Measure("area_proxy", "area proxy", (("INT8 MACs", 1.0), ("10³ INT8 MACs", 1e3))),
)


@dataclass(frozen=True)
class Dot:
    """A result; `row`: its place in the table of the front, -1 for one that is not there."""

    x: float
    y: float
    row: int
    title: str


@dataclass(frozen=True)
class ParetoChart:
    """One pair of objectives; `others` come first, the front above them."""

    name: str
    frame: Frame
    others: list[Dot]
    front: list[Dot]


def pareto_charts(rows: Sequence[Row], front: Sequence[Row]) -> list[ParetoChart]:
    """rows: of one model, with figures; front: those that are on it, in the order of the table."""
    if not rows:
        return []
    others = [row for row in rows if not row.is_pareto][:MOST_DOTS]
    return [_chart(x, y, others, front) for x, y in combinations(MEASURES, 2)]


def left_out(rows: Sequence[Row]) -> int:
    """How many results the plots do not show."""
    return max(0, sum(not row.is_pareto for row in rows) - MOST_DOTS)


def _chart(x: Measure, y: Measure, others: Sequence[Row], front: Sequence[Row]) -> ParetoChart:
    shown = [*others, *front]
    x_axis, x_ticks, x_unit = _axis(x, shown, LEFT, WIDTH - RIGHT)
    y_axis, y_ticks, y_unit = _axis(y, shown, BOTTOM, TOP)
    frame = Frame(
        WIDTH,
        HEIGHT,
        LEFT,
        WIDTH - RIGHT,
        TOP,
        BOTTOM,
        x_ticks,
        y_ticks,
        f"{x.name}, {x_unit}",
        f"{y.name}, {y_unit}",
    )

    def dot(row: Row, number: int) -> Dot:
        return Dot(x_axis.at(x.of(row)), y_axis.at(y.of(row)), number, title_of(row))

    name = f"{x.name.capitalize()} and {y.name}"
    return ParetoChart(
        name,
        frame,
        [dot(row, -1) for row in others],
        [dot(row, number) for number, row in enumerate(front)],
    )


def _axis(
    measure: Measure, rows: Sequence[Row], start: float, end: float
) -> tuple[Axis, list[Tick], str]:
    values = [measure.of(row) for row in rows]
    low, high = min(values), max(values)
    unit, factor = measure.unit(high)
    if low > 0 and high / low >= LOGARITHMIC_FROM:
        axis = Axis(low / 1.3 / factor, high * 1.3 / factor, start, end, is_log=True)
        shifted = Axis(axis.low * factor, axis.high * factor, start, end, is_log=True)
        return shifted, axis.ticks(), unit
    linear = Axis(0, high * 1.06 or 1.0, start, end)
    return linear, linear.ticks(6, 1 / factor), unit


def title_of(row: Row) -> str:
    """What a dot stands for, in lines."""
    result = row.result
    machine = " · ".join(f"{name.rpartition('.')[2]} {v}" for name, v in result.fields.items())
    assert result.figures is not None, "only results with figures are drawn"
    return f"{machine} · {result.precision}\n{figures_text(result.figures)}"


def figures_text(figures: Figures) -> str:
    """The objectives in words."""
    return (
        f"{time_text(figures.time_us)}, {energy_text(figures.energy_uj)}, "
        f"area proxy {short_count(figures.area_proxy)}"
    )
