"""A comparison on a terminal: the whole, the gates, and the ops that changed."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kpuprof.amounts import change_text, share_text, texts_apart
from kpuprof.comparison import Change, Comparison, OpChange
from kpuprof.figures import FIGURES, SPENT
from kpuprof.gates import Gate, op_texts

WIDE = 110
HEADLINES = (
    "total_cycles total_time_us compute_cycles memory_stall_cycles total_energy_uj "
    "average_power_watts peak_power_watts dram_bytes peak_l2_bytes peak_dram_bytes weight_bytes "
    "ops compute_utilization roofline_ratio sqnr_db"
).split()
BETTER, WORSE, SAME = "green", "red", "bright_black"


def render(
    comparison: Comparison,
    gates: list[Gate],
    ops: list[OpChange],
    top: int,
    width: int,
    field: str = "cycles",
) -> RenderableType:
    """ops: in the order to show, which is that of `field`; top: how many of those that changed in
    what is shown, 0 for all that changed; width in columns."""
    parts = [_heading(comparison), "", _totals(comparison)]
    if gates:
        parts += ["", _gates(gates)]
    changed = [op for op in ops if op.is_changed]
    fields = [name for name in ("energy_uj", "dram_bytes") if width >= WIDE or name == field]
    shown = [op for op in changed[:top] if _is_seen(op, fields)] if top else changed
    if shown:
        parts += ["", _ops(shown, fields, width)]
    return Group(*parts, "", Text(counts_text(comparison, changed, len(shown)), SAME))


def headlines(comparison: Comparison) -> list[tuple[str, str, str, Change, str]]:
    """Name, base, new, change and unit of the totals that a person asks for first."""
    rows = []
    for figure in FIGURES:
        change = comparison.totals.get(figure.name)
        if change is not None and figure.name in HEADLINES:
            texts = texts_apart(change.base, change.new, figure.unit)
            rows.append((figure.name, *texts, change, figure.unit))
    return rows


def counts_text(comparison: Comparison, changed: list[OpChange], shown: int) -> str:
    """How many ops changed, and how many of these are not shown."""
    alone = [op.notes[0] for op in comparison.ops if op.notes[:1] in (("new",), ("gone",))]
    words = [
        f"{len(changed)} of {len(comparison.ops)} ops changed",
        *(f"{alone.count(kind)} {kind}" for kind in ("new", "gone") if kind in alone),
    ]
    hidden = len(changed) - shown
    if hidden > 0:
        words.append(f"{hidden} with less change not shown (--top 0 shows all)")
    return " · ".join(words)


def _heading(comparison: Comparison) -> RenderableType:
    title = Text(f"{comparison.base.name} → {comparison.new.name}", "bold")
    if not comparison.differences:
        return title
    return Group(title, Text("they differ in " + ", ".join(comparison.differences), "yellow"))


def _totals(comparison: Comparison) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("figure", overflow="fold")
    for heading in ("base", "new", "change", "%"):
        table.add_column(heading, justify="right", no_wrap=True)
    better_higher = {figure.name for figure in FIGURES if figure.at_least}
    for name, base, new, change, unit in headlines(comparison):
        style = _style(change, name in better_higher)
        # points of a share, not a share of a share
        points = f"{change.difference * 100:+.1f} points".replace("-", "−")
        text = points if unit == "share" and change.difference else _change(change, unit)
        share = "" if unit in ("share", "db") else share_text(change.share)
        cells = (each.removesuffix(" cycles") for each in (base, new, text))  # as the name says
        *both, text = cells
        table.add_row(name, *both, Text(text, style), Text(share, style))
    return table


def _gates(gates: list[Gate]) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("limit", overflow="fold")
    for heading in ("change", "allowed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for gate in gates:
        verdict = Text("held", "green") if gate.is_held else Text("exceeded", "bold red")
        table.add_row(gate.limit.figure.name, gate.change_text, gate.allowed_text, verdict)
    broken = [gate for gate in gates if not gate.is_held and gate.ops]
    return Group(table, *(part for gate in broken for part in _behind(gate)))


def _behind(gate: Gate) -> tuple[RenderableType, RenderableType]:
    what, _ = SPENT[gate.limit.figure.spent_as]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold", min_width=12)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for op in gate.ops:
        table.add_row(*op_texts(gate, op))
    return Text(f"\n{gate.limit.figure.name}: where {what} rose most", "bold"), table


def _is_seen(op: OpChange, fields: list[str]) -> bool:
    """Whether its row says that something changed."""
    differs = (op.figures[name].difference for name in ("cycles", *fields) if name in op.figures)
    return bool(op.notes) or any(differs)


def _ops(ops: list[OpChange], wanted: list[str], width: int) -> RenderableType:
    is_wide = width >= WIDE
    fields = [name for name in wanted if name in ops[0].figures]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("op", overflow="fold", min_width=12)
    if is_wide:
        table.add_column("type", overflow="fold", min_width=8)
    for heading in ("cycles", "new", "change", "%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for field in fields:
        table.add_column({"energy_uj": "energy", "dram_bytes": "DRAM"}[field], justify="right")
    table.add_column("what differs", overflow="fold", min_width=12)
    for op in ops:
        cycles = op.figures["cycles"]
        style = _style(cycles, at_least=False)
        cells: list[RenderableType] = [
            f"{cycles.base:,}",
            f"{cycles.new:,}",
            Text(change_text(cycles.difference, "count"), style),
            Text(share_text(cycles.share), style),
        ]
        cells += [change_text(op.figures[f].difference, SPENT[f][1]) for f in fields]
        names = (op.name, op.op_type) if is_wide else (op.name,)
        table.add_row(*names, *cells, ", ".join(op.notes))
    return table


def _change(change: Change, unit: str) -> str:
    return change_text(change.difference, unit)


def _style(change: Change, at_least: bool) -> str:
    if not change.difference:
        return SAME
    return BETTER if (change.difference > 0) == at_least else WORSE
