"""FP16 programs against FP32 PyTorch on held-out photos, beside ideal FP16 arithmetic."""

from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console

from samples.bench.bars import Bar, print_table
from samples.bench.difference import Difference, by_output, difference, holds_bar
from samples.bench.emulation import Run, eager, ideal_fp16
from samples.bench.subjects import Subject

CONFIDENCE = 0.25
BOX_CHANNELS = 4
HEADER = ("output", "arithmetic", "max |d|", "/ range", "median", "SQNR dB", "top-1", "softmax |d|")

Outputs = list[list[np.ndarray]]  # one list of images per output


def compare_with_pytorch(console: Console, subject: Subject) -> list[Bar]:
    """Print the differences of one network; a bar per output for each of the two ways to run it."""
    baseline = outputs_of(eager(subject.model), subject)
    ideal = outputs_of(ideal_fp16(subject.model, subject.images[0]), subject)
    fused = outputs_of(ideal_fp16(subject.model, subject.images[0], fused=True), subject)
    ours = outputs_of(subject.simulated, subject)
    compiled = outputs_of(through_torch_compile(subject), subject)
    table: list[list[str]] = []
    bars: list[Bar] = []
    for index, name in enumerate(output_names(subject)):
        yardstick = difference(baseline[index], ideal[index])
        ways = {
            "kpurun": difference(baseline[index], ours[index]),
            "torch.compile": difference(baseline[index], compiled[index]),
        }
        strict = difference(baseline[index], fused[index])
        table += [row(name, way, figures, subject) for way, figures in ways.items()]
        table += [row(name, "ideal FP16", yardstick, subject)]
        table += [row(name, "ideal FP16, fused", strict, subject)]
        bars += [accuracy_bar(name, way, figures, yardstick) for way, figures in ways.items()]
    print_table(console, f"{subject.name}: accuracy against FP32 eager", HEADER, table)
    if subject.is_detector:
        console.print(detections_text(baseline[0], ours[0]))
    return bars


def outputs_of(run: Run, subject: Subject) -> Outputs:
    """Every output on every image."""
    return by_output(run(image) for image in subject.images)


def through_torch_compile(subject: Subject) -> Run:
    """The network as torch.compile gives it with our backend; a graph break is an error."""
    torch.compiler.reset()
    options = {"precision": "fp16"}
    return eager(torch.compile(subject.model, backend="kpu", fullgraph=True, options=options))


def output_names(subject: Subject) -> list[str]:
    """Readable names of the outputs, in order."""
    if subject.is_detector:
        return ["yolov8n decoded", "yolov8n head 80×80", "yolov8n head 40×40", "yolov8n head 20×20"]
    return [f"{subject.name} logits"]


def row(name: str, way: str, figures: Difference, subject: Subject) -> list[str]:
    """One line of the table; classifier figures for classifiers only."""
    numbers = [
        f"{figures.max_abs:.2g}",
        f"{figures.share_of_range:.5f}",
        f"{figures.median_share:.5f}",
        f"{figures.sqnr_db:.1f}",
    ]
    if subject.is_detector:
        return [name, way, *numbers, "", ""]
    return [name, way, *numbers, f"{figures.top1_agreement:.0%}", f"{figures.max_abs_softmax:.1g}"]


def accuracy_bar(name: str, way: str, ours: Difference, ideal: Difference) -> Bar:
    """The issue's bar: 0.001 of the range, or the SQNR of ideal arithmetic less half a decibel."""
    return Bar(
        what=f"{name}, {way}",
        measured=f"{ours.share_of_range:.5f} of range, {ours.sqnr_db:.1f} dB",
        limit=f"< 0.001, or ≥ {ideal.sqnr_db:.1f} - 0.5 dB",
        holds=holds_bar(ours, ideal),
    )


def detections_text(baseline: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> str:
    """What a user of the detector sees: boxes and scores of confident cells, before suppression."""
    pixels, scores, cells, flips = [0.0], [0.0], 0, 0
    for base, out in zip(baseline, outputs, strict=True):
        confident = base[0, BOX_CHANNELS:].max(0) > CONFIDENCE
        flips += int((confident != (out[0, BOX_CHANNELS:].max(0) > CONFIDENCE)).sum())
        if not confident.any():
            continue
        difference_there = np.abs(base[0] - out[0])[:, confident]
        cells += int(confident.sum())
        pixels.append(float(difference_there[:BOX_CHANNELS].max()))
        scores.append(float(difference_there[BOX_CHANNELS:].max()))
    return (
        f"  {cells} cells with confidence > {CONFIDENCE}: boxes within {max(pixels):.2f} px, "
        f"scores within {max(scores):.4f}, {flips} cells on the other side of the threshold\n"
    )
