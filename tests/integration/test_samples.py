"""Every sample network compiled in FP16 computes what FP32 PyTorch does, as well as FP16 can, in
about the time that was estimated."""

import numpy as np
import pytest
import torch

import kpuc
from formats.config import KPUConfig
from formats.precision import KPUPrecision
from formats.program import KPUProgram
from kpuc.capture import capture
from kpuc.compiler import plan_graph
from kpuc.emit import Source, emit
from kpuc.lower import lower
from kpurun import KPURuntime
from kpurun.metrics import bound_cycles, estimates
from kpurun.sim.play import play
from kpurun.sim.timeline import simulate
from kpurun.work import work_of
from samples import photos
from samples.bench.difference import by_output, difference, holds_bar
from samples.bench.emulation import eager, ideal_fp16
from samples.bench.program import facts_of
from samples.models import FACTORIES, build

PHOTOS = ("chelsea", "motorcycle")
SIMULATED_OVER_ESTIMATE = 1.1


@pytest.fixture(scope="module", params=FACTORIES)
def sample(request):
    """(model, images, program) of one network."""
    recipe, size = ("yolo", 640) if request.param == "yolov8n" else ("imagenet", 224)
    images = [photos.prepared(photos.photo(name), recipe, size) for name in PHOTOS]
    model = build(request.param)
    return model, images, kpuc.compile(model, (torch.from_numpy(images[0]),), precision="fp16")


def executed(program, image: np.ndarray) -> list[np.ndarray]:
    runtime = KPURuntime()
    runtime.load_program(program)
    (name, _, _), *_ = runtime.get_input_specs()
    return list(runtime.run({name: image}).outputs.values())


def test_outputs_are_as_near_to_fp32_as_ideal_fp16_arithmetic(sample):
    model, images, program = sample
    baseline = by_output(map(eager(model), images))
    ideal = by_output(map(ideal_fp16(model, images[0]), images))
    ours = by_output(executed(program, image) for image in images)
    assert len(ours) == len(baseline)
    for expected, yardstick, actual in zip(baseline, ideal, ours, strict=True):
        limit, reached = difference(expected, yardstick), difference(expected, actual)
        assert holds_bar(reached, limit), f"{reached} against {limit}"


def test_torch_compile_gives_the_same_without_a_graph_break(sample):
    model, images, program = sample
    torch.compiler.reset()
    compiled = torch.compile(model, backend="kpu", fullgraph=True, options={"precision": "fp16"})
    for expected, actual in zip(
        executed(program, images[0]), eager(compiled)(images[0]), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_no_program_is_simulated_faster_than_its_bound(sample):
    program = sample[2]
    assert bound_cycles(program) <= simulate(program).total_cycles


def test_no_program_is_simulated_slower_than_its_commands_one_by_one(sample):
    timeline = simulate(sample[2])
    dispatch = timeline.program.target_config.timing.dispatch_cycles
    serial = sum(task.length for _, task in timeline.tasks()) + dispatch * len(timeline.ops)
    assert timeline.total_cycles <= serial


def test_l2_holds_the_largest_live_set_and_tiles_fit_l1(sample):
    facts = facts_of(sample[2])
    assert facts.l2_over_bound >= 1.0
    assert facts.program.peak_sram_bytes <= facts.program.target_config.memory.sram_l2_bytes
    assert facts.largest_l1_bytes <= facts.program.target_config.memory.sram_l1_bytes


def timed_in_int8(model: torch.nn.Module, image: np.ndarray) -> KPUProgram:
    """The program in INT8 with scales that mean nothing: they do not change its cycles."""
    graph, config = lower(capture(model, (torch.from_numpy(image),))), KPUConfig()
    return emit(*plan_graph(graph, config, KPUPrecision.INT8), config, Source(name=graph.name))


def test_the_programs_estimate_is_what_the_simulator_says(sample):
    model, images, program = sample
    for each in (program, timed_in_int8(model, images[0])):
        assert simulate(each).total_cycles == each.estimated_total_cycles, each.precision


def test_no_op_alone_is_simulated_faster_than_estimated_or_much_slower(sample):
    """What overlaps is told by simulation; of every op alone, the closed form is near."""
    program = sample[2]
    config, alone = program.target_config, estimates(program)
    played = {
        op.id: play(work_of(program, op), op.tiling, config).total_cycles for op in program.ops
    }
    assert all(played[op_id] >= each.total_cycles for op_id, each in alone.items())
    total = sum(each.total_cycles for each in alone.values())
    assert sum(played.values()) <= SIMULATED_OVER_ESTIMATE * total
