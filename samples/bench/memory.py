"""Memory that a loaded program takes of a process: `python -m samples.bench.memory FILE SMALL`.

What torch's kernels take when they first run belongs to no program, so a small one runs first.
Printed as JSON.
"""

import gc
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import kpuc
from formats.container import load_program, save
from formats.program import KPUProgram
from kpurun import KPURuntime
from samples.bench.bars import Bar, at_most

FURTHER_RUNS = 5
PROCESSES = 3
MEMORY_BAR = 3.0  # of weights and activations
GROWTH_BAR_MIB = 4.0  # by further inferences: less than any large buffer
MIB = 2**20


@dataclass(frozen=True)
class Memory:
    """Resident bytes beyond those of a process that has run something else."""

    after_first_bytes: int
    after_further_bytes: int


def measure_memory(program: KPUProgram, folder: Path) -> Memory:
    """In PROCESSES of their own: the most that any holds, and the least that any grows, as a buffer
    made at every inference is made in each, but the heap of some is cut up unluckily.

    RuntimeError with its stderr when one fails.
    """
    paths = [folder / "measured.kpu", folder / "small.kpu"]
    for each, path in zip((program, small_program()), paths, strict=True):
        save(each, path)
    found = [_measured([str(path) for path in paths]) for _ in range(PROCESSES)]
    held = max(each.after_further_bytes for each in found)
    grown = min(each.after_further_bytes - each.after_first_bytes for each in found)
    return Memory(held - grown, held)


def _measured(paths: list[str]) -> Memory:
    words = [sys.executable, "-m", "samples.bench.memory", *paths]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
    return Memory(**json.loads(done.stdout))


def memory_bars(name: str, program: KPUProgram, memory: Memory) -> list[Bar]:
    """What the runtime holds for the program, and what more inferences add."""
    held = memory.after_further_bytes / (program.weight_bytes + program.activation_bytes)
    grown = (memory.after_further_bytes - memory.after_first_bytes) / MIB
    return [
        at_most(f"{name}: memory / (weights + activations)", held, MEMORY_BAR, "×"),
        at_most(
            f"{name}: memory that {FURTHER_RUNS} further inferences add",
            grown,
            GROWTH_BAR_MIB,
            "MiB",
        ),
    ]


def small_program() -> KPUProgram:
    """INT8, of each kind of kernel one."""
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU6(), nn.Conv2d(16, 16, 3, groups=16), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(16 * 16, 8)).eval()
    samples = np.random.default_rng(0).normal(size=(100, 3, 8, 8)).astype(np.float32)
    return kpuc.compile(model, torch.zeros(1, 3, 8, 8), precision="int8", calibration=samples)


def resident_bytes() -> int:
    """The process's resident set (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def ready(path: str) -> tuple[KPURuntime, dict[str, np.ndarray]]:
    """A runtime with the program of a file, and inputs for it."""
    program = load_program(path)
    runtime = KPURuntime()
    runtime.load_program(program)
    random = np.random.default_rng(0)
    inputs = {
        name: random.normal(size=shape).astype(np.float32)
        for name, shape, _ in runtime.get_input_specs()
    }
    return runtime, inputs


def main() -> None:
    """Measure the program of the first path, in a process that has run that of the second."""
    measured, small = sys.argv[1:]
    runtime, inputs = ready(small)
    runtime.run(inputs)
    runtime.unload_program()
    del runtime, inputs
    gc.collect()
    before = resident_bytes()
    runtime, inputs = ready(measured)
    runtime.run(inputs)
    first = resident_bytes()
    for _ in range(FURTHER_RUNS):
        runtime.run(inputs)
    found = Memory(first - before, resident_bytes() - before)
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
