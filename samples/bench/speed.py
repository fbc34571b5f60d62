"""Time of the simulator against eager PyTorch, in pairs, so that a noisy machine disturbs both."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from statistics import median
from time import perf_counter, sleep

import numpy as np
import torch
from rich.console import Console

from samples.bench.bars import Bar, at_most, print_table
from samples.bench.emulation import Run, eager
from samples.bench.subjects import Subject

ROUNDS = 15
SLOWDOWN_BAR = 1.5
BLOCKS, WARM_UP = 3, 5
HEADER = ("network", "eager ms", "kpurun ms", "kpurun / eager", "onnxruntime / eager")


def compare_speed(console: Console, subjects: list[Subject], rounds: int = ROUNDS) -> list[Bar]:
    """Print the median times and ratios; a bar on kpurun's."""
    missing = why_no_onnxruntime()
    rows, bars = [], []
    for subject in subjects:
        runs = {"eager": eager(subject.model), "kpurun": subject.simulated}
        if missing is None:
            runs["onnxruntime"] = onnxruntime_run(subject)
        times = alternate(runs, subject.images[0], rounds)
        ratio = paired_ratio(times["kpurun"], times["eager"])
        peer = "–" if missing else f"{paired_ratio(times['onnxruntime'], times['eager']):.2f}"
        in_ms = [f"{median(times[way]) * 1e3:.1f}" for way in ("eager", "kpurun")]
        rows.append([subject.name, *in_ms, f"{ratio:.2f}", peer])
        bars.append(at_most(f"{subject.name}: kpurun FP16 / eager FP32", ratio, SLOWDOWN_BAR, "×"))
    threads = torch.get_num_threads()
    print_table(console, f"Time of one image, {threads} threads, {rounds} pairs", HEADER, rows)
    if missing:
        console.print(f"  onnxruntime skipped: {missing}\n")
    return bars


def alternate(runs: dict[str, Run], image: np.ndarray, rounds: int) -> dict[str, list[float]]:
    """Seconds of each run, one after another in every round, after two rounds of warming up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 2):
        for name, run in runs.items():
            seconds = timed(run, image)
            if index >= 2:
                times[name].append(seconds)
    return times


def in_blocks(
    runs: dict[str, Run], image: np.ndarray, rounds: int, pause_seconds: float
) -> dict[str, list[float]]:
    """Seconds of each run, BLOCKS times some in a row behind WARM_UP that wake its threads.

    pause_seconds: before each block, for threads of the one before that still wait in a loop.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(BLOCKS):
        for name, run in runs.items():
            sleep(pause_seconds)
            seconds = [timed(run, image) for _ in range(WARM_UP + -(-rounds // BLOCKS))]
            times[name] += seconds[WARM_UP:]
    return times


def timed(run: Callable[[np.ndarray], object], image: np.ndarray) -> float:
    """Seconds of one call."""
    start = perf_counter()
    run(image)
    return perf_counter() - start


def paired_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the ratios within the pairs."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def why_no_onnxruntime() -> str | None:
    """None when the peer can be measured, else the reason it cannot."""
    absent = [name for name in ("onnxruntime", "onnx") if find_spec(name) is None]
    return f"{', '.join(absent)} not installed" if absent else None


def onnxruntime_run(subject: Subject) -> Run:
    """The network in onnxruntime, FP32, with as many threads as torch has."""
    import onnxruntime

    buffer = BytesIO()
    example = (torch.from_numpy(subject.images[0]),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter: it is not what is measured
        torch.onnx.export(subject.model, example, buffer, dynamo=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})
