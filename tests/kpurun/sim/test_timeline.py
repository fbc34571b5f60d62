"""Whole programs played: sums, determinism, weights that come ahead, limits."""

import pytest

from formats.errors import LimitError
from kpurun.metrics import estimates
from kpurun.sim.tasks import Resource
from kpurun.sim.timeline import simulate, simulated_metrics
from kpurun.tiles import Load
from tests.kpurun.programs import classifier
from tests.kpurun.sim.machines import two_convolutions

PROGRAMS = {
    "apart": two_convolutions,
    "in the same bytes": lambda: two_convolutions(apart=False),
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


def test_all_commands_one_by_one_take_no_less_and_no_op_alone_more(program):
    timeline = simulate(program)
    dispatch = program.target_config.timing.dispatch_cycles
    serial = sum(task.length for _, task in timeline.tasks()) + dispatch * len(timeline.ops)
    alone = max(each.total_cycles for each in estimates(program).values())
    assert alone <= timeline.total_cycles <= serial


def test_the_same_bytes_move_as_estimated(program):
    metrics, table = simulated_metrics(simulate(program)), estimates(program)
    for op_id, row in metrics.op_metrics.items():
        assert row["dram_read_bytes"] == table[op_id].dram_read_bytes
        assert row["l2_write_bytes"] == table[op_id].l2_write_bytes


def test_weights_come_while_the_op_before_runs_where_their_bytes_are_free():
    free, taken = (simulate(two_convolutions(apart=apart)) for apart in (True, False))
    for timeline in (free, taken):
        first_end = max(task.end for task in timeline.played[0].tasks)
        (start, _), *_ = loads_of(timeline, "w2")
        assert (start < first_end) == (timeline is free)


def test_too_many_cycles_are_refused_by_the_op_that_ends_beyond(program):
    total = simulate(program).total_cycles
    assert simulate(program, max_cycles=total).total_cycles == total
    with pytest.raises(LimitError, match=rf"ends in cycle {total:,}, beyond {total - 1:,}"):
        simulate(program, max_cycles=total - 1)
