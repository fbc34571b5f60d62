"""The commands as whole processes: wall time, CPU time and peak memory, as a user pays them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from samples.bench.bars import Bar, at_most, print_table
from samples.bench.subjects import Subject
from samples.make_models import write_exported

BIN = Path(sys.executable).parent
HELP_RUNS = 5
COMPILE_RUNS = 3
PROFILE_RUNS = 3
HELP_BAR_SECONDS = 0.4
COMPILE_BARS_SECONDS = {"resnet18": 8.0, "yolov8n": 20.0}
PROFILED = "yolov8n"
PROFILE_BARS_SECONDS = {"report": 3.0, "trace": 3.0, "diff": 1.0}
MEMORY_BARS_GIB = {"yolov8n": 1.5}
KIB_PER_GIB = 1024 * 1024
# A process starts with the peak memory of the one that forked it: fork from a small one.
LAUNCHER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
cpu = usage.ru_utime + usage.ru_stime
print(json.dumps({"wall_seconds": wall, "cpu_seconds": cpu, "peak_kib": usage.ru_maxrss}))
sys.exit(os.waitstatus_to_exitcode(status))
"""
HEADER = ("process", "wall s, best", "wall s, worst", "CPU s", "peak MiB")


@dataclass(frozen=True)
class Usage:
    """What one process took; `peak_kib` is its largest resident set."""

    wall_seconds: float
    cpu_seconds: float
    peak_kib: int


def measure(words: Sequence[str]) -> Usage:
    """Run a process to its end. RuntimeError with its stderr when it fails."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    return Usage(**json.loads(done.stdout))


def measure_processes(console: Console, subjects: list[Subject]) -> list[Bar]:
    """Print what `--help`, kpuc and kpuprof take; bars on the least disturbed of a few runs."""
    rows, bars = [], []
    for command in ("kpuc", "kpurun", "kpuprof"):
        usages = [measure([str(BIN / command), "--help"]) for _ in range(HELP_RUNS)]
        rows.append(row(f"{command} --help", usages))
        bars.append(duration_bar(rows[-1][0], usages, HELP_BAR_SECONDS))
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects:
            usages = measure_compile(subject, Path(folder))
            rows.append(row(f"kpuc {subject.name}.pt2", usages))
            bars += compile_bars(subject.name, usages)
            if subject.name != PROFILED:
                continue
            for command, usages in measure_profiler(subject.name, Path(folder)).items():
                rows.append(row(f"kpuprof {command} {subject.name}.kprof", usages))
                bars.append(duration_bar(rows[-1][0], usages, PROFILE_BARS_SECONDS[command]))
    load, cores = os.getloadavg()[0], os.cpu_count()
    title = f"Whole processes ({cores} cores, load average {load:.1f})"
    print_table(console, title, HEADER, rows)
    return bars


def measure_compile(subject: Subject, folder: Path) -> list[Usage]:
    """kpuc from a .pt2 file to a .kpu file."""
    source, target = folder / f"{subject.name}.pt2", folder / f"{subject.name}.kpu"
    write_exported(subject.model, source)
    words = [str(BIN / "kpuc"), str(source), "-o", str(target), "--quiet"]
    return [measure(words) for _ in range(COMPILE_RUNS)]


def measure_profiler(name: str, folder: Path) -> dict[str, list[Usage]]:
    """Commands of kpuprof on a cycle-accurate run of the program that was compiled; diff compares
    it with itself."""
    program, profile = folder / f"{name}.kpu", folder / f"{name}.kprof"
    simulated = ["--random", "0", "--mode", "cycle_accurate", "--profile", str(profile), "--quiet"]
    measure([str(BIN / "kpurun"), str(program), *simulated])
    words = {
        "report": [str(profile), "-o", str(folder / "report.html")],
        "trace": [str(profile), "-o", str(folder / "trace.pftrace")],
        "diff": [str(profile), str(profile)],
    }
    return {
        command: [measure([str(BIN / "kpuprof"), command, *rest]) for _ in range(PROFILE_RUNS)]
        for command, rest in words.items()
    }


def compile_bars(name: str, usages: list[Usage]) -> list[Bar]:
    """Bars of those networks that have one."""
    bars = []
    if name in COMPILE_BARS_SECONDS:
        bars.append(duration_bar(f"kpuc {name}: time", usages, COMPILE_BARS_SECONDS[name]))
    if name in MEMORY_BARS_GIB:
        peak_gib = max(usage.peak_kib for usage in usages) / KIB_PER_GIB
        bars.append(at_most(f"kpuc {name}: memory", peak_gib, MEMORY_BARS_GIB[name], "GiB"))
    return bars


def duration_bar(what: str, usages: list[Usage], limit_seconds: float) -> Bar:
    """On the best wall time; on CPU time where more processes want to run than there are cores."""
    wall_seconds = best_wall(usages)
    cpu_seconds = min(usage.cpu_seconds for usage in usages)
    if os.getloadavg()[0] <= (os.cpu_count() or 1) or wall_seconds <= limit_seconds:
        return at_most(what, wall_seconds, limit_seconds, "s wall")
    return Bar(
        what,
        measured=f"{cpu_seconds:.2f} s CPU, {wall_seconds:.2f} s wall on a busy machine",
        limit=f"≤ {limit_seconds:g} s",
        holds=cpu_seconds <= limit_seconds,
    )


def best_wall(usages: list[Usage]) -> float:
    """Seconds of the least disturbed run."""
    return min(usage.wall_seconds for usage in usages)


def row(what: str, usages: list[Usage]) -> list[str]:
    """One line of the table."""
    return [
        what,
        f"{best_wall(usages):.2f}",
        f"{max(usage.wall_seconds for usage in usages):.2f}",
        f"{min(usage.cpu_seconds for usage in usages):.2f}",
        f"{max(usage.peak_kib for usage in usages) / 1024:.0f}",
    ]
