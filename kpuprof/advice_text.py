"""Advice on a terminal, and as JSON."""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kpuprof.advice import Advice, Binding, MissedFusion, Verified

QUIET = "bright_black"
LEAST_SHARE = 0.001  # of all cycles: less is not worth a line


def render(advice: Advice) -> RenderableType:
    cycles = int(advice.base.totals["total_cycles"])
    parts: list[RenderableType] = [
        Text(f"{advice.base.program.name}: {cycles:,} cycles ({advice.base.mode})", "bold")
    ]
    if advice.note:
        parts.append(Text(advice.note, "yellow"))
    parts += ["", _bindings("What limits the ops", advice.limits)]
    if advice.stalls:
        parts += ["", _bindings("What nothing computes for", advice.stalls)]
    parts += ["", Text("What a change saves, tiled and played anew", "bold")]
    parts.append(_verified(advice.verified))
    if advice.missed:
        parts += ["", _missed(advice.missed)]
    parts += ["", *(Text(f"not tried: {what}: {why}", QUIET) for what, why in advice.not_tried)]
    return Group(*parts)


def document(advice: Advice) -> dict[str, Any]:
    """Everything for a script: shares from 0 to 1, units in the names."""
    return {
        "program": advice.base.program.name,
        "mode": advice.base.mode,
        "total_cycles": int(advice.base.totals["total_cycles"]),
        "note": advice.note or None,
        "limits": [_plain(each) for each in advice.limits],
        "stalls": [_plain(each) for each in advice.stalls],
        "remedies": [
            {
                "title": each.remedy.title,
                "set": each.remedy.change,
                "cycles_saved": each.cycles_saved,
                "share_saved": each.share_saved,
                "energy_uj_saved": each.energy_uj_saved,
                "total_cycles": int(each.run.totals["total_cycles"]),
                "total_energy_uj": each.run.totals["total_energy_uj"],
                "peak_l2_bytes": int(each.run.totals["peak_l2_bytes"]),
            }
            for each in advice.verified
        ],
        "not_tried": [{"remedy": what, "reason": why} for what, why in advice.not_tried],
        "missed_fusions": [
            {
                "op": each.op,
                "op_type": each.op_type,
                "cycles": each.cycles,
                "share": each.share,
                "why": each.reason,
            }
            for each in advice.missed
        ],
    }


def _plain(binding: Binding) -> dict[str, Any]:
    ops = [{"op": name, "cycles": cycles} for name, cycles in binding.ops]
    return {
        "cause": binding.cause,
        "cycles": binding.cycles,
        "share": binding.share,
        "ops": ops,
    }


def _table(title: str, *right: str, last: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(title, overflow="fold")
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(last, overflow="fold")
    return table


def _bindings(title: str, bindings: Iterable[Binding]) -> Table:
    table = _table(title, "cycles", "share", last="most in")
    for each in bindings:
        ops = ", ".join(f"{name} {cycles:,}" for name, cycles in each.ops)
        table.add_row(each.cause, f"{each.cycles:,}", f"{each.share:.1%}", Text(ops, QUIET))
    return table


def _verified(found: Iterable[Verified]) -> Table:
    table = _table("remedy", "cycles", "%", "µJ", last="kpuprof whatif --set")
    table.columns[-1].no_wrap = True  # to be copied
    for each in found:
        style = "green" if each.share_saved >= LEAST_SHARE else QUIET
        table.add_row(
            Text(each.remedy.title, style),
            Text(_signed(f"{each.cycles_saved:,}"), style),
            Text(_signed(f"{each.share_saved:.1%}"), style),
            _signed(f"{each.energy_uj_saved:,.1f}"),
            each.remedy.change,
        )
    return table


def _signed(text: str) -> str:
    """With a real minus."""
    return text.replace("-", "−")


def _missed(found: Iterable[MissedFusion]) -> Table:
    table = _table("Missed fusion", "cycles", "share", last="why")
    for each in found:
        if each.share >= LEAST_SHARE:
            name = f"{each.op} {each.op_type}"
            table.add_row(name, f"{each.cycles:,}", f"{each.share:.1%}", Text(each.reason, QUIET))
    return table
