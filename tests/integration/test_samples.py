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
from kpurun.metrics import bound_cycles, summarize
from kpurun.sim.timeline import simulate
from samples import photos
from samples.bench.difference import by_output, difference, holds_bar
from samples.bench.emulation import eager, ideal_fp16
from samples.bench.program import facts_of
from samples.models import FACTORIES, build

PHOTOS = ("chelsea", "motorcycle")
L2_OVER_BOUND = 1.1
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


def test_no_program_is_estimated_or_simulated_faster_than_its_bound(sample):
    program = sample[2]
    assert bound_cycles(program) <= summarize(program).total_cycles
    assert bound_cycles(program) <= simulate(program).total_cycles


def test_peak_l2_is_near_the_largest_live_set_and_tiles_fit_l1(sample):
    facts = facts_of(sample[2])
    assert 1.0 <= facts.l2_over_bound <= L2_OVER_BOUND
    assert facts.largest_l1_bytes <= facts.program.target_config.memory.sram_l1_bytes


def timed_in_int8(model: torch.nn.Module, image: np.ndarray) -> KPUProgram:
    """The program in INT8 with scales that mean nothing: they do not change its cycles."""
    graph, config = lower(capture(model, (torch.from_numpy(image),))), KPUConfig()
    return emit(*plan_graph(graph, config, KPUPrecision.INT8), config, Source(name=graph.name))


def test_a_simulation_takes_little_longer_than_the_estimate(sample):
    model, images, program = sample
    for each in (program, timed_in_int8(model, images[0])):
        ratio = simulate(each).total_cycles / summarize(each).total_cycles
        assert 1.0 <= ratio <= SIMULATED_OVER_ESTIMATE, each.precision
