"""Crops of the photos that INT8 is calibrated on, and other crops of them that it is judged on.

Of the same photos: nine are too few to stand for what a camera sees, and a range that was chosen
without a kind of picture says nothing about how well ranges are chosen.
"""

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
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[np.ndarray]:
        each = -(-self.count // len(self.photos))
        size = DETECTOR_SIZE if self.is_detector else photos.CROP_SIZE
        recipe = "yolo" if self.is_detector else "imagenet"
        shown = DETECTOR_SIZE if self.is_detector else CLASSIFIER_SIZE
        for crop in islice(photos.crops(self.photos, each, self.seed, size), self.count):
            yield photos.prepared(crop, recipe, shown)


def calibration_crops(subject: Subject) -> Crops:
    """What INT8 is calibrated on."""
    return Crops(tuple(photos.FILES), CALIBRATION_IMAGES, subject.is_detector)


def held_out_crops(subject: Subject, count: int = HELD_OUT_IMAGES) -> Crops:
    """Crops that no calibration sees."""
    return Crops(tuple(photos.FILES), count, subject.is_detector, seed=1)
