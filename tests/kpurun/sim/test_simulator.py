"""The machine stepped through: any stride gives what one run gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.errors import UsageError
from kpurun import KPUSimulator
from tests.kpurun.sim.machines import two_convolutions

PROGRAM = two_convolutions()


def whole():
    """After a run in one go: metrics, traces and the last state."""
    simulator = KPUSimulator(PROGRAM)
    metrics = simulator.run_until_complete()
    traces = simulator.get_power_trace(), simulator.get_memory_trace()
    return metrics, *traces, simulator.get_state()


@given(st.lists(st.integers(1, 400), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
def test_any_stride_gives_what_one_run_gives(strides):
    simulator, passed = KPUSimulator(PROGRAM), 0
    for stride in strides:
        passed += stride
        state = simulator.step(stride)
        other = KPUSimulator(PROGRAM)
        assert state == other.step(passed)
        assert simulator.get_power_trace() == other.get_power_trace()
        assert simulator.get_memory_trace() == other.get_memory_trace()
    metrics = simulator.run_until_complete()
    traces = simulator.get_power_trace(), simulator.get_memory_trace()
    assert (metrics, *traces, simulator.get_state()) == whole()


def test_a_run_ends_idle_with_all_commands_done():
    *_, state = whole()
    assert state.is_complete
    assert state.op is None
    assert set(state.units.values()) == {"idle"}


def test_an_op_begins_with_its_dispatch():
    state = KPUSimulator(PROGRAM).get_state()
    assert (state.cycle, state.op, state.commands_done) == (0, "conv_0", 0)
    assert state.units["dispatch"] == "conv_0"
    assert state.units["compute"] == "idle"


def test_weights_of_the_next_op_come_while_the_op_before_runs():
    simulator = KPUSimulator(PROGRAM)
    seen = set()
    while (state := simulator.step(20)).op == "conv_0":
        seen.add(state.units["dma"])
    assert any("w2" in what for what in seen)


def test_on_chip_memory_is_never_fuller_than_it_is():
    simulator = KPUSimulator(PROGRAM)
    memory = PROGRAM.target_config.memory
    while not (state := simulator.step(50)).is_complete:
        assert 0 <= state.l1_bytes <= memory.sram_l1_bytes
        assert 0 < state.l2_bytes <= memory.sram_l2_bytes


def test_dram_is_read_and_written_within_the_tensors():
    metrics, _, accesses, _ = whole()
    spans = [
        (tensor.layout.base_address, tensor.layout.base_address + tensor.size_bytes)
        for tensor in PROGRAM.tensors.values()
    ]
    for _, _, address, size in accesses:
        assert any(start <= address and address + size <= end for start, end in spans)
    read = sum(size for _, what, _, size in accesses if what == "read")
    written = sum(size for _, what, _, size in accesses if what == "write")
    assert (read, written) == (metrics.dram_reads_bytes, metrics.dram_writes_bytes)


def test_after_a_reset_it_begins_again():
    simulator = KPUSimulator(PROGRAM)
    first = simulator.step(300)
    simulator.run_until_complete()
    simulator.reset()
    assert simulator.get_power_trace() == []
    assert simulator.step(300) == first


def test_time_does_not_run_backwards():
    with pytest.raises(UsageError, match="steps forward, not by -1 cycles"):
        KPUSimulator(PROGRAM).step(-1)
