"""Programs for little L2: a lower peak for few cycles, the same numbers."""

import numpy as np
import pytest
import torch

import kpuc
from formats.config import KPUConfig
from formats.errors import UsageError
from formats.precision import KPUPrecision
from formats.schema import changed
from kpuc.compact import MOST_MORE_CYCLES
from kpuc.compiler import SIZE, compile_graph
from kpuc.retile import retile
from kpurun.sim.timeline import simulate
from tests.kpuc.passes.draft import Draft
from tests.kpurun.programs import loaded

FP16 = KPUPrecision.FP16
ONE_ARRAY = changed(KPUConfig(), "compute.compute_tiles", "1")


def network():
    """Large maps between convolutions with much to do."""
    draft = Draft()
    x = draft.input("x", 1, 16, 48, 48)
    for name in ("a", "b", "c", "d"):
        x = draft.conv(name, x, 64)
    return draft.graph(draft.conv("y", x, 8))


@pytest.fixture(scope="module")
def both():
    return compile_graph(network(), ONE_ARRAY, FP16), compile_graph(
        network(), ONE_ARRAY, FP16, optimise_for=SIZE
    )


def test_less_of_l2_is_used_for_few_cycles(both):
    fast, small = both
    # one map of 64·48·48 halves is 288 KiB, and two are live while a convolution runs
    assert small.peak_sram_bytes < 0.5 * fast.peak_sram_bytes
    limit = (1 + MOST_MORE_CYCLES) * simulate(fast).total_cycles
    assert simulate(small).total_cycles <= limit


def test_the_numbers_are_the_same(both):
    image = np.random.default_rng(0).standard_normal((1, 16, 48, 48)).astype(np.float32)
    fast, small = (loaded(program).run({"x": image}).outputs["y"] for program in both)
    np.testing.assert_array_equal(fast, small)


def test_a_program_for_little_l2_stays_one_on_another_machine():
    module = torch.nn.Conv2d(16, 64, 3)
    program = kpuc.compile(module, torch.zeros(1, 16, 40, 40), config=ONE_ARRAY, optimise="size")
    assert program.options["optimise"] == "size"
    assert retile(program, ONE_ARRAY) == program


def test_another_goal_is_refused():
    with pytest.raises(UsageError, match="optimise 'speed' is not one of cycles, size"):
        kpuc.compile(torch.nn.ReLU(), torch.zeros(1, 4), optimise="speed")
