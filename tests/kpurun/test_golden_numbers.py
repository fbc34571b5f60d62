"""Golden programs of every format version still give the numbers that they always gave."""

from pathlib import Path

import numpy as np
import pytest

import formats
from formats import container
from tests.kpurun.programs import loaded

FOLDER = Path(__file__).parents[1] / "golden"

# All programs: a 3×3 convolution with padding, + bias [0.5, -0.25, 0.125, 1] + skip, clipped at 0,
# and the mean of its 4·16 values. An image of zeros with a one at (1, 1) of channel 0 brings the
# nine weights 27f … 27f + 8 of filter f, in units of that version, to the 3×3 pixels around it.
IMAGE = np.zeros((1, 3, 4, 4))
IMAGE[0, 0, 1, 1] = 1
SKIP = np.float32([1, -2, 0.5, 0]).reshape(1, 4, 1, 1)

MEANS = {
    # fp16, in units of 1/64: filter 0: 16·1.5 + 36/64 = 24.5625; filter 1: below 0 throughout;
    # filter 2: 16·0.625 + 522/64 = 18.15625; filter 3: 16·1 + 765/64 = 27.953125
    "1.0": (24.5625 + 18.15625 + 27.953125) / 64,
    # codes, in units of 0.25, 0.5, 0.125 and 1: 16·1.5 + 36·0.25 = 33;
    # nine times -2.25, + 279·0.5 = 119.25, elsewhere below 0; 16·0.625 + 522·0.125 = 75.25;
    # 16·1 + 765 = 781
    "1.1": (33 + 119.25 + 75.25 + 781) / 64,
    "1.2": (33 + 119.25 + 75.25 + 781) / 64,
    "1.3": (33 + 119.25 + 75.25 + 781) / 64,
    "1.4": (33 + 119.25 + 75.25 + 781) / 64,
}


def mean_of(program: formats.KPUProgram) -> float:
    result = loaded(program, engine="reference").run({"x": IMAGE, "skip": SKIP})
    return float(result.outputs["mean"].item())


def test_every_version_is_worked_out():
    assert sorted(MEANS) == sorted(p.stem.split("-")[1] for p in FOLDER.glob("program-*.kpu"))


@pytest.mark.parametrize("version", MEANS)
def test_a_golden_program_gives_its_numbers(version):
    assert mean_of(formats.load_program(FOLDER / f"program-{version}.kpu")) == MEANS[version]


@pytest.mark.parametrize("version", MEANS)
def test_an_upgraded_program_gives_the_same_numbers(version, tmp_path):
    container.upgrade(FOLDER / f"program-{version}.kpu", tmp_path / "new.kpu")
    manifest = container.read(tmp_path / "new.kpu").manifest
    assert manifest.version == container.VERSION
    assert mean_of(formats.load_program(tmp_path / "new.kpu")) == MEANS[version]
