"""Whole programs played: what the cycles add up to, and which other figures they lie between."""

from dataclasses import replace

import pytest

from formats.errors import LimitError
from formats.program import KPUProgram, TileConfig
from kpurun.metrics import estimate_op, summarize
from kpurun.sim.play import play
from kpurun.sim.tasks import Resource
from kpurun.sim.timeline import Timeline, simulate, simulated_metrics
from kpurun.timing import estimate
from tests.kpurun.programs import ProgramBuilder, classifier
from tests.kpurun.sim.machines import two_convolutions
from tests.kpurun.test_timing import CONFIG, INT8, SCALE_SIM, WHOLE, resnet18_layers
from tests.kpurun.works import WORKS, conv

PROGRAMS = {"classifier": classifier, "two convolutions": two_convolutions}


@pytest.fixture(params=PROGRAMS)
def timeline(request) -> Timeline:
    return simulate(PROGRAMS[request.param]())


def empty() -> KPUProgram:
    builder = ProgramBuilder()
    return builder.program(builder.input("x", (2, 3)))


def events(timeline: Timeline) -> list[tuple[int, int, int]]:
    return [(index, task.start, task.end) for index, task in timeline.tasks()]


def test_ops_follow_one_another(timeline):
    ends = [
        start + played.total_cycles
        for start, played in zip(timeline.starts, timeline.played, strict=True)
    ]
    assert timeline.starts == (0, *ends[:-1])
    assert timeline.total_cycles == ends[-1]


def test_compute_stalls_and_dispatch_add_up(timeline):
    metrics = simulated_metrics(timeline)
    parts = (metrics.compute_cycles, metrics.memory_stall_cycles, metrics.other_cycles)
    assert metrics.total_cycles == timeline.total_cycles == sum(parts)
    assert metrics.total_time_us == metrics.total_cycles / 500
    for row in metrics.op_metrics.values():
        stalls = row["dma_stall_cycles"] + row["mover_stall_cycles"]
        assert row["memory_stall_cycles"] == stalls
        assert row["cycles"] == row["compute_cycles"] + stalls + row["other_cycles"]


def test_the_same_program_takes_the_same_cycles_command_by_command(timeline):
    again = simulate(timeline.program)
    assert events(again) == events(timeline)
    assert simulated_metrics(again) == simulated_metrics(timeline)


def test_what_is_moved_and_done_is_what_the_estimate_counts(timeline):
    found, estimated = simulated_metrics(timeline), summarize(timeline.program)
    for name in ("dram_reads_bytes", "dram_writes_bytes", "sram_reads_bytes", "l1_hits"):
        assert getattr(found, name) == getattr(estimated, name)


def test_a_program_lies_between_what_its_resources_need_and_one_command_after_another(timeline):
    """The slowest resource, if it never had to wait; all commands and dispatches in turn."""
    tasks = [task for _, task in timeline.tasks()]
    dispatch = sum(played.other_cycles for played in timeline.played)
    work = [sum(t.length for t in tasks if t.resource is each) for each in Resource]
    estimated = sum(estimate_op(timeline.program, op).total_cycles for op in timeline.ops)
    assert max(work) <= estimated <= timeline.total_cycles <= dispatch + sum(work)


@pytest.mark.parametrize("name", sorted(WORKS))
@pytest.mark.parametrize("tiling", [None, TileConfig()], ids=["untiled", "double-buffered"])
def test_roofline_estimate_simulation_and_serial_sum_of_an_op_come_in_this_order(name, tiling):
    estimated = estimate(WORKS[name], tiling, CONFIG)
    played = play(WORKS[name], tiling, CONFIG)
    serial = played.other_cycles + sum(task.length for task in played.tasks)
    assert estimated.roofline_cycles <= estimated.total_cycles <= played.total_cycles <= serial


def test_a_simulation_that_takes_longer_than_allowed_is_given_up():
    program = two_convolutions()
    total = simulate(program).total_cycles
    assert simulate(program, total).total_cycles == total
    with pytest.raises(
        LimitError, match=rf"op conv_2 ends in cycle {total:,}, beyond {total - 1:,}"
    ):
        simulate(program, total - 1)


def test_an_empty_program_takes_no_cycles():
    timeline = simulate(empty())
    assert timeline.total_cycles == simulated_metrics(timeline).total_cycles == 0


def test_faster_memory_never_makes_it_slower(timeline):
    config = timeline.program.target_config
    fast = replace(config, memory=replace(config.memory, dram_bandwidth_gbps=51.2))
    quicker = simulate(replace(timeline.program, target_config=fast))
    assert quicker.total_cycles < timeline.total_cycles


def test_without_overlap_simulated_resnet18_computes_for_scale_sims_cycles():
    """The figure of its convolutions: 8,005,533 with the fully connected layer's 34,145."""
    played = [play(conv(*each, precision=INT8), WHOLE, SCALE_SIM) for each in resnet18_layers()]
    assert sum(each.compute_cycles for each in played) == 8_005_533 - 34_145
