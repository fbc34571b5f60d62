"""An image file as a program's input: decoded, brought to the input's size, normalised.

The two recipes are those of the networks' own evaluation code, so that a user need not repeat them.
"""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

import numpy as np

from formats.errors import FileError, InputError, UsageError, shape_mismatch
from formats.preprocess import require_known

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
IMAGENET_MARGIN = 256 / 224  # the shorter side before the crop, over the crop
YOLO_GREY = 114
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"II*\0", b"MM\0*")

Recipe = Callable[["Image", tuple[int, int]], np.ndarray]


def is_image(data: bytes) -> bool:
    """JPEG, PNG, BMP, GIF, TIFF or WebP, by its first bytes."""
    return data.startswith(SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def read_image(data: bytes, source: str, shape: tuple[int, ...], preprocess: str) -> np.ndarray:
    """The image as float32 [1, channels, height, width], of the input's shape.

    preprocess: "imagenet" (shorter side to 256/224 of the input, centre crop, ImageNet's mean and
    deviation), "yolo" (letterbox on grey, 0 to 1) or "none" (pixel values 0 to 255 of an image that
    has the input's size already). EXIF orientation is applied.
    """
    require_known(preprocess)
    if len(shape) != 4 or shape[0] != 1 or shape[1] not in (1, 3):
        text = ",".join(map(str, shape))
        raise UsageError(
            f"{source}: an image fits an input (1,3,H,W) or (1,1,H,W), not ({text}): give an array"
        )
    if shape[1] == 1 and preprocess != "none":
        raise UsageError(f"preprocess {preprocess!r} is for inputs of three channels, not one")
    image = _decoded(data, source).convert("RGB" if shape[1] == 3 else "L")
    pixels = RECIPES[preprocess](image, (shape[2], shape[3]))
    planes = np.atleast_3d(pixels).transpose(2, 0, 1)[None]
    if planes.shape != shape:
        hint = "--preprocess imagenet or yolo resizes an image"
        raise InputError(f"{source}: {shape_mismatch(shape, planes.shape)}; {hint}")
    return np.ascontiguousarray(planes, np.float32)


def _decoded(data: bytes, source: str) -> "Image":
    """Upright and in 8 bits per channel; transparency is dropped by the caller's conversion."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with catch_warnings():
            simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data))
            upright = ImageOps.exif_transpose(image)
    except (
        OSError,
        SyntaxError,  # what Pillow raises for some broken PNG files
        ValueError,
        UnidentifiedImageError,
        Image.DecompressionBombWarning,
        Image.DecompressionBombError,
    ) as error:
        # Pillow names the buffer that it was given, which says nothing
        is_unknown = isinstance(error, UnidentifiedImageError)
        why = "of no format that is known" if is_unknown else " ".join(str(error).split())
        raise FileError(f"{source}: not a readable image: {why}") from error
    if upright.mode.startswith(("I", "F")):
        raise FileError(
            f"{source}: pixels of more than 8 bits per channel; convert the image first"
        )
    return upright


def _imagenet(image: "Image", size: tuple[int, int]) -> np.ndarray:
    """torchvision's Resize(256), CenterCrop(224), ToTensor, Normalize, for any input size."""
    from PIL.Image import Resampling

    height, width = size
    shorter = round(max(size) * IMAGENET_MARGIN)
    sides = [shorter * side // min(image.size) for side in image.size]
    resized = image.resize((sides[0], sides[1]), Resampling.BILINEAR)
    left, top = round((sides[0] - width) / 2), round((sides[1] - height) / 2)
    cropped = resized.crop((left, top, left + width, top + height))
    return (np.asarray(cropped, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD


def _yolo(image: "Image", size: tuple[int, int]) -> np.ndarray:
    """Ultralytics' LetterBox: the whole image, its aspect kept, centred on grey."""
    from PIL import Image as Images

    height, width = size
    scale = min(width / image.width, height / image.height)
    resized_width = max(1, round(image.width * scale))
    resized_height = max(1, round(image.height * scale))
    resized = image.resize((resized_width, resized_height), Images.Resampling.BILINEAR)
    canvas = Images.new("RGB", (width, height), (YOLO_GREY,) * 3)
    left = round((width - resized_width) / 2 - 0.1)
    top = round((height - resized_height) / 2 - 0.1)
    canvas.paste(resized, (left, top))
    return np.asarray(canvas, np.float32) / 255


def _none(image: "Image", _: tuple[int, int]) -> np.ndarray:
    return np.asarray(image, np.float32)


RECIPES: dict[str, Recipe] = {"imagenet": _imagenet, "yolo": _yolo, "none": _none}
