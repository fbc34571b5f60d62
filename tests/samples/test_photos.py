"""The photos: always the same pixels, calibration and evaluation apart, ready for the commands."""

import numpy as np
import pytest
from PIL import Image

from samples import photos


def test_calibration_and_evaluation_share_no_photo():
    assert not set(photos.CALIBRATION) & set(photos.EVALUATION)
    assert {*photos.CALIBRATION, *photos.EVALUATION} == set(photos.FILES)


@pytest.mark.parametrize("name", photos.FILES)
def test_a_photo_is_in_colour_and_large_enough(name):
    image = photos.photo(name)
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
    assert min(image.shape[:2]) >= 224
    assert image.std() > 10


def test_crops_are_the_same_every_time_and_differ_from_each_other():
    first, again = (list(photos.crops(["coffee"], 3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], first[1])


def test_another_seed_gives_other_crops():
    one, other = (next(photos.crops(["coffee"], 1, seed)) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_asking_for_more_crops_keeps_the_first_ones():
    few, many = list(photos.crops(["coffee"], 1)), list(photos.crops(["coffee"], 2))
    assert np.array_equal(few[0], many[0])


def test_a_classifier_batch_is_normalised():
    batch = photos.classifier_batch(["chelsea"], each=2)
    assert batch.shape == (2, 3, 224, 224)
    assert batch.dtype == np.float32
    assert abs(batch.mean()) < 2.5
    assert batch.min() < 0 < batch.max()


def test_a_detector_batch_is_letterboxed_on_grey():
    batch = photos.detector_batch(["chelsea"])
    assert batch.shape == (1, 3, 640, 640)
    assert batch[0, :, 0, 0] == pytest.approx(114 / 255)
    assert batch.max() <= 1.0


def test_exported_files_are_enough_to_calibrate_with(tmp_path):
    photos.write_all(tmp_path)
    crops = sorted((tmp_path / "calibration").glob("*.jpg"))
    assert len(crops) >= 100
    with Image.open(crops[0]) as crop:
        assert crop.size == (photos.CROP_SIZE, photos.CROP_SIZE)
    assert {path.stem for path in (tmp_path / "evaluation").iterdir()} == set(photos.EVALUATION)


def test_a_missing_wheel_is_named(monkeypatch):
    monkeypatch.setattr(photos, "find_spec", lambda package: None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        photos.photo("flower")
