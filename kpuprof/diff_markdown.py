"""A comparison as Markdown, for a comment on a pull request; and as JSON."""

from dataclasses import asdict
from typing import Any

from kpuprof.amounts import change_text, plain, share_text
from kpuprof.comparison import Change, Comparison, OpChange
from kpuprof.diff_text import counts_text, headlines
from kpuprof.figures import SPENT
from kpuprof.gates import Gate


def markdown(comparison: Comparison, gates: list[Gate], ops: list[OpChange], top: int) -> str:
    """Totals that changed, gates, then the ops that changed, folded away. ops, top: of render."""
    lines = [f"### KPU profile: {_code(comparison.base.name)} → {_code(comparison.new.name)}", ""]
    if comparison.differences:
        lines += [f"> They differ in {_cell(', '.join(comparison.differences))}", ""]
    lines += _gate_lines(gates) if gates else []
    lines += _total_lines(comparison)
    changed = [op for op in ops if op.is_changed]
    if not changed:
        return "\n".join([*lines, "No op changed."]) + "\n"
    shown = changed[:top] if top else changed
    counts = counts_text(comparison, changed, len(shown))
    lines += [f"<details><summary>{counts}</summary>", ""]
    lines += _op_lines(shown)
    return "\n".join([*lines, "", "</details>"]) + "\n"


def document(comparison: Comparison, gates: list[Gate], ops: list[OpChange]) -> dict[str, Any]:
    """Everything for a script, in the figures' own units."""
    return {
        "base": {"file": comparison.base.name, "mode": comparison.base.mode},
        "new": {"file": comparison.new.name, "mode": comparison.new.mode},
        "differences": list(comparison.differences),
        "is_held": all(gate.is_held for gate in gates),
        "limits": [
            {
                "figure": gate.limit.figure.name,
                **_change(gate.change),
                "allowed": plain(gate.limit.allowed.value),
                "is_relative": gate.limit.allowed.is_relative,
                "is_held": gate.is_held,
            }
            for gate in gates
        ],
        "totals": {name: _change(change) for name, change in comparison.totals.items()},
        "ops": [
            {
                "name": op.name,
                "op_type": op.op_type,
                "base_ops": [found.id for found in op.base_ops],
                "new_ops": [found.id for found in op.new_ops],
                "matched_by": op.matched_by or None,
                "notes": list(op.notes),
                "figures": {name: _change(change) for name, change in op.figures.items()},
            }
            for op in ops
        ],
    }


def _change(change: Change) -> dict[str, float | None]:
    return {**asdict(change), "difference": change.difference, "share": change.share}


def _gate_lines(gates: list[Gate]) -> list[str]:
    lines = ["| limit | change | allowed | |", "|---|--:|--:|---|"]
    for gate in gates:
        verdict = "✅ held" if gate.is_held else "❌ exceeded"
        cells = (gate.limit.figure.name, gate.change_text, gate.allowed_text, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _total_lines(comparison: Comparison) -> list[str]:
    lines = ["| figure | base | new | change |", "|---|--:|--:|--:|"]
    for name, base, new, change, unit in headlines(comparison):
        if change.difference:
            share = share_text(change.share) or change_text(change.difference, unit)
            lines.append(f"| {name} | {base} | {new} | {share} |")
    return [*lines, ""] if len(lines) > 2 else ["No figure changed.", ""]


def _op_lines(ops: list[OpChange]) -> list[str]:
    fields = [name for name in ("cycles", "energy_uj", "dram_bytes") if name in ops[0].figures]
    titles = [SPENT[field][0] for field in fields]
    head = ["op", "type", "base cycles", "new cycles", *(f"Δ {title}" for title in titles)]
    lines = [
        f"| {' | '.join(head)} | what differs |",
        "|---|---" + "|--:" * (len(head) - 2) + "|---|",
    ]
    for op in ops:
        cycles = op.figures["cycles"]
        changes = [change_text(op.figures[f].difference, SPENT[f][1]) for f in fields]
        cells = [_code(op.name), _cell(op.op_type), f"{cycles.base:,}", f"{cycles.new:,}", *changes]
        lines.append(f"| {' | '.join(cells)} | {_cell(', '.join(op.notes))} |")
    return lines


def _code(text: str) -> str:
    """A name from a file as it is: it may hold anything printable, mark-up too."""
    return "`" + text.replace("`", "'").replace("|", "\\|") + "`"


def _cell(text: str) -> str:
    """Text in a table, with what Markdown or HTML would take for its own made harmless."""
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "'"), ("@", "&#64;")):
        text = text.replace(sign, entity)
    return text
