"""Reading inputs: every kind of file, and every way in which one does not fit."""

from io import BytesIO
from zipfile import ZIP_LZMA, ZIP_STORED, ZipFile

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from formats.errors import FileError, InputError, UsageError
from formats.precision import DType
from kpurun.images import read_image
from kpurun.inputs import random_inputs, read_inputs
from tests.kpurun.programs import ProgramBuilder

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def program(*shapes, dtype=DType.FP32):
    builder = ProgramBuilder()
    inputs = [builder.input(f"x{index}", shape, dtype) for index, shape in enumerate(shapes)]
    return builder.program(*(builder.op("Identity", name) for name in inputs))


def npy(array) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(*arrays, **named) -> bytes:
    buffer = BytesIO()
    np.savez(buffer, *arrays, **named)
    return buffer.getvalue()


def damaged(data: bytes, offset: int) -> bytes:
    wrong = bytes(byte ^ 0xFF for byte in data[offset : offset + 4])
    return data[:offset] + wrong + data[offset + 4 :]


def deflated(**named) -> bytes:
    buffer = BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def zipped(content: bytes, compression: int = ZIP_STORED) -> bytes:
    buffer = BytesIO()
    with ZipFile(buffer, "w", compression) as archive:
        archive.writestr("x0.npy", content)
    return buffer.getvalue()


def claiming(shape: str) -> bytes:
    """An .npy without data whose header claims a shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode()


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


LISTED, LOCKED = (b"PK\1\2\x14\3\x14\0" + flags for flags in (b"\0\0", b"\1\0"))

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4,), np.float32)


@pytest.mark.parametrize("data", [npz(x0=A, x1=B), npz(A, B), save({"x0": A, "x1": B})])
def test_arrays_reach_their_inputs_by_name_or_position(data):
    read = read_inputs(data, "in", program((2, 3), (4,)))
    assert sorted(read) == ["x0", "x1"]
    np.testing.assert_array_equal(read["x0"], A)
    np.testing.assert_array_equal(read["x1"], B)


def test_one_array_is_the_only_input():
    read = read_inputs(npy(A), "in", program((2, 3)))
    np.testing.assert_array_equal(read["x0"], A)


def test_one_array_for_two_inputs_is_a_usage_error_that_names_them():
    with pytest.raises(UsageError, match=r"x0, x1.*by name"):
        read_inputs(npy(A), "in", program((2, 3), (4,)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello, this is text", "neither"),
        (npy(A)[:-4], r"not a readable \.npy"),
        (npz(A)[:-30], r"not a readable \.npz"),
        (npz(x0=np.array([{}], dtype=object)), r"not a readable \.npz.*pickle"),
        (damaged(deflated(x0=A), 60), r"not a readable \.npz"),
        (damaged(zipped(npy(A), ZIP_LZMA), 60), r"not a readable \.npz"),
        (zipped(npy(A)).replace(LISTED, LOCKED), r"not a readable \.npz"),
        (claiming("(1000000000000, 3)"), r"not a readable \.npy"),
        (zipped(claiming("(1000000000000, 3)")), r"not a readable \.npz"),
        (claiming(f"({10**30}, 3)"), r"not a readable \.npy"),
        (claiming("(3"), r"not a readable \.npy"),
        (zipped(b"no array"), r"not a readable \.npz"),
        (save({"x0": A})[:-1], r"not a readable \.safetensors"),
        (encoded(Image.new("RGB", (40, 40)))[:60], "not a readable image"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image: of no format that is known"),
        (encoded(Image.new("I;16", (8, 8))), "more than 8 bits"),
    ],
    ids=[
        *("empty", "text", "npy", "npz", "pickle", "deflate", "lzma", "password", "huge npy"),
        *(
            "huge npz",
            "huger npy",
            "open header",
            "no array",
            "safetensors",
            "png",
            "signature",
            "16 bits",
        ),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(data, message):
    with pytest.raises(FileError, match=f"^photo.bin: .*{message}") as caught:
        read_inputs(data, "photo.bin", program((1, 3, 8, 8)))
    assert "\n" not in str(caught.value)


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards, blue is constant."""
    red, green = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([red, green, np.full_like(red, 50)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def test_none_takes_pixels_as_they_are():
    image = gradient(7, 5)
    read = read_image(encoded(image), "in", (1, 3, 5, 7), "none")
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read[0].transpose(1, 2, 0), np.asarray(image))


def test_none_of_another_size_has_the_documents_message():
    with pytest.raises(InputError, match=r"expected \(1,3,8,8\), got \(1,3,5,7\).*--preprocess"):
        read_image(encoded(gradient(7, 5)), "in", (1, 3, 8, 8), "none")


def test_imagenet_crops_the_centre_and_normalises():
    read = read_image(encoded(gradient(448, 256)), "in", (1, 3, 224, 224), "imagenet")
    pixels = read[0].transpose(1, 2, 0) * STD + MEAN
    expected = np.asarray(gradient(448, 256), np.float32)[16:240, 112:336] / 255
    np.testing.assert_allclose(pixels, expected, atol=1e-6)


def test_imagenet_covers_an_input_that_is_not_square():
    assert read_image(encoded(gradient(50, 80)), "in", (1, 3, 32, 64), "imagenet").shape == (
        1, 3, 32, 64,
    )  # fmt: skip


def test_yolo_keeps_the_aspect_on_grey():
    read = read_image(encoded(gradient(64, 32)), "in", (1, 3, 64, 64), "yolo")
    np.testing.assert_allclose(read[0, :, :16], 114 / 255, atol=1e-7)
    np.testing.assert_allclose(read[0, :, 48:], 114 / 255, atol=1e-7)
    expected = np.asarray(gradient(64, 32), np.float32) / 255
    np.testing.assert_allclose(read[0, :, 16:48].transpose(1, 2, 0), expected, atol=1e-7)


def test_yolo_keeps_a_line_of_pixels_that_scaling_would_lose():
    read = read_image(encoded(gradient(900, 1)), "in", (1, 3, 64, 64), "yolo")
    assert (read[0, 2] != np.float32(114 / 255)).any(axis=1).sum() == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK"])
def test_any_colour_mode_becomes_three_channels(mode):
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    kind = "tiff" if mode == "CMYK" else "png"
    np.testing.assert_array_equal(read_image(encoded(image, kind), "in", (1, 3, 4, 4), "none"), 255)


def test_a_greyscale_input_takes_a_colour_image():
    image = Image.new("RGB", (4, 4), (9, 9, 9))
    np.testing.assert_array_equal(read_image(encoded(image), "in", (1, 1, 4, 4), "none"), 9)


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    data = encoded(gradient(6, 4), "png", exif=exif)
    read = read_image(data, "in", (1, 3, 6, 4), "none")
    turned = gradient(6, 4).transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(read[0].transpose(1, 2, 0), np.asarray(turned))


def test_an_image_needs_an_input_of_images():
    with pytest.raises(UsageError, match=r"not \(1,10\)"):
        read_image(encoded(gradient(4, 4)), "in", (1, 10), "none")


def test_a_recipe_for_colour_is_refused_for_a_greyscale_input():
    with pytest.raises(UsageError, match="three channels"):
        read_image(encoded(gradient(4, 4)), "in", (1, 1, 4, 4), "imagenet")


def test_random_inputs_are_reproducible_and_fit_the_dtypes():
    builder = ProgramBuilder()
    table = builder.constant("table", np.zeros((5, 2), np.float32))
    ids = builder.input("ids", (40,), DType.INT64)
    image = builder.input("image", (2, 3))
    rows = builder.op("Gather", table, ids)
    built = builder.program(rows, builder.op("Identity", image))
    first, again = random_inputs(built, 3), random_inputs(built, 3)
    assert first["ids"].max() == 4
    assert first["ids"].dtype == np.int64
    assert first["image"].dtype == np.float32
    np.testing.assert_array_equal(first["image"], again["image"])
