"""The runtime as the host uses it: checks at load, checked inputs, results that never raise."""

import pickle
from dataclasses import replace
from enum import Enum

import numpy as np
import pytest

import kpurun
from formats.container import load_program, save
from formats.errors import FileError, UsageError
from formats.profile import SimulationMode
from kpurun import KPURuntime
from tests.kpurun.programs import IMAGE, ProgramBuilder, classifier, loaded


def test_outputs_come_in_the_programs_order_with_name_shape_and_dtype():
    result = loaded(classifier()).execute({"image": IMAGE})
    assert result.success
    assert result.error_message is None
    assert [(name, a.shape, a.dtype.name) for name, a in result.outputs.items()] == [
        ("scores_out", (1, 4, 1, 1), "float32"),
        ("features_out", (1, 4, 6, 6), "float32"),
    ]
    assert result.mode is SimulationMode.FUNCTIONAL
    assert result.metrics.total_cycles > 0
    assert result.trace == ()


def test_both_engines_agree():
    fast = loaded(classifier()).execute({"image": IMAGE}).outputs
    slow = loaded(classifier(), engine="reference").execute({"image": IMAGE}).outputs
    for name in slow:
        np.testing.assert_allclose(fast[name], slow[name], rtol=2**-10, atol=1e-6)


def test_specs_are_what_execute_takes_and_gives():
    runtime = loaded(classifier())
    assert runtime.get_input_specs() == [("image", (1, 3, 8, 8), "float32")]
    assert runtime.get_output_specs() == [
        ("scores_out", (1, 4, 1, 1), "float32"),
        ("features_out", (1, 4, 6, 6), "float32"),
    ]


def test_an_input_goes_by_its_name_or_its_tensor_id():
    program = classifier()
    named = {**program.tensors, "image": replace(program.tensors["image"], name="pixels")}
    runtime = loaded(replace(program, tensors=named))
    by_name, by_id = runtime.run({"pixels": IMAGE}), runtime.run({"image": IMAGE})
    np.testing.assert_array_equal(by_name.outputs["scores_out"], by_id.outputs["scores_out"])


def test_one_runtime_serves_many_programs():
    runtime = loaded(classifier())
    builder = ProgramBuilder()
    runtime.load_program(builder.program(builder.op("Flatten", builder.input("x", (2, 3)))))
    assert runtime.get_input_specs() == [("x", (2, 3), "float32")]
    assert runtime.execute({"x": np.ones((2, 3))}).success
    runtime.unload_program()
    runtime.unload_program()
    assert runtime.execute({"x": np.ones((2, 3))}).error_message.startswith("no program is loaded")
    with pytest.raises(UsageError, match="no program is loaded"):
        runtime.get_output_specs()


def test_a_refused_program_leaves_none_loaded():
    runtime = loaded(classifier())
    with pytest.raises(FileError):
        runtime.load_program(replace(classifier(), weights_blob=None))
    assert not runtime.execute({"image": IMAGE}).success


def test_a_path_is_no_program_and_the_error_says_what_reads_it():
    with pytest.raises(UsageError, match=r"formats\.load_program reads a file"):
        KPURuntime().load_program("model.kpu")


def test_a_program_survives_pickling():
    program = pickle.loads(pickle.dumps(classifier()))
    assert loaded(program).execute({"image": IMAGE}).success


def test_an_overflow_is_reported_with_the_op():
    builder = ProgramBuilder()
    x = builder.input("x", (1,))
    doubled = builder.op("Add", x, x, name="layer1.double")
    program = builder.program(builder.op("Identity", doubled))
    result = loaded(program).execute({"x": np.array([40000.0])})
    assert result.success
    (warning,) = result.trace
    assert warning.startswith("op layer1.double (Add) overflows fp16")


@pytest.mark.parametrize("mode", ["cycle_accurate", SimulationMode.POWER_TRACE])
def test_a_simulation_gives_the_values_of_a_functional_run_and_its_own_cycles(mode):
    runtime = loaded(classifier())
    functional, simulated = (
        runtime.execute({"image": IMAGE}),
        runtime.execute({"image": IMAGE}, mode),
    )
    for name, value in functional.outputs.items():
        np.testing.assert_array_equal(simulated.outputs[name], value)
    assert simulated.metrics.total_cycles >= functional.metrics.total_cycles
    assert simulated.mode.value == getattr(mode, "value", mode)


def test_a_simulation_that_takes_too_long_is_an_error_of_the_result():
    runtime = KPURuntime(max_cycles=10)
    runtime.load_program(classifier())
    result = runtime.execute({"image": IMAGE}, "cycle_accurate")
    assert not result.success
    assert "beyond 10" in result.error_message


def test_the_hosts_own_enum_is_a_mode():
    theirs = Enum("SimulationMode", {"FUNCTIONAL": "functional"})
    assert loaded(classifier()).execute({"image": IMAGE}, theirs.FUNCTIONAL).success


def test_an_unknown_mode_and_an_unknown_engine_say_what_there_is():
    assert "functional" in loaded(classifier()).execute({"image": IMAGE}, "quick").error_message
    with pytest.raises(UsageError, match="fast, reference"):
        KPURuntime(engine="turbo")


def test_the_package_offers_the_runtime_and_nothing_it_does_not_have():
    assert kpurun.KPURuntime is KPURuntime
    with pytest.raises(AttributeError, match="no attribute 'KPUSimulater'"):
        kpurun.KPUSimulater  # noqa: B018  # the access is the test


def test_a_program_from_a_file_is_whole_when_its_pages_were_given_back(tmp_path):
    save(classifier(), tmp_path / "model.kpu")
    program = load_program(tmp_path / "model.kpu")
    first, again = loaded(program), loaded(program)
    for runtime in (first, again):
        outputs = runtime.run({"image": IMAGE}).outputs
        expected = loaded(classifier()).run({"image": IMAGE}).outputs
        assert all((outputs[name] == expected[name]).all() for name in expected)
