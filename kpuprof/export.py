"""A profile's figures for other tools: a row per op, as CSV or JSON, unrounded."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from formats.console import JSON_SCHEMA_VERSION
from formats.profile import OP_FIGURES, Bound, Profile
from formats.program import KPUOp, KPUProgram
from kpuprof.rows import readable

FORMATS = ("csv", "json")
DESCRIPTION = (
    "order id name op_type epilogue fused_with precision output_shape source "
    "start_cycle end_cycle l2_live_bytes"
).split()

Row = dict[str, Any]


def op_records(profile: Profile) -> list[Row]:
    """A row per op in scheduled order: DESCRIPTION, then every figure that the profile has of ops.

    The same keys in every row; None where an op has no such figure. Whole numbers are ints,
    `bound_by` is the name of a Bound; units are in the names.
    """
    ordered = profile.program.get_ops_in_order()
    places = zip(
        *(profile.events[f"op.{key}"].tolist() for key in DESCRIPTION[-3:]),
        strict=True,
    )
    table = profile.metrics.op_metrics
    extra = sorted({key for row in table.values() for key in row} - set(OP_FIGURES))
    return [
        {
            **_description(profile.program, op),
            **dict(zip(DESCRIPTION[-3:], place, strict=True)),
            **{key: _value(key, table[op.id].get(key)) for key in (*OP_FIGURES, *extra)},
        }
        for op, place in zip(ordered, places, strict=True)
    ]


def csv_text(profile: Profile) -> str:
    """One header line, then a row per op; of several names in a cell, with blanks between."""
    records = op_records(profile)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*records[0]] if records else DESCRIPTION)
    for record in records:
        writer.writerow(_cell(value) for value in record.values())
    return file.getvalue()


def json_text(profile: Profile) -> str:
    """The totals as the profile has them, and the rows."""
    program = profile.program
    totals = asdict(profile.metrics)
    del totals["op_metrics"]
    document = {
        "schema_version": JSON_SCHEMA_VERSION,
        "command": "export",
        "program": program.name,
        "precision": program.precision.value,
        "config": program.target_config.name,
        "mode": profile.mode.value,
        "metrics": totals,
        "ops": op_records(profile),
    }
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _description(program: KPUProgram, op: KPUOp) -> Row:
    return {
        "order": op.schedule_order,
        "id": op.id,
        "name": op.name or op.id,
        "op_type": readable(op.op_type),
        "epilogue": [readable(stage.op_type) for stage in op.epilogue],
        "fused_with": [*map(readable, op.fused_with)],
        "precision": (op.precision or program.precision).value,
        "output_shape": list(program.tensors[op.output_ids[0]].shape) if op.output_ids else [],
        "source": readable(op.source),
    }


def _value(key: str, value: float | None) -> float | str | None:
    if value is None:
        return None
    if key == "bound_by":
        return Bound(int(value)).name.lower()
    return int(value) if value.is_integer() and not key.endswith(("_pj", "_us")) else value


def _cell(value: object) -> object:
    if isinstance(value, list):
        separator = "x" if value and isinstance(value[0], int) else " "
        return separator.join(map(str, value))
    return "" if value is None else value
