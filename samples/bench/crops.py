"""Crops of the photos that INT8 is calibrated on, and of others that it is judged on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from samples import photos
from samples.bench.subjects import Subject

CALIBRATION_IMAGES = 100  # what INT8 asks for
HELD_OUT_IMAGES = 40
CLASSIFIER_SIZE = 224
DETECTOR_SIZE = 640


@dataclass(frozen=True)
class Crops:
    """`count` images for one network, each (1, 3, H, W), made anew whenever they are iterated."""

    photos: Sequence[str]
    count: int
    is_detector: bool

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        each = -(-self.count // len(self.photos))
        size = DETECTOR_SIZE if self.is_detector else photos.CROP_SIZE
        recipe = "yolo" if self.is_detector else "imagenet"
        shown = DETECTOR_SIZE if self.is_detector else CLASSIFIER_SIZE
        for crop in islice(photos.crops(self.photos, each, size=size), self.count):
            yield photos.prepared(crop, recipe, shown)


def calibration_crops(subject: Subject) -> Crops:
    """What INT8 is calibrated on."""
    return Crops(photos.CALIBRATION, CALIBRATION_IMAGES, subject.is_detector)


def held_out_crops(subject: Subject, count: int = HELD_OUT_IMAGES) -> Crops:
    """Of photos that no calibration sees."""
    return Crops(photos.EVALUATION, count, subject.is_detector)
