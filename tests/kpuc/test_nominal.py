"""Programs for the sake of their times."""

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from formats.schema import override
from kpuc.compiler import KPUCompiler
from kpuc.nominal import nominal_programs

SMALL = "tests.integration.models:small"
BOTH = [KPUPrecision.INT8, KPUPrecision.FP16]


def test_times_are_those_of_the_compiled_program():
    compiled = KPUCompiler().compile(SMALL, precision="fp16")
    nominal = nominal_programs(SMALL, KPUConfig(), BOTH)[KPUPrecision.FP16]
    assert nominal.estimated_total_cycles == compiled.estimated_total_cycles
    assert nominal.estimated_total_energy_uj == compiled.estimated_total_energy_uj


def test_codes_need_no_samples():
    programs = nominal_programs(SMALL, KPUConfig(), BOTH)
    cycles = {key: program.estimated_total_cycles for key, program in programs.items()}
    assert cycles[KPUPrecision.INT8] < cycles[KPUPrecision.FP16]


def test_a_model_that_its_machine_cannot_hold_is_prepared_for_others():
    config = override(KPUConfig(), "memory.dram_bytes=1KiB")
    (program,) = nominal_programs(SMALL, config, BOTH[:1]).values()
    assert program.ops


def test_what_the_models_code_prints_is_no_output(capfd):
    nominal_programs("tests.integration.models:talkative", KPUConfig(), BOTH[:1])
    assert capfd.readouterr().out == ""
