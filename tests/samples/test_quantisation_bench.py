"""The INT8 benchmark on a network small enough for a test, without the peer."""

import io
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from torch import nn

import kpuc
from formats.errors import CheckError
from samples.bench import quantisation
from samples.bench.crops import Crops
from samples.bench.processes import Usage

CALIBRATION = Crops(("astronaut",), 100, is_detector=False)
HELD_OUT = Crops(("chelsea", "flower"), 4, is_detector=False)


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 16, stride=16)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.stem(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def subject():
    torch.manual_seed(0)
    return SimpleNamespace(name="resnet18", model=Classifier().eval(), is_detector=False)


@pytest.fixture(scope="module")
def samples():
    return list(CALIBRATION)


@pytest.fixture
def compiled_anew(monkeypatch, samples):
    def compiled(subject, options=None):
        example = (torch.zeros(1, 3, 224, 224),)
        program = kpuc.compile(
            subject.model, example, precision="int8", calibration=samples, quantization=options
        )
        return quantisation.Compilation(program, Usage(2.0, 3.0, 0), Usage(1.0, 1.0, 0))

    monkeypatch.setattr(quantisation, "compiled_int8", compiled)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=130)


def test_every_section_prints_its_figures_and_gives_its_bars(subject, compiled_anew, console):
    bars = quantisation.measured_bars(console, subject, quantisation.SECTIONS, 4, [], rounds=1)

    printed = console.file.getvalue()
    for text in ("4 held-out crops", "whole kpuc s", "gains dB", "--max-diff 0.01", "/ eager"):
        assert text in printed
    assert [bar.what for bar in bars] == [
        "resnet18: calibration",
        "resnet18: kpuc --precision int8",
        "resnet18: INT8 max |d| / max |baseline|, worst image",
        "resnet18: kpurun INT8 / eager FP32",
        "resnet18: memory / (weights + activations)",
        "resnet18: memory that 5 further inferences add",
        "resnet18: --max-diff on the samples held out of calibration",
        "resnet18: MACs in INT8 with --max-diff",
    ]
    assert bars[6].holds


def test_a_bar_out_of_reach_fails_and_says_how_near_it_comes(subject, monkeypatch, console):
    def unreachable(subject, options):
        raise CheckError("reached: 0.02")

    monkeypatch.setattr(quantisation, "compiled_int8", unreachable)

    (bar,) = quantisation.mixed_precision(console, subject, HELD_OUT)

    assert not bar.holds
    assert "reached: 0.02" in bar.measured
