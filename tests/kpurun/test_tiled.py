"""Tiled execution: every op in tiles, on bytes, is what the reference engine computes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kpurun.engine.storage import keep
from kpurun.engine.tiled import check_tiles
from kpurun.engine.tiled.kernels import KERNELS
from kpurun.ops import OPS
from tests.kpurun.tiled_programs import between_copies, in_random_tiles
from tests.op_cases import CASES

import os

SETTINGS = settings(
    max_examples=int(os.environ.get("EX", 4)),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_every_op_of_the_machine_can_be_executed_in_tiles():
    assert KERNELS.keys() == OPS.keys()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@SETTINGS
@given(data=st.data())
def test_an_op_in_tiles_is_the_reference(case, data):
    arrays = case.arrays(data.draw(st.integers(0, 9)))
    constants = (
        data.draw(st.sets(st.integers(0, len(arrays) - 1), max_size=len(arrays) - 1))
        if len(arrays) > 1
        else ()
    )
    program, inputs = between_copies(case, arrays, constants)
    program = data.draw(in_random_tiles(program))
    check_tiles(program, inputs)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@SETTINGS
@given(data=st.data())
def test_an_op_on_codes_in_tiles_is_the_reference(case, data):
    arrays = case.arrays(data.draw(st.integers(0, 9)))
    constants = (
        data.draw(st.sets(st.integers(0, len(arrays) - 1), max_size=len(arrays) - 1))
        if len(arrays) > 1
        else ()
    )
    program, inputs = between_copies(case, arrays, constants, coded_too=True)
    program = data.draw(in_random_tiles(program))
    check_tiles(program, inputs)
