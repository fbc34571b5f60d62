"""Profiles as one HTML file that works offline: what is shown, and the same figures as data.

The page needs no network and loads nothing. Its content security policy allows the one style sheet
and the one script that it carries, by their hashes; names from programs are escaped everywhere.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from formats.console import toolchain_version
from formats.profile import COMMAND_KINDS, Profile
from kpuprof.accuracy import Accuracy
from kpuprof.accuracy_file import digest_of
from kpuprof.activity import UnitActivity, activity
from kpuprof.charts import (
    MemoryChart,
    PowerChart,
    RooflineChart,
    memory_chart,
    power_chart,
    roofline_chart,
)
from kpuprof.graph import program_graph
from kpuprof.graph_chart import GraphChart, graph_chart
from kpuprof.memory import MemoryMap, memory_map
from kpuprof.offline import csp_hash, environment, script_json, source
from kpuprof.power import PowerSteps, cycles_above, energy_parts_uj, left_out, power_steps
from kpuprof.roofline import SpeedOfLight, peaks_of, roofline_points, speed_of_light
from kpuprof.rows import OpRow, op_rows
from kpuprof.side_by_side import compare_headlines, compare_ops
from kpuprof.sqnr import OpSqnr, SqnrChart, op_sqnr, sqnr_chart
from kpuprof.summary import QuantizationSummary, Summary, summarise, summarise_quantization

STYLES = ("report.css",)
SCRIPTS = ("page.js", "sort.js", "table.js", "timeline.js")
EMPTY: Mapping[str, Accuracy] = {}


@dataclass(frozen=True)
class Run:
    """All that the report says of one profile."""

    label: str
    clock_mhz: float
    summary: Summary
    light: tuple[SpeedOfLight, ...]
    rows: list[OpRow]
    quantization: QuantizationSummary | None
    sqnr: OpSqnr
    units: tuple[UnitActivity, ...]
    power: PowerSteps | None
    energy_uj: dict[str, float]
    over_tdp_cycles: int
    memory: MemoryMap
    left_out: dict[str, int]
    op_starts: list[int]
    op_ends: list[int]
    l2_live_bytes: list[int]
    rooflines: list[RooflineChart]
    memory_drawing: MemoryChart
    power_drawing: PowerChart | None
    sqnr_drawing: SqnrChart | None
    graph: GraphChart


def report(profiles: Mapping[str, Profile], accuracy: Mapping[str, Accuracy] = EMPTY) -> str:
    """The page. profiles: by the label that each is to have; the first is the one that the others
    are compared with. accuracy: runs of `kpuprof accuracy` by the digest of their program."""
    runs = [
        run_of(label, profile, accuracy.get(digest_of(profile.program)) if accuracy else None)
        for label, profile in profiles.items()
    ]
    style, script = source(STYLES), source(SCRIPTS)
    template = environment().get_template("report.html")
    return str(
        template.render(
            runs=runs,
            headlines=compare_headlines([run.summary for run in runs]),
            ops=compare_ops([run.rows for run in runs]),
            style=style,
            script=script,
            style_hash=csp_hash(style),
            script_hash=csp_hash(script),
            data=script_json({"runs": [run_document(run) for run in runs]}),
            producer=f"kpu-toolchain {toolchain_version()}",
        )
    )


def run_of(label: str, profile: Profile, accuracy: Accuracy | None = None) -> Run:
    """Every figure and drawing of one profile."""
    config = profile.program.target_config
    rows, clock_mhz = op_rows(profile), config.compute.clock_mhz
    starts, ends, live = (
        profile.events[column].tolist()
        for column in ("op.start_cycle", "op.end_cycle", "op.l2_live_bytes")
    )
    summary, memory, power = summarise(profile, rows), memory_map(profile), power_steps(profile)
    peaks = peaks_of(config)
    points = list(roofline_points(rows, peaks))
    precisions = list(dict.fromkeys(p.row.precision for p in points if p.unit == "arrays"))
    sqnr = op_sqnr(rows, accuracy)
    peak_cycle = (starts[memory.peak_op] + ends[memory.peak_op]) // 2 if starts else 0
    return Run(
        label=label,
        clock_mhz=clock_mhz,
        summary=summary,
        light=speed_of_light(profile, rows),
        rows=rows,
        quantization=summarise_quantization(profile.program),
        sqnr=sqnr,
        units=activity(profile),
        power=power,
        energy_uj=energy_parts_uj(profile),
        over_tdp_cycles=cycles_above(power, summary.tdp_watts) if power else 0,
        memory=memory,
        left_out=left_out(profile),
        op_starts=starts,
        op_ends=ends,
        l2_live_bytes=live,
        rooflines=[
            chart
            for name in ("DRAM", "L2")
            if (chart := roofline_chart(name, points, peaks, precisions))
        ],
        memory_drawing=memory_chart(memory, clock_mhz, peak_cycle),
        power_drawing=power_chart(power, _levels(profile), clock_mhz) if power else None,
        sqnr_drawing=sqnr_chart(rows, sqnr),
        graph=graph_chart(program_graph(profile.program), rows),
    )


def _levels(profile: Profile) -> dict[str, float]:
    compute = profile.program.target_config.compute
    return {
        "TDP": compute.tdp_watts,
        "average": profile.metrics.average_power_watts,
        "idle": compute.idle_watts,
    }


def run_document(run: Run) -> dict[str, Any]:
    """The run's figures for scripts, columns rather than rows; starts are given as differences."""
    rows = [asdict(row) for row in run.rows]
    ops = {name: [row[name] for row in rows] for name in OpRow.__dataclass_fields__}
    blocks = [asdict(block) for block in run.memory.blocks]
    return {
        "label": run.label,
        "clock_mhz": run.clock_mhz,
        "summary": asdict(run.summary),
        "speed_of_light": [asdict(each) for each in run.light],
        "quantization": asdict(run.quantization) if run.quantization else None,
        "accuracy": asdict(run.sqnr.accuracy) if run.sqnr.accuracy else None,
        "ops": {
            **ops,
            "sqnr_db": run.sqnr.sqnr_db,
            "own_sqnr_db": run.sqnr.own_sqnr_db,
            "start_cycle": run.op_starts,
            "end_cycle": run.op_ends,
            "l2_live_bytes": run.l2_live_bytes,
        },
        "kinds": COMMAND_KINDS,
        "units": [_unit_document(unit) for unit in run.units],
        "power": _power_document(run.power) if run.power else None,
        "energy_uj": run.energy_uj,
        "memory": {
            "capacity_bytes": run.memory.capacity_bytes,
            "peak_op": run.memory.peak_op,
            "peak_bytes": run.memory.peak_bytes,
            "blocks": {name: [block[name] for block in blocks] for name in (blocks or [{}])[0]},
        },
    }


def _unit_document(unit: UnitActivity) -> dict[str, Any]:
    spans = unit.spans
    return {
        "unit": unit.unit,
        "commands": unit.commands,
        "busy_cycles": unit.busy_cycles,
        "share": unit.share,
        "starts": np.diff(spans.starts, prepend=0).tolist(),
        "lengths": (spans.ends - spans.starts).tolist(),
        "ops": spans.ops.tolist(),
        "kinds": spans.kinds.tolist(),
    }


def _power_document(steps: PowerSteps) -> dict[str, Any]:
    return {
        "starts": np.diff(steps.starts, prepend=0).tolist(),
        "watts": steps.watts.tolist(),
        "end": steps.end,
    }
