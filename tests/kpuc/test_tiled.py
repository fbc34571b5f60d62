"""What the compiler emits, executed tile by tile at its addresses, is the reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import kpuc
from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.program import KPUProgram
from kpuc.quant.quantize import QuantOptions
from kpuc.quant.refine import Refinements
from kpurun import KPURuntime
from kpurun.engine import reference
from samples.models import FACTORIES, build
from tests.kpuc.module_case import ModuleCase
from tests.kpuc.module_cases import CASES

SMALL_L1 = (256, 512, 1024, 2048, 4096, 65536)  # bytes; L2 is twice as large


def compiled(case: ModuleCase, precision: str = "fp16", **options: object) -> KPUProgram:
    """The case for the smallest machine that it fits."""
    for size in SMALL_L1:
        memory = replace(KPUConfig().memory, sram_l1_bytes=size, sram_l2_bytes=2 * size)
        config = replace(KPUConfig(), memory=memory)
        try:
            return kpuc.compile(case.module(), case.tensors(), precision=precision, config=config)
        except MemoryError:
            continue
    raise AssertionError("it fits none of the machines")


def inputs_of(program: KPUProgram, tensors: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    return {
        tensor.name: (given.float() if given.dtype == torch.bfloat16 else given).numpy()
        for tensor, given in zip(program.get_input_tensors(), tensors, strict=True)
    }


def checked(program: KPUProgram, inputs: dict[str, np.ndarray]):
    runtime = KPURuntime()
    runtime.load_program(program)
    return runtime.check_tiles(inputs)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_module_in_small_memories_is_the_reference_in_tiles(case):
    program = compiled(case)
    report = checked(program, inputs_of(program, case.tensors()))
    assert report.ops == len(program.ops)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_sample_network_is_the_reference_in_tiles(name):
    size = 128 if name == "yolov8n" else 64
    memory = replace(KPUConfig().memory, sram_l1_bytes=32 << 10, sram_l2_bytes=128 << 10)
    program = kpuc.compile(
        build(name),
        (torch.zeros(1, 3, size, size),),
        precision="fp16",
        config=replace(KPUConfig(), memory=memory),
    )
    image = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    report = checked(program, {program.input_ids[0]: image})
    assert report.tiles > 2 * len(program.ops)


class InvertedResidual(torch.nn.Module):
    """A stem, one block as MobileNetV2 has them and a classifier, with a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.expand = torch.nn.Conv2d(8, 24, 1)
        self.depthwise = torch.nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.project = torch.nn.Conv2d(24, 8, 1)
        self.pool = torch.nn.MaxPool2d(3, 1, 1)
        self.classifier = torch.nn.Linear(16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.silu(self.stem(image))
        wide = torch.nn.functional.relu6(self.expand(x))
        y = x + self.project(torch.nn.functional.relu6(self.depthwise(wide)))
        joined = torch.cat((y, self.pool(y)), 1)
        return self.classifier(joined.mean((2, 3)))


def test_a_network_in_int8_gives_the_outputs_of_the_reference_bit_for_bit():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    memory = replace(KPUConfig().memory, sram_l1_bytes=2048, sram_l2_bytes=8192)
    program = kpuc.compile(
        InvertedResidual(),
        (torch.zeros(1, 3, 24, 24),),
        precision="int8",
        config=replace(KPUConfig(), memory=memory),
        calibration=[rng.standard_normal((1, 3, 24, 24), np.float32) for _ in range(100)],
        quantization=QuantOptions(refinements=Refinements(False, False, False)),
    )
    inputs = {program.input_ids[0]: rng.standard_normal((1, 3, 24, 24), np.float32)}
    outputs = reference.run(program, inputs)
    report = checked(program, inputs)
    assert report.tiles > 3 * report.ops
    for tensor_id, found in report.outputs.items():
        assert np.array_equal(found, outputs[tensor_id])


def test_whole_numbers_that_are_only_renamed_are_copied_to_the_output():
    module = ModuleCase("rows", None, (torch.arange(12),), lambda x: x.reshape(3, 4))
    program = compiled(module)
    report = checked(program, inputs_of(program, module.tensors()))
    assert (report.views, sum(report.moved_bytes.values())) == (0, 4 * 8 * 12)
