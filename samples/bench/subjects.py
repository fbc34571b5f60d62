"""What the benchmark runs on: a network, its held-out photos and its compiled program."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

import kpuc
from formats.program import KPUProgram
from kpurun import KPURuntime
from samples import photos
from samples.bench.emulation import Run
from samples.models import build

CROPS_PER_PHOTO = 4
DETECTORS = ("yolov8n",)


@dataclass(frozen=True)
class Subject:
    """One sample network; everything it needs is made once, when it is first asked for."""

    name: str

    @property
    def is_detector(self) -> bool:
        return self.name in DETECTORS

    @cached_property
    def model(self) -> nn.Module:
        return build(self.name)

    @cached_property
    def images(self) -> list[np.ndarray]:
        """Held-out photos, each (1, 3, H, W)."""
        if self.is_detector:
            batch = photos.detector_batch(photos.EVALUATION)
        else:
            batch = photos.classifier_batch(photos.EVALUATION, CROPS_PER_PHOTO)
        return [image[None] for image in batch]

    @cached_property
    def program(self) -> KPUProgram:
        """The FP16 program."""
        return kpuc.compile(self.model, (torch.from_numpy(self.images[0]),), precision="fp16")

    @cached_property
    def simulated(self) -> Run:
        """The program on the fast engine, as a function of one image."""
        runtime = KPURuntime()
        runtime.load_program(self.program)
        (name, _, _), *_ = runtime.get_input_specs()

        def run(image: np.ndarray) -> list[np.ndarray]:
            return list(runtime.run({name: image}).outputs.values())

        return run
