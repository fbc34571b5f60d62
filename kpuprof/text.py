"""A profile on a terminal: summary, quantisation, where cycles go, per-op table, L2 use."""

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from formats.console import size_text
from kpuprof.memory import MemoryUse
from kpuprof.rows import OpRow
from kpuprof.summary import QuantizationSummary, Summary

BAR_WIDTH = 24
BESIDE_BAR = 68  # columns that the frame, the label and the shares take
NARROW = 72
ROOMY = 88
WIDE = 110
MOST_KEPT_SHOWN = 6
CHART_WIDTH = 72
BESIDE_CHART = 8  # columns of " cycles" after the axis
CHART_HEIGHT = 8
EIGHTHS = " ▁▂▃▄▅▆▇█"
BOUND_STYLE = {"compute": "green", "vector": "cyan", "dram": "red", "sram": "yellow"}


def render(
    summary: Summary,
    quantization: QuantizationSummary | None,
    rows: list[OpRow],
    memory: MemoryUse,
    top: int,
    width: int,
) -> RenderableType:
    """The whole report. `rows` in the order to show; `top` 0 shows all of them; width in columns
    of the terminal: a narrow one is shown fewer figures per op, never cut ones."""
    table = _op_table(rows, top, width, is_quantised=quantization is not None)
    accuracy = [] if quantization is None else [_quantization(quantization)]
    return Group(_headline(summary, width), *accuracy, table, _memory_chart(memory, width))


def _headline(summary: Summary, width: int) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column()
    for label, value in _headline_rows(summary, width):
        grid.add_row(label, value)
    mode = summary.mode.replace("_", " ")
    title = f"{summary.program} · {summary.precision} · {summary.config} · {mode}"
    return Panel(grid, title=title, title_align="left", expand=False)


def _quantization(found: QuantizationSummary) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for label, value in _quantization_rows(found):
        grid.add_row(label, Text(value))
    title = f"Quantisation · {found.precision}"
    return Panel(grid, title=title, title_align="left", expand=False)


def _quantization_rows(found: QuantizationSummary) -> list[tuple[str, str]]:
    share = f"{found.integer_mac_share:.1%} of MACs in {found.precision}"
    rows = [
        ("Ranges", f"{found.method}, {found.samples} samples; {found.held_out} held out"),
        ("Precision", f"{share}, {_kept_text(found.kept)}"),
    ]
    for output in found.outputs:
        worst = output.max_difference
        text = "" if worst is None else f" · max difference {worst:.4f} of the largest value"
        rows.append(("Accuracy", f"{output.name}: {output.sqnr_db:.1f} dB{text}"))
    gains = " · ".join(f"{name} {gain:+.1f} dB" for name, gain in found.gains_db.items())
    return [*rows, ("Gains", gains)] if gains else rows


def _kept_text(kept: dict[str, str]) -> str:
    """The first few of the ops kept in another precision, by name."""
    if not kept:
        return "no op kept in another precision"
    names = ", ".join([*kept][:MOST_KEPT_SHOWN])
    more = f" and {len(kept) - MOST_KEPT_SHOWN} more" if len(kept) > MOST_KEPT_SHOWN else ""
    return f"{len(kept)} in {'/'.join(dict.fromkeys(kept.values()))}: {names}{more}"


def _headline_rows(summary: Summary, width: int) -> list[tuple[str, RenderableType]]:
    power = f"{summary.average_power_watts:.2f} W of {summary.tdp_watts:g} W TDP"
    over = summary.average_power_watts > summary.tdp_watts
    return [
        (
            "Latency",
            f"{summary.total_time_us / 1000:.3f} ms · {summary.total_cycles:,} cycles · "
            f"{summary.inferences_per_second:,.0f} inferences/s",
        ),
        (
            "Energy",
            Text(f"{summary.total_energy_uj / 1000:.3f} mJ · ").append(
                power, "red" if over else ""
            ),
        ),
        ("Cycles", _cycle_bar(summary, width)),
        (
            "Roofline",
            f"{summary.roofline_ratio:.1%} of what ops one by one could do "
            f"({summary.roofline_cycles:,} cycles)",
        ),
        (
            "Bound",
            f"{summary.bound_ratio:.1%} of what all units at once could do "
            f"({summary.bound_cycles:,} cycles)",
        ),
        (
            "Utilisation",
            f"arrays {summary.compute_utilization:.1%} · DRAM bandwidth "
            f"{summary.memory_bandwidth_utilization:.1%} · {summary.macs / 1e6:,.1f} M MACs",
        ),
        (
            "DRAM",
            f"{size_text(summary.dram_read_bytes)} read · "
            f"{size_text(summary.dram_write_bytes)} written · "
            f"{size_text(summary.weight_bytes)} of weights",
        ),
        (
            "L2 peak",
            f"{size_text(summary.peak_l2_bytes)} of {size_text(summary.l2_bytes)} · "
            f"largest live set {size_text(summary.live_set_bound_bytes)}",
        ),
    ]


def _cycle_bar(summary: Summary, width: int) -> Text:
    parts = [
        ("compute", summary.compute_cycles, "green"),
        ("memory stall", summary.memory_stall_cycles, "red"),
        ("other", summary.other_cycles, "bright_black"),
    ]
    total = max(1, summary.total_cycles)
    bar_width = min(BAR_WIDTH, max(8, width - BESIDE_BAR))
    bar = Text()
    for _, cycles, style in parts:
        bar.append("█" * round(bar_width * cycles / total), style)
    for label, cycles, style in parts:
        bar.append(f"  {label} ", style).append(f"{cycles / total:.1%}")
    return bar


def _op_table(rows: list[OpRow], top: int, width: int, is_quantised: bool) -> RenderableType:
    shown = rows[:top] if top else rows
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("op", overflow="fold", min_width=10)
    table.add_column("type", overflow="fold", min_width=8)
    headings = ("cycles", "%", "DRAM", "util", "time", "energy", "L2")
    count = 7 if width >= WIDE else 4 if width >= NARROW else 2
    if is_quantised and width < ROOMY:
        count = min(count, 3)  # names before utilisation
    accuracy = ("SQNR dB" if width >= WIDE else "dB",) if is_quantised else ()
    for heading in (*headings[:count], *accuracy):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for row in shown:
        figures = (
            f"{row.cycles:,}",
            f"{row.share:.1%}",
            size_text(row.dram_bytes),
            f"{row.utilization:.0%}",
            f"{row.time_us:,.1f} µs",
            f"{row.energy_uj:,.1f} µJ",
            size_text(row.l2_bytes),
        )
        table.add_row(
            row.name,
            row.op_type,
            *figures[:count],
            *((_decibels(row),) if is_quantised else ()),
            Text(row.bound_by, BOUND_STYLE.get(row.bound_by, "bright_black")),
        )
    hidden = len(rows) - len(shown)
    if not hidden:
        return table
    return Group(table, Text(f"… and {hidden} more ops (--top 0 shows all)", "bright_black"))


def _decibels(row: OpRow) -> str:
    """A dash for what has none: integers, and ops of which the exact network has no like."""
    return "–" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"


def _memory_chart(memory: MemoryUse, width: int) -> RenderableType:
    """L2 in use over time, each column the largest use within its share of the cycles."""
    chart_width = max(1, min(CHART_WIDTH, width - BESIDE_CHART))
    columns = memory.peaks(chart_width)
    peak = max(columns)
    ceiling = max(1, peak)
    title = f"\nL2 in use over time: peak {size_text(peak)} of {size_text(memory.capacity_bytes)}"
    lines = [Text(title, "bold")]
    for level in range(CHART_HEIGHT, 0, -1):
        cells = [_cell(used * CHART_HEIGHT / ceiling - (level - 1)) for used in columns]
        lines.append(Text("│" + "".join(cells), "blue"))
    lines.append(Text("└" + "─" * chart_width))
    lines.append(Text(f" 0{memory.total_cycles:>{chart_width - 1},} cycles", "bright_black"))
    return Group(*lines)


def _cell(fill: float) -> str:
    return EIGHTHS[round(8 * min(1.0, max(0.0, fill)))]
