"""A program for another machine: what a compilation for that machine would have made."""

from dataclasses import replace

import pytest

from formats.config import KPUConfig
from formats.errors import ConfigurationError, LimitError, MemoryError
from formats.precision import KPUPrecision
from formats.schema import override
from formats.verify import verify
from kpuc.compiler import compile_graph, plan_graph
from kpuc.emit import Source, emit
from kpuc.retile import retile
from tests.kpuc.test_emit import classifier

SMALLER = override(
    override(KPUConfig(), "memory.sram_l1_bytes=16KiB"), "memory.sram_l2_bytes=32KiB"
)
PRECISIONS = [KPUPrecision.FP16, KPUPrecision.INT8]


def program_for(config, precision):
    return emit(*plan_graph(classifier(), config, precision), config, Source("net"))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_on_its_own_machine_a_program_stays_what_it_is(precision):
    program = program_for(KPUConfig(), precision)
    assert retile(program, program.target_config) == program


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_is_what_compiling_for_that_machine_gives(precision):
    program = program_for(KPUConfig(), precision)
    assert retile(program, SMALLER) == program_for(SMALLER, precision)


def test_the_result_is_well_formed():
    verify(retile(program_for(KPUConfig(), KPUPrecision.FP16), SMALLER))


def test_weights_are_not_needed():
    program = replace(program_for(KPUConfig(), KPUPrecision.FP16), weights_blob=None)
    assert retile(program, SMALLER).estimated_total_cycles > 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("memory.dram_bytes=1KiB", MemoryError),
        ("supported_precisions=int8", ConfigurationError),
        ("max_batch_size=1", LimitError),
    ],
)
def test_a_machine_that_cannot_run_it_is_refused(change, error):
    program = compile_graph(classifier(), KPUConfig(), KPUPrecision.FP16)
    with pytest.raises(error):
        retile(program, override(KPUConfig(), change))
