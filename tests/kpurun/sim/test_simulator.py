"""The simulator stepped through: any stride shows the same run, and states say what it does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kpurun
from formats.errors import FileError, LimitError, UsageError
from formats.program import MemoryType
from kpurun import KPUSimulator
from kpurun.sim.power import power_trace
from tests.kpurun.programs import ProgramBuilder, classifier
from tests.kpurun.sim.machines import two_convolutions

PROGRAM = two_convolutions()
WHOLE_RUN = KPUSimulator(PROGRAM)
METRICS = WHOLE_RUN.run_until_complete()


def test_the_package_offers_the_simulator():
    assert kpurun.KPUSimulator is KPUSimulator


@pytest.mark.parametrize("stride", [1, 7, 64, 500, 10_000])
def test_stepping_in_any_stride_ends_where_one_run_ends(stride):
    simulator = KPUSimulator(PROGRAM)
    while not simulator.step(stride).is_complete:
        pass
    assert simulator.get_state() == WHOLE_RUN.get_state()
    assert simulator.get_power_trace() == WHOLE_RUN.get_power_trace()
    assert simulator.get_memory_trace() == WHOLE_RUN.get_memory_trace()
    assert simulator.run_until_complete() == METRICS


@given(strides=st.lists(st.integers(0, 300), max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_state_depends_on_the_cycle_alone(strides):
    in_steps, at_once = KPUSimulator(PROGRAM), KPUSimulator(PROGRAM)
    for stride in strides:
        in_steps.step(stride)
    at_once.step(sum(strides))
    assert in_steps.get_state() == at_once.get_state()
    assert in_steps.get_power_trace() == at_once.get_power_trace()
    assert in_steps.get_memory_trace() == at_once.get_memory_trace()


def test_before_the_first_cycle_the_first_op_is_dispatched():
    state = KPUSimulator(PROGRAM).get_state()
    assert (state.cycle, state.op, state.commands_done) == (0, "conv_0", 0)
    assert state.units == {"dma": "idle", "mover": "idle", "compute": "idle", "dispatch": "conv_0"}


def test_in_the_middle_the_units_say_what_they_work_on():
    state = KPUSimulator(PROGRAM).step(300)
    assert state.op == "conv_0"
    assert state.step == 3  # what loads for it has begun
    assert state.units == {
        "dma": "load w1, tile 3",
        "mover": "load w1, tile 2",
        "compute": "tile 1",
        "dispatch": "idle",
    }


def test_a_view_is_never_the_op_that_runs():
    simulator = KPUSimulator(PROGRAM)
    seen = [simulator.step().op for _ in range(simulator.total_cycles - 1)]
    assert list(dict.fromkeys(seen)) == ["conv_0", "conv_2"]


def test_after_the_last_cycle_everything_is_done_and_idle():
    state = KPUSimulator(PROGRAM).step(WHOLE_RUN.total_cycles)
    assert state.is_complete
    assert state.op is None
    assert set(state.units.values()) == {"idle"}
    assert (state.l1_bytes, state.l2_bytes) == (0, 0)
    assert state.commands_done == len(list(WHOLE_RUN.timeline.tasks()))


def test_memories_hold_no_more_than_they_have():
    simulator = KPUSimulator(PROGRAM)
    memory = PROGRAM.target_config.memory
    states = [simulator.step() for _ in range(simulator.total_cycles)]
    assert 0 < max(state.l1_bytes for state in states) <= memory.sram_l1_bytes
    assert max(state.l2_bytes for state in states) <= memory.sram_l2_bytes


def test_commands_are_done_one_by_one_and_never_undone():
    simulator = KPUSimulator(PROGRAM)
    done = [simulator.step().commands_done for _ in range(simulator.total_cycles)]
    assert done == sorted(done)


def test_reset_goes_back_to_the_first_cycle():
    simulator = KPUSimulator(PROGRAM)
    before = simulator.get_state()
    simulator.run_until_complete()
    simulator.reset()
    assert simulator.get_state() == before
    assert simulator.get_power_trace() == simulator.get_memory_trace() == []


def test_no_steps_backwards_and_none_beyond_the_end():
    simulator = KPUSimulator(PROGRAM)
    with pytest.raises(UsageError, match="steps forward, not by -1 cycles"):
        simulator.step(-1)
    assert simulator.step(10**9).cycle == simulator.total_cycles


def test_traces_reach_the_present_cycle_and_no_further():
    simulator = KPUSimulator(PROGRAM)
    simulator.step(300)
    power, memory = simulator.get_power_trace(), simulator.get_memory_trace()
    assert power == WHOLE_RUN.get_power_trace()[: len(power)]
    assert memory == WHOLE_RUN.get_memory_trace()[: len(memory)]
    assert max(cycle for cycle, *_ in [*power, *memory]) < 300
    assert WHOLE_RUN.get_power_trace()[len(power)][0] >= 300


def test_the_power_trace_is_that_of_the_timeline():
    trace = power_trace(WHOLE_RUN.timeline)
    cycles, watts = zip(*WHOLE_RUN.get_power_trace(), strict=True)
    np.testing.assert_array_equal(cycles, trace.starts)
    np.testing.assert_array_equal(watts, trace.watts)


@pytest.mark.parametrize("program", [PROGRAM, classifier()], ids=["two", "classifier"])
def test_the_memory_trace_moves_the_bytes_of_the_metrics(program):
    simulator = KPUSimulator(program)
    metrics = simulator.run_until_complete()
    moved = {"read": 0, "write": 0}
    for _, what, _, size in simulator.get_memory_trace():
        moved[what] += size
    assert moved == {"read": metrics.dram_reads_bytes, "write": metrics.dram_writes_bytes}


@pytest.mark.parametrize("program", [PROGRAM, classifier()], ids=["two", "classifier"])
def test_the_memory_trace_touches_nothing_but_tensors_in_dram(program):
    simulator = KPUSimulator(program)
    simulator.run_until_complete()
    tensors = [
        (tensor.layout.base_address, tensor.layout.base_address + tensor.size_bytes)
        for tensor in program.tensors.values()
        if tensor.layout.memory_type is MemoryType.DRAM
    ]
    for _, _, address, size in simulator.get_memory_trace():
        assert any(first <= address and address + size <= end for first, end in tensors)


def test_tiles_are_at_their_own_addresses():
    """w1 lies behind x, 16·8·8 numbers of fp16 or 2048 B; each tile of 8 filters has 8·16·2 B."""
    reads = [
        (address, size) for _, what, address, size in WHOLE_RUN.get_memory_trace() if what == "read"
    ]
    assert reads[:5] == [(0, 2048), *[(2048 + 256 * tile, 256) for tile in range(4)]]


def test_a_malformed_program_is_refused():
    first, *rest = PROGRAM.ops
    broken = replace(PROGRAM, ops=(replace(first, attributes={"strides": (0, 0)}), *rest))
    with pytest.raises(FileError):
        KPUSimulator(broken)


def test_a_program_that_takes_too_long_is_refused():
    with pytest.raises(LimitError, match="beyond 100"):
        KPUSimulator(PROGRAM, max_cycles=100)


def test_a_program_without_ops_is_complete_at_once():
    builder = ProgramBuilder()
    simulator = KPUSimulator(builder.program(builder.input("x", (2, 3))))
    assert simulator.get_state().is_complete
    assert simulator.run_until_complete().total_cycles == 0
