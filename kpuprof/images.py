"""The plots of a report as image files: the same bytes whenever they are made of the same profile.

matplotlib takes long to import, so this module is imported where images are asked for.
"""

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from formats.errors import FileError
from formats.files import write_file
from formats.profile import COMMAND_KINDS, Profile
from kpuprof.activity import activity
from kpuprof.filters import bound_text
from kpuprof.memory import memory_map
from kpuprof.power import power_steps
from kpuprof.roofline import OPS_PER_MAC, peaks_of, roofline_points
from kpuprof.rows import op_rows

BOUND_COLOURS = {
    "compute": "#3b6fd8",
    "vector": "#8a57c9",
    "dram": "#d9731c",
    "sram": "#16958a",
    "dispatch": "#8f98a5",
    "none": "#c3c9d1",
}
KIND_COLOURS = ("#d9731c", "#f0ab5f", "#16958a", "#76c7bf", "#3b6fd8")  # of COMMAND_KINDS
MEMORY_COLOURS = {"activation": "#6c95e6", "buffer": "#cdd9ef", "constant": "#8a57c9"}
STYLE: dict[Any, Any] = {  # of matplotlib's rcParams
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": "#5c6573",
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: no machine draws another
    "font.size": 9.0,
    "svg.hashsalt": "kpuprof",  # else ids of clip paths are random
}
NO_DATES = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


def write_images(profiles: Mapping[str, Profile], folder: str, suffix: str) -> list[Path]:
    """One file per plot and run, named by both; suffix: "png" or "svg". FileError where the folder
    cannot be written."""
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise FileError(f"{folder}: not a folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: {error.strerror}") from error
    written = []
    for number, (label, profile) in enumerate(profiles.items(), 1):
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", label)  # numbered: two labels may become one
        prefix = f"{number}-{safe}-" if len(profiles) > 1 else ""
        for name, data in images(profile, suffix).items():
            path = target / f"{prefix}{name}.{suffix}"
            write_file(data, path)
            written.append(path)
    return written


def images(profile: Profile, suffix: str) -> dict[str, bytes]:
    """The plots by name; those that the profile has no data for are left out."""
    plots: dict[str, Callable[[Axes, Profile], None]] = {"roofline": _roofline, "memory": _memory}
    if activity(profile):
        plots["timeline"] = _timeline
    if power_steps(profile) is not None:
        plots["power"] = _power
    return {name: _drawn(plot, profile, suffix) for name, plot in plots.items()}


def _drawn(plot: Callable[[Axes, Profile], None], profile: Profile, suffix: str) -> bytes:
    """Our own style alone counts, whatever the user's matplotlibrc says."""
    buffer = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(9, 4.5), dpi=150, layout="constrained")
        canvas = FigureCanvasAgg(figure) if suffix == "png" else FigureCanvasSVG(figure)
        plot(figure.subplots(), profile)
        canvas.print_figure(buffer, format=suffix, metadata=NO_DATES[suffix])
    return buffer.getvalue()


def _roofline(axes: Axes, profile: Profile) -> None:
    peaks = peaks_of(profile.program.target_config)
    points = [each for each in roofline_points(op_rows(profile), peaks) if each.dram_intensity]
    bandwidth = peaks.gops(peaks.dram_bytes)
    precisions = dict.fromkeys(each.row.precision for each in points if each.unit == "arrays")
    limits = {f"{each} arrays": peaks.gops(OPS_PER_MAC * peaks.macs[each]) for each in precisions}
    limits["vector lanes"] = peaks.gops(peaks.lane_ops)
    corners = [limit / bandwidth for limit in limits.values()]
    reach = [*corners, *(each.dram_intensity or 1.0 for each in points)]
    low, high = min(reach) / 3, max(reach) * 3
    for (name, limit), corner in zip(limits.items(), corners, strict=True):
        style = "--" if name == "vector lanes" else "-"
        axes.plot([low, corner, high], [low * bandwidth, limit, limit], style, color="#161a20")
        axes.annotate(f"{name} {limit:,.0f} Gop/s", (high, limit * 1.1), ha="right")
    for bound, colour in BOUND_COLOURS.items():
        chosen = [each for each in points if each.row.bound_by == bound]
        if chosen:
            axes.scatter(
                [each.dram_intensity or 1.0 for each in chosen],
                [each.gops for each in chosen],
                s=[20 + 900 * each.row.share for each in chosen],
                color=colour,
                alpha=0.55,
                label=f"bound by {bound_text(bound)}",
            )
    axes.set(xscale="log", yscale="log", xlim=(low, high), title=_title(profile, "roofline"))
    axes.set(xlabel="operations per byte of DRAM traffic", ylabel="10⁹ operations per second")
    if points:
        axes.legend(frameon=False, loc="lower right")


def _timeline(axes: Axes, profile: Profile) -> None:
    per_ms = profile.program.target_config.compute.clock_mhz * 1000
    units = activity(profile)
    for place, unit in enumerate(units):
        spans = unit.spans
        for kind in sorted(set(spans.kinds.tolist())):
            chosen = spans.where(spans.kinds == kind)
            ranges = zip(
                (chosen.starts / per_ms).tolist(),
                ((chosen.ends - chosen.starts) / per_ms).tolist(),
                strict=True,
            )
            colour, label = KIND_COLOURS[kind], COMMAND_KINDS[kind]
            axes.broken_barh(
                list(ranges), (place - 0.35, 0.7), facecolor=colour, linewidth=0, label=label
            )  # an edge would make short commands look long
    labels = [f"{unit.unit}\n{unit.share:.1%} busy" for unit in units]
    axes.set_yticks(range(len(units)), labels)
    axes.invert_yaxis()
    axes.set(xlabel="time, ms", title=_title(profile, "timeline"))
    axes.set_xlim(0, max(1, profile.metrics.total_cycles) / per_ms)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=5)


def _memory(axes: Axes, profile: Profile) -> None:
    per_ms = profile.program.target_config.compute.clock_mhz * 1000
    found = memory_map(profile)
    for block in found.blocks:
        corner = (block.start_cycle / per_ms, block.address / 1024)
        width = (block.end_cycle - block.start_cycle) / per_ms
        colour = MEMORY_COLOURS.get(block.kind, "#16958a")
        height = block.size_bytes / 1024
        axes.add_patch(
            Rectangle(corner, width, height, facecolor=colour, edgecolor="white", linewidth=0.4)
        )
    axes.set_xlim(0, max(1, found.total_cycles) / per_ms)
    axes.set_ylim(0, found.capacity_bytes / 1024)
    title = _title(profile, f"L2, {found.peak_bytes / 1024:,.1f} KiB at the peak")
    axes.set(xlabel="time, ms", ylabel="address in L2, KiB", title=title)


def _power(axes: Axes, profile: Profile) -> None:
    steps = power_steps(profile)
    if steps is None:
        return
    compute = profile.program.target_config.compute
    per_ms = compute.clock_mhz * 1000
    times = [*(steps.starts / per_ms).tolist(), steps.end / per_ms]
    axes.stairs(steps.watts, times, fill=True, color="#6c95e6")
    axes.axhline(compute.tdp_watts, color="#b3261e", label=f"TDP {compute.tdp_watts:g} W")
    average = profile.metrics.average_power_watts
    axes.axhline(average, color="#161a20", linestyle="--", label=f"average {average:.2f} W")
    axes.set(xlabel="time, ms", ylabel="power, W", title=_title(profile, "power"))
    axes.set_xlim(0, times[-1])
    axes.legend(frameon=False, loc="center right")


def _title(profile: Profile, what: str) -> str:
    """Without matplotlib's markup: a $ in a name begins a formula there."""
    program = profile.program
    return f"{program.name} · {program.precision.value} · {what}".replace("$", r"\$")
