"""INT8 figures: `python -m samples.bench.quantisation [NETWORK…]`; 1 if a bar fails.

100 calibration crops, 40 other crops held out, every figure of docs/numerics.md against FP32
eager, beside onnxruntime's static INT8 on the same model and samples.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np
import torch
from rich.console import Console

from formats.errors import CheckError
from formats.program import KPUProgram
from kpuc.compiler import KPUCompiler
from kpuc.quant.quantize import QuantOptions
from kpurun import KPURuntime
from samples.bench.accuracy import HEADER, Outputs, detections_text, output_names, row
from samples.bench.bars import Bar, at_most, print_bars, print_table
from samples.bench.crops import HELD_OUT_IMAGES, Crops, calibration_crops, held_out_crops
from samples.bench.difference import Difference, by_output, difference
from samples.bench.emulation import Run, eager
from samples.bench.memory import measure_memory, memory_bars
from samples.bench.peer import CALIBRATORS, session_run, write_int8, write_onnx
from samples.bench.processes import Usage, duration_bar
from samples.bench.speed import in_blocks, paired_ratio, why_no_onnxruntime
from samples.bench.subjects import Subject
from samples.models import FACTORIES

FILE_WIDTH = 130  # columns, when the output is not a terminal
ROUNDS = 30
PAUSE_SECONDS = 0.05  # onnxruntime's threads wait in a loop for more work
MARGIN_DB = 4.0  # over the best of onnxruntime's calibrators
MAX_DIFFERENCE = 0.01
WORST_BARS = {"resnet18": 0.01}
CALIBRATION_BARS_SECONDS = {"resnet18": 30.0}
COMPILE_BARS_SECONDS = {"resnet18": 45.0, "yolov8n": 150.0}
EAGER_BARS = {"resnet18": 0.30, "mobilenetv2": 0.40, "yolov8n": 0.40}
PEER_BAR = 1.1
MAC_SHARE_BARS = {"resnet18": 0.99}
OURS, PEER = "kpurun", "onnxruntime"
SECTIONS = ("accuracy", "mixed", "speed", "memory")
TIMES_HEADER = ("network", "calibration s", "whole kpuc s", "CPU s", "INT8 MACs", "gains dB")
MIXED_HEADER = ("network", "max |d| / range", "SQNR dB", "INT8 MACs", "in FP16", "s")
SPEED_HEADER = ("network", "eager ms", "kpurun ms", "onnxruntime ms", "/ eager", "/ onnxruntime")


@dataclass
class Compilation:
    """A program with the time that it took, and its calibration pass alone."""

    program: KPUProgram
    usage: Usage
    calibration: Usage


@dataclass
class Watch:
    """Times the samples' pass through the network."""

    usage: Usage = field(init=False)

    def track(
        self, samples: Iterable[dict[str, np.ndarray]], count: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """The samples as they are."""
        start, cpu_start = perf_counter(), process_time()
        yield from samples
        self.usage = Usage(perf_counter() - start, process_time() - cpu_start, 0)


def main() -> int:
    """Measure the chosen networks, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m samples.bench.quantisation")
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(FACTORIES))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed runs of each")
    parser.add_argument("--held-out", type=int, default=HELD_OUT_IMAGES, help="images to judge by")
    parser.add_argument("--calibrators", nargs="*", choices=CALIBRATORS, default=CALIBRATORS)
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.networks) - set(FACTORIES))
    if unknown:
        parser.error(f"no such network: {', '.join(unknown)}; known: {', '.join(FACTORIES)}")
    warnings.simplefilter("ignore", FutureWarning)  # within torch, of its own deprecations
    console = Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
    missing = why_no_onnxruntime()
    calibrators = [] if missing else arguments.calibrators
    bars: list[Bar] = []
    for name in arguments.networks or FACTORIES:
        subject = Subject(name)
        bars += measured_bars(
            console, subject, arguments.only, arguments.held_out, calibrators, arguments.rounds
        )
    if missing:
        console.print(f"onnxruntime skipped, and every bar against it: {missing}\n")
    print_bars(console, bars)
    return 0 if all(bar.holds for bar in bars) else 1


def measured_bars(
    console: Console,
    subject: Subject,
    sections: Sequence[str],
    held_out: int,
    calibrators: Sequence[str],
    rounds: int,
) -> list[Bar]:
    """Every section of one network; its programs and models are dropped afterwards."""
    images = held_out_crops(subject, held_out)
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as folder:
        peers = peer_models(subject, calibrators, Path(folder))
        if {"accuracy", "speed", "memory"} & set(sections):
            compiled = compiled_int8(subject)
            bars += print_times(console, subject, compiled)
            ours = simulated(compiled.program)
            if "accuracy" in sections:
                bars += compare(console, subject, images, ours, peers)
            if "speed" in sections:
                image = next(iter(images))
                bars += compare_speed(console, subject, image, ours, peers, rounds)
            if "memory" in sections:
                memory = measure_memory(compiled.program, Path(folder))
                bars += memory_bars(subject.name, compiled.program, memory)
    if "mixed" in sections:
        bars += mixed_precision(console, subject, images)
    return bars


def compiled_int8(subject: Subject, options: QuantOptions | None = None) -> Compilation:
    """As `kpuc --precision int8` compiles it, from the network's code to the program."""
    watch = Watch()
    start, cpu_start = perf_counter(), process_time()
    program = KPUCompiler().compile(
        FACTORIES[subject.name],
        precision="int8",
        calibration_data=calibration_crops(subject),
        quantization=options,
        track=watch.track,
    )
    usage = Usage(perf_counter() - start, process_time() - cpu_start, 0)
    return Compilation(program, usage, watch.usage)


def simulated(program: KPUProgram) -> Run:
    """The program on the fast engine, as a function of one image."""
    runtime = KPURuntime()
    runtime.load_program(program)
    (name, _, _), *_ = runtime.get_input_specs()
    return lambda image: list(runtime.run({name: image}).outputs.values())


def peer_models(subject: Subject, calibrators: Sequence[str], folder: Path) -> dict[str, Path]:
    """onnxruntime's INT8 models by calibrator."""
    if not calibrators:
        return {}
    crops = calibration_crops(subject)
    plain = folder / f"{subject.name}.onnx"
    write_onnx(subject, plain, next(iter(crops)))
    models = {name: folder / f"{subject.name}-{name}.onnx" for name in calibrators}
    for name, path in models.items():
        write_int8(plain, path, crops, name)
    return models


def print_times(console: Console, subject: Subject, compiled: Compilation) -> list[Bar]:
    """How long calibration and the whole compiler took."""
    report = compiled.program.quantization
    assert report is not None, "an INT8 program says how it was quantised"
    gains = ", ".join(f"{name} {gain:+.1f}" for name, gain in report.gains_db.items())
    figures = [
        f"{compiled.calibration.wall_seconds:.1f}",
        f"{compiled.usage.wall_seconds:.1f}",
        f"{compiled.usage.cpu_seconds:.1f}",
        f"{report.mac_share:.1%}",
        gains,
    ]
    title = f"{subject.name}: from 100 images to a program"
    print_table(console, title, TIMES_HEADER, [[subject.name, *figures]])
    timed = [
        ("calibration", compiled.calibration, CALIBRATION_BARS_SECONDS),
        ("kpuc --precision int8", compiled.usage, COMPILE_BARS_SECONDS),
    ]
    return [
        duration_bar(f"{subject.name}: {what}", [usage], limits[subject.name])
        for what, usage, limits in timed
        if subject.name in limits
    ]


def compare(
    console: Console, subject: Subject, images: Crops, ours: Run, peers: dict[str, Path]
) -> list[Bar]:
    """Print the figures of every output; bars on ours against the best of the peers."""
    baseline = outputs_of(eager(subject.model), images)
    texts = []

    def figures_of(way: str, run: Run) -> list[Difference]:
        outputs = outputs_of(run, images)
        if subject.is_detector:
            texts.append(f"  {way}:\n{detections_text(baseline[0], outputs[0])}")
        return [difference(base, out) for base, out in zip(baseline, outputs, strict=True)]

    found = {OURS: figures_of(OURS, ours)}
    found |= {name: figures_of(name, session_run(path)) for name, path in peers.items()}
    names = output_names(subject)
    table = [
        row(name, way if way == OURS else f"{PEER} {way}", each[index], subject)
        for index, name in enumerate(names)
        for way, each in found.items()
    ]
    title = f"{subject.name}: INT8 against FP32 eager on {len(images)} held-out crops"
    print_table(console, title, HEADER, table)
    console.print("".join(texts), end="")
    bars = worst_bars(subject, found[OURS])
    if peers:
        bars += [
            margin_bar(name, found[OURS][index], [found[peer][index] for peer in peers])
            for index, name in enumerate(names)
        ]
    return bars


def outputs_of(run: Run, images: Iterable[np.ndarray]) -> Outputs:
    """Every output on every image."""
    return by_output(run(image) for image in images)


def margin_bar(name: str, ours: Difference, peers: Sequence[Difference]) -> Bar:
    """So many decibels above whichever calibrator is best for this output."""
    best = max(peer.sqnr_db for peer in peers)
    return Bar(
        what=f"{name}: INT8 SQNR",
        measured=f"{ours.sqnr_db:.1f} dB",
        limit=f"≥ {best:.1f} + {MARGIN_DB:g} dB ({PEER})",
        holds=ours.sqnr_db >= best + MARGIN_DB,
    )


def worst_bars(subject: Subject, figures: Sequence[Difference]) -> list[Bar]:
    """On the worst held-out image of those networks that have such a bar."""
    if subject.name not in WORST_BARS:
        return []
    limit = WORST_BARS[subject.name]
    worst = max(each.share_of_range for each in figures)
    what = f"{subject.name}: INT8 max |d| / max |baseline|, worst image"
    return [Bar(what, f"{worst:.4f}", f"< {limit:g}", worst < limit)]


def compare_speed(
    console: Console,
    subject: Subject,
    image: np.ndarray,
    ours: Run,
    peers: dict[str, Path],
    rounds: int,
) -> list[Bar]:
    """Print median times; bars on the ratios within the rounds."""
    runs = {"eager": eager(subject.model), OURS: ours}
    if peers:
        runs[PEER] = session_run(next(iter(peers.values())))
    times = in_blocks(runs, image, rounds, PAUSE_SECONDS)
    in_ms = [f"{median(times[way]) * 1e3:.1f}" if way in times else "–" for way in (*runs, PEER)]
    to_eager = paired_ratio(times[OURS], times["eager"])
    to_peer = paired_ratio(times[OURS], times[PEER]) if peers else None
    ratios = [f"{to_eager:.2f}", "–" if to_peer is None else f"{to_peer:.2f}"]
    threads = torch.get_num_threads()
    title = f"{subject.name}: time of one image in INT8, {threads} threads, {rounds} rounds"
    print_table(console, title, SPEED_HEADER, [[subject.name, *in_ms[:3], *ratios]])
    bars = []
    if subject.name in EAGER_BARS:
        what = f"{subject.name}: kpurun INT8 / eager FP32"
        bars.append(at_most(what, to_eager, EAGER_BARS[subject.name], "×"))
        if to_peer is not None:
            what = f"{subject.name}: kpurun INT8 / onnxruntime INT8"
            bars.append(at_most(what, to_peer, PEER_BAR, "×"))
    return bars


def mixed_precision(console: Console, subject: Subject, images: Crops) -> list[Bar]:
    """What `--max-diff` keeps in FP16, and what that gives on the held-out crops."""
    what = f"{subject.name}: --max-diff on the samples held out of calibration"
    try:
        compiled = compiled_int8(subject, QuantOptions(max_difference=MAX_DIFFERENCE))
    except CheckError as error:  # says how near it comes
        return [Bar(what, str(error), f"≤ {MAX_DIFFERENCE:g}", holds=False)]
    report = compiled.program.quantization
    assert report is not None, "an INT8 program says how it was quantised"
    ops = compiled.program.get_ops_in_order()
    kept = [op.name or op.id for op in ops if op.precision is not None]
    baseline = outputs_of(eager(subject.model), images)
    outputs = outputs_of(simulated(compiled.program), images)
    figures = [difference(base, out) for base, out in zip(baseline, outputs, strict=True)]
    worst = max(each.share_of_range for each in figures)
    line = [
        subject.name,
        f"{worst:.4f}",
        f"{min(each.sqnr_db for each in figures):.1f}",
        f"{report.mac_share:.1%}",
        f"{len(kept)} of {len(ops)}",
        f"{compiled.usage.wall_seconds:.0f}",
    ]
    print_table(console, f"{subject.name}: --max-diff {MAX_DIFFERENCE:g}", MIXED_HEADER, [line])
    console.print(f"  in FP16: {', '.join(kept) or 'none'}\n")
    reached = max(report.max_difference.values(), default=0.0)
    bars = [at_most(what, reached, MAX_DIFFERENCE, "", 4)]
    if subject.name in MAC_SHARE_BARS:
        limit = MAC_SHARE_BARS[subject.name]
        what = f"{subject.name}: MACs in INT8 with --max-diff"
        measured = f"{report.mac_share:.1%}"
        bars.append(Bar(what, measured, f"≥ {limit:.0%}", report.mac_share >= limit))
    return bars


if __name__ == "__main__":
    sys.exit(main())
