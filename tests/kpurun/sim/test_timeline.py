"""Whole programs played: sums, determinism, weights that come ahead, limits."""

import pytest

from formats.errors import LimitError
from kpurun.metrics import estimates, summarize
from kpurun.sim.tasks import Resource
from kpurun.sim.timeline import simulate, simulated_metrics
from kpurun.tiles import Load
from tests.kpurun.programs import classifier
from tests.kpurun.sim.machines import two_convolutions

PROGRAMS = {
    "in turn": two_convolutions,
    "ahead": lambda: two_convolutions(prefetch_ops=2),
    "untiled": classifier,
}


@pytest.fixture(params=PROGRAMS)
def program(request):
    return PROGRAMS[request.param]()


def loads_of(timeline, tensor_id):
    """Absolute (start, end) of what DRAM brings of a tensor."""
    return [
        (timeline.starts[index] + task.start, timeline.starts[index] + task.end)
        for index, task in timeline.tasks()
        if task.resource is Resource.DMA
        and isinstance(task.command, Load)
        and task.command.tensor_id == tensor_id
    ]


def test_cycles_of_the_ops_add_up(program):
    metrics = simulated_metrics(simulate(program))
    stalls = metrics.compute_cycles + metrics.memory_stall_cycles + metrics.other_cycles
    assert metrics.total_cycles == stalls
    assert metrics.total_cycles == sum(row["cycles"] for row in metrics.op_metrics.values())


def test_causes_of_stalls_add_up(program):
    for row in simulated_metrics(simulate(program)).op_metrics.values():
        causes = row["dma_stall_cycles"] + row["mover_stall_cycles"]
        assert row["memory_stall_cycles"] == causes


def test_two_simulations_are_the_same(program):
    one, other = (
        [(index, task.start, task.end) for index, task in simulate(program).tasks()]
        for _ in range(2)
    )
    assert one == other


def test_the_estimate_is_no_more_and_all_commands_one_by_one_no_less(program):
    timeline = simulate(program)
    dispatch = program.target_config.timing.dispatch_cycles
    serial = sum(task.length for _, task in timeline.tasks()) + dispatch * len(timeline.ops)
    assert summarize(program).total_cycles <= timeline.total_cycles <= serial


def test_the_same_bytes_move_as_estimated(program):
    metrics, table = simulated_metrics(simulate(program)), estimates(program)
    for op_id, row in metrics.op_metrics.items():
        assert row["dram_read_bytes"] == table[op_id].dram_read_bytes
        assert row["l2_write_bytes"] == table[op_id].l2_write_bytes


def test_weights_come_while_the_op_before_runs_if_the_program_says_so():
    in_turn, ahead = simulate(two_convolutions()), simulate(two_convolutions(prefetch_ops=2))
    begins = ahead.starts[2]
    (first_start, first_end), (second_start, _) = loads_of(ahead, "w2")
    assert first_start < first_end < begins
    assert second_start < begins  # one for each of the two copies
    assert ahead.total_cycles < in_turn.total_cycles


def test_only_the_loads_ahead_and_nothing_of_the_op_before_change_places():
    in_turn, ahead = simulate(two_convolutions()), simulate(two_convolutions(prefetch_ops=2))
    assert [task.start for task in ahead.played[0].tasks] == [
        task.start for task in in_turn.played[0].tasks
    ]


def test_too_many_cycles_are_refused_by_the_op_that_ends_beyond(program):
    total = simulate(program).total_cycles
    assert simulate(program, max_cycles=total).total_cycles == total
    with pytest.raises(LimitError, match=rf"ends in cycle {total:,}, beyond {total - 1:,}"):
        simulate(program, max_cycles=total - 1)
