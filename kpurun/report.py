"""What `kpurun` prints: the metrics and outputs of an execution, and what a program is."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from formats.console import size_text
from formats.profile import KPUExecutionResult
from formats.program import KPUProgram, KPUTensor
from kpurun.feed import host_dtype

if TYPE_CHECKING:
    from rich.table import Table

    from kpurun.engine.tiled import TileReport


def execution_document(
    program: KPUProgram, result: KPUExecutionResult, host_ms: Sequence[float]
) -> dict[str, Any]:
    """One execution as JSON values. host_ms: what each repetition took the simulator itself."""
    return {
        "program": program.name,
        "precision": program.precision.value,
        "mode": result.mode.value,
        "metrics": asdict(result.metrics),
        "outputs": [_output_document(name, array) for name, array in result.outputs.items()],
        "warnings": list(result.trace),
        "host_ms": [round(value, 3) for value in host_ms],
    }


def _output_document(name: str, array: np.ndarray) -> dict[str, Any]:
    """min and max are null where they are not finite (JSON has no such numbers)."""
    low, high = (_plain(value) for value in (array.min(), array.max()))
    return {
        "name": name,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "min": low,
        "max": high,
    }


def _plain(value: np.generic) -> float | int | bool | None:
    return value.item() if np.isfinite(value) else None


def execution_table(
    program: KPUProgram, result: KPUExecutionResult, host_ms: Sequence[float]
) -> "Table":
    """The same for a person: one row per figure."""
    from rich.table import Table

    metrics, config = result.metrics, program.target_config
    share = 100 / max(1, metrics.total_cycles)
    table = Table(title=f"{program.name} · {program.precision.value} on {config.name}", box=None)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("")
    rows = [
        ("latency", f"{metrics.total_time_us / 1000:,.3f} ms", f"{metrics.total_cycles:,} cycles"),
        ("  compute", f"{metrics.compute_cycles:,}", f"{share * metrics.compute_cycles:.1f} %"),
        (
            "  memory stall",
            f"{metrics.memory_stall_cycles:,}",
            f"{share * metrics.memory_stall_cycles:.1f} %",
        ),
        ("  other", f"{metrics.other_cycles:,}", f"{share * metrics.other_cycles:.1f} %"),
        ("energy", f"{metrics.total_energy_uj / 1000:,.3f} mJ", "per inference"),
        (
            "average power",
            f"{metrics.average_power_watts:.2f} W",
            f"TDP {config.compute.tdp_watts:g} W",
        ),
        ("compute utilisation", f"{100 * metrics.compute_utilization:.1f} %", ""),
        ("DRAM bandwidth used", f"{100 * metrics.memory_bandwidth_utilization:.1f} %", ""),
        (
            "DRAM read",
            size_text(metrics.dram_reads_bytes),
            f"{size_text(metrics.dram_writes_bytes)} written",
        ),
        (
            "SRAM read",
            size_text(metrics.sram_reads_bytes),
            f"{size_text(metrics.sram_writes_bytes)} written",
        ),
        (
            "peak L2",
            size_text(program.peak_sram_bytes),
            f"of {size_text(config.memory.sram_l2_bytes)}",
        ),
        ("simulator", f"{min(host_ms):,.1f} ms", _repetitions(host_ms)),
    ]
    for row in rows:
        table.add_row(*row)
    for name, array in result.outputs.items():
        table.add_row(f"output {name}", _shape_text(array.shape), _range_text(array))
    return table


def _repetitions(host_ms: Sequence[float]) -> str:
    if len(host_ms) == 1:
        return "on this computer"
    return f"best of {len(host_ms)}, median {statistics.median(host_ms):,.1f} ms"


def _range_text(array: np.ndarray) -> str:
    if array.dtype.kind not in "biuf" or array.size == 0:
        return array.dtype.name
    return f"{array.dtype.name} {float(array.min()):.5g} … {float(array.max()):.5g}"


def _shape_text(shape: Sequence[int]) -> str:
    return "(" + ",".join(map(str, shape)) + ")"


def info_document(program: KPUProgram, version: str) -> dict[str, Any]:
    """What a program is, as JSON values; sizes in bytes. version: of its file's format."""
    return {
        "name": program.name,
        "format_version": version,
        "precision": program.precision.value,
        "target": program.target_config.name,
        "source_model": program.source_model,
        "source_hash": program.source_hash,
        "preprocess": program.preprocess,
        "ops": len(program.ops),
        "inputs": [_tensor_document(tensor) for tensor in program.get_input_tensors()],
        "outputs": [_tensor_document(tensor) for tensor in program.get_output_tensors()],
        "weight_bytes": program.weight_bytes,
        "activation_bytes": program.activation_bytes,
        "peak_sram_bytes": program.peak_sram_bytes,
        "peak_dram_bytes": program.peak_dram_bytes,
        "estimated_total_cycles": program.estimated_total_cycles,
        "estimated_total_energy_uj": program.estimated_total_energy_uj,
    }


def _tensor_document(tensor: KPUTensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": host_dtype(tensor).name,
        "storage": tensor.dtype.value,
    }


def info_lines(program: KPUProgram, version: str) -> list[str]:
    """The same for a person: "name: value", one per line."""
    lines = []
    for key, value in info_document(program, version).items():
        if isinstance(value, list):
            lines += [
                f"{key[:-1]}: {item['name']} {_shape_text(item['shape'])} {item['dtype']}, "
                f"stored as {item['storage']}"
                for item in value
            ]
        elif value != "":
            lines.append(f"{key.replace('_', ' ')}: {_value_text(value)}")
    return lines


def tiles_document(report: "TileReport") -> dict[str, Any]:
    """What was executed tile by tile and found equal; bytes by route."""
    return {
        "ops": report.ops,
        "views": report.views,
        "tiles": report.tiles,
        "moved_bytes": {
            f"{source.value} to {target.value}": moved
            for (source, target), moved in sorted(report.moved_bytes.items())
        },
    }


def tiles_line(report: "TileReport") -> str:
    """The same for a person."""
    moved = size_text(sum(report.moved_bytes.values()))
    views = f" (views: {report.views:,})" if report.views else ""
    return (
        f"tiles: {report.ops:,} ops{views} in {report.tiles:,} tiles, {moved} moved: "
        "equal to the reference"
    )


def input_lines(inputs: Mapping[str, np.ndarray]) -> list[str]:
    """What is fed: name, shape, dtype and range of each array."""
    return [
        f"feeding {name} {_shape_text(array.shape)} {_range_text(array)}"
        for name, array in inputs.items()
    ]


def _value_text(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
