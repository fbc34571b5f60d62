"""The report's drawings as places and texts: what the templates turn into SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from kpuprof.axes import Axis, Tick, cycle_factor, time_axis
from kpuprof.filters import bound_text, bytes_text, share_text, short_count, time_text
from kpuprof.memory import MemoryBlock, MemoryMap
from kpuprof.power import PowerSteps
from kpuprof.roofline import OPS_PER_MAC, Peaks, RooflinePoint

WIDTH, LEFT, RIGHT = 1080.0, 72.0, 16.0  # of a drawing over the page's width
POWER_BINS = 480


@dataclass(frozen=True)
class Frame:
    """What every chart has: size, the plot's box, ticks and their units."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Roof:
    """A limit of the machine: the bandwidth's slope up to a unit's peak."""

    label: str
    path: str
    label_x: float
    label_y: float
    is_vector: bool


@dataclass(frozen=True)
class Dot:
    """An op in a roofline plot; the larger its share of the cycles, the larger."""

    x: float
    y: float
    radius: float
    bound_by: str
    index: int
    title: str


@dataclass(frozen=True)
class RooflineChart:
    """One memory's plot; `missing` ops compute but move nothing there."""

    memory: str
    frame: Frame
    roofs: list[Roof]
    dots: list[Dot]
    missing: int


def roofline_chart(
    memory: str, points: list[RooflinePoint], peaks: Peaks, precisions: Sequence[str]
) -> RooflineChart | None:
    """memory: "DRAM" or "L2". None where no op computes on what it brings."""
    bandwidth = peaks.gops(peaks.dram_bytes if memory == "DRAM" else peaks.l2_bytes)
    placed = [
        (point, intensity)
        for point in points
        if (intensity := point.dram_intensity if memory == "DRAM" else point.l2_intensity)
    ]
    if not placed:
        return None
    limits = {f"{each} arrays": peaks.gops(OPS_PER_MAC * peaks.macs[each]) for each in precisions}
    limits["vector lanes"] = peaks.gops(peaks.lane_ops)
    slowest = min(*(point.gops for point, _ in placed), *limits.values()) / 2
    width, height, left, top, bottom = 560.0, 400.0, 58.0, 22.0, 352.0
    lowest = min(*(i for _, i in placed), *(limit / bandwidth for limit in limits.values())) / 3
    highest = max(*(i for _, i in placed), *(limit / bandwidth for limit in limits.values())) * 3
    x = Axis(lowest, highest, left, width - RIGHT, is_log=True)
    y = Axis(slowest, max(limits.values()) * 2, bottom, top, is_log=True)
    roofs = [_roof(name, limit, bandwidth, x, y) for name, limit in limits.items()]
    placed.sort(key=lambda entry: -entry[0].row.share)  # small ones on top
    frame = Frame(
        width,
        height,
        left,
        width - RIGHT,
        top,
        bottom,
        x.ticks(),
        y.ticks(),
        f"operations per byte of {memory} traffic",
        "10⁹ operations per second",
    )
    dots = [_dot(point, intensity, x, y) for point, intensity in placed]
    return RooflineChart(memory, frame, roofs, dots, len(points) - len(placed))


def _roof(name: str, limit: float, bandwidth: float, x: Axis, y: Axis) -> Roof:
    start = max(x.low, y.low / bandwidth)
    corner = limit / bandwidth
    path = (
        f"M{x.at(start)} {y.at(start * bandwidth)}"
        f"L{x.at(corner)} {y.at(limit)}L{x.at(x.high)} {y.at(limit)}"
    )
    label = f"{name.replace('int', 'INT').replace('fp', 'FP')} {short_count(limit * 1e9)}op/s"
    is_vector = name == "vector lanes"
    return Roof(label, path, x.end - 4, y.at(limit) - 7, is_vector)


def _dot(point: RooflinePoint, intensity: float, x: Axis, y: Axis) -> Dot:
    row = point.row
    title = (
        f"{row.name} · {row.op_type}\n{short_count(point.gops * 1e9)}op/s on the {point.unit} at "
        f"{intensity:,.3g} operations per byte\n{share_text(row.share)} of the cycles, "
        f"bound by {bound_text(row.bound_by)}, utilisation {share_text(row.utilization)}"
    )
    radius = round(3.5 + 22 * sqrt(row.share), 1)
    return Dot(x.at(intensity), y.at(point.gops), radius, row.bound_by, point.index, title)


@dataclass(frozen=True)
class MemoryRect:
    """A tensor or buffer over the time that it is live."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    title: str


@dataclass(frozen=True)
class MemoryChart:
    """Address over time; `peak_x` is the middle of the peak."""

    frame: Frame
    rects: list[MemoryRect]
    peak_x: float


def memory_chart(found: MemoryMap, clock_mhz: float, peak_cycle: int) -> MemoryChart:
    """The whole L2 from address 0 at the bottom; peak_cycle: where to mark the peak."""
    top, bottom = 26.0, 316.0
    x, unit = time_axis(found.total_cycles, clock_mhz, LEFT, WIDTH - RIGHT)
    y = Axis(0, found.capacity_bytes, bottom, top)
    rects = []
    for block in found.blocks:
        left, right = x.at(block.start_cycle), x.at(block.end_cycle)
        low, high = y.at(block.address), y.at(block.address + block.size_bytes)
        rects.append(
            MemoryRect(
                left,
                high,
                round(max(0.4, right - left), 1),
                round(max(0.4, low - high), 1),
                block.kind,
                _block_title(block, clock_mhz),
            )
        )
    ticks = x.ticks(8, cycle_factor(clock_mhz, unit))
    frame = Frame(
        WIDTH,
        356.0,
        LEFT,
        WIDTH - RIGHT,
        top,
        bottom,
        ticks,
        y.quarters(),
        f"time, {unit}",
        "address in L2",
    )
    return MemoryChart(frame, rects, x.at(peak_cycle))


def _block_title(block: MemoryBlock, clock_mhz: float) -> str:
    span = f"{time_text(block.start_cycle / clock_mhz)} to {time_text(block.end_cycle / clock_mhz)}"
    return f"{block.name} · {block.kind} · {bytes_text(block.size_bytes)}\n{span}"


@dataclass(frozen=True)
class PowerLine:
    """A level to compare with."""

    name: str
    label: str
    y: float


@dataclass(frozen=True)
class PowerChart:
    """Mean power per stretch as an area, the highest within it as a line."""

    frame: Frame
    area: str
    highest: str
    lines: list[PowerLine]


def power_chart(steps: PowerSteps, levels: dict[str, float], clock_mhz: float) -> PowerChart:
    """levels: watts by name ("TDP", "average", "idle"), drawn as lines."""
    top, bottom = 26.0, 256.0
    binned = steps.resampled(POWER_BINS)
    x, unit = time_axis(steps.end, clock_mhz, LEFT, WIDTH - RIGHT)
    y = Axis(0, max(binned.highest.max(), *levels.values()) * 1.1, bottom, top)
    edges = [x.at(start) for start in (*binned.starts.tolist(), steps.end)]
    mean = _stairs(edges, [y.at(watts) for watts in binned.watts.tolist()])
    highest = _stairs(edges, [y.at(watts) for watts in binned.highest.tolist()])
    frame = Frame(
        WIDTH,
        296.0,
        LEFT,
        WIDTH - RIGHT,
        top,
        bottom,
        x.ticks(8, cycle_factor(clock_mhz, unit)),
        y.ticks(4),
        f"time, {unit}",
        "power, W",
    )
    lines = [
        PowerLine(name, f"{name} {value:.2f} W", y.at(value)) for name, value in levels.items()
    ]
    area = f"M{edges[0]} {bottom}L{mean[1:]}V{bottom}Z"
    return PowerChart(frame, area, highest, lines)


def _stairs(edges: list[float], levels: list[float]) -> str:
    parts = [f"M{edges[0]} {levels[0]}"]
    for right, level, after in zip(edges[1:], levels, [*levels[1:], levels[-1]], strict=True):
        parts.append(f"H{right}" if after == level else f"H{right}V{after}")
    return "".join(parts)
