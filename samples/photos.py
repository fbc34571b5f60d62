"""The photos that samples are calibrated and judged on: those inside two wheels, no download.

scikit-image and scikit-learn carry them (extra `dev`); calibration and evaluation share no photo.
`python -m samples.photos DIR` writes them as JPEG files for the commands.
"""

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from kpurun.images import RECIPES

CALIBRATION = ("astronaut", "coffee", "rocket", "china", "hubble", "retina")
EVALUATION = ("chelsea", "flower", "motorcycle")

# name -> (package, file inside it); licences are listed in samples/README.md
FILES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "hubble": ("skimage", "data/hubble_deep_field.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "china": ("sklearn", "datasets/images/china.jpg"),
}

CROP_SIZE = 256
JPEG_QUALITY = 92
CALIBRATION_CROPS = 18  # of each of the six photos: 108, above the 100 that INT8 asks for


def photo(name: str) -> np.ndarray:
    """One photo as (H, W, 3) uint8 RGB. Raises ModuleNotFoundError when its wheel is missing."""
    package, file = FILES[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise ModuleNotFoundError(f"the photo {name!r} needs `pip install {distribution}`")
    with Image.open(Path(spec.origin).parent / file) as image:
        return np.asarray(image.convert("RGB"))


def prepared(image: np.ndarray, preprocess: str, size: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (1, 3, size, size) float32, by kpurun's own recipe of that name."""
    pixels = RECIPES[preprocess](Image.fromarray(image), (size, size))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def crops(
    names: Sequence[str], each: int, seed: int = 0, size: int = CROP_SIZE
) -> Iterator[np.ndarray]:
    """`each` random crops of every photo, (size, size, 3) uint8, always the same for one seed.

    As in training: 35 to 100 % of the area, aspect 3:4 to 4:3, half of them mirrored. The recipe
    `imagenet` then takes their middle 224×224.
    """
    for name in names:
        image = photo(name)
        for index in range(each):
            rng = np.random.default_rng([seed, *name.encode(), index])
            yield random_crop(image, size, rng)


def random_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """One random crop of (H, W, 3), resized to (size, size, 3)."""
    height, width = image.shape[:2]
    area = rng.uniform(0.35, 1.0) * height * width
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    crop_width = min(width, round(float(np.sqrt(area * aspect))))
    crop_height = min(height, round(float(np.sqrt(area / aspect))))
    top = int(rng.integers(height - crop_height + 1))
    left = int(rng.integers(width - crop_width + 1))
    crop = image[top : top + crop_height, left : left + crop_width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    resized = Image.fromarray(crop).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def classifier_batch(names: Sequence[str], each: int, size: int = 224, seed: int = 0) -> np.ndarray:
    """The centre of every photo and `each - 1` random crops of it: (photos·each, 3, size, size)."""
    images = [*map(photo, names), *crops(names, each - 1, seed)]
    return np.concatenate([prepared(image, "imagenet", size) for image in images])


def detector_batch(names: Sequence[str], size: int = 640) -> np.ndarray:
    """Every photo letterboxed: (photos, 3, size, size)."""
    return np.concatenate([prepared(photo(name), "yolo", size) for name in names])


def write_all(folder: Path) -> None:
    """Photos for evaluation to `folder`/evaluation, crops of the others to `folder`/calibration."""
    for name in EVALUATION:
        write_jpeg(folder / "evaluation" / f"{name}.jpg", photo(name))
    for index, crop in enumerate(crops(CALIBRATION, CALIBRATION_CROPS)):
        name = CALIBRATION[index // CALIBRATION_CROPS]
        write_jpeg(folder / "calibration" / f"{name}-{index % CALIBRATION_CROPS:02}.jpg", crop)


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=JPEG_QUALITY)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m samples.photos DIR")
    write_all(Path(sys.argv[1]))
