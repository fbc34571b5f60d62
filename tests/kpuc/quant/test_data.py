"""Calibration samples from all that a user may have, and what is said of those that do not fit."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from formats.errors import EXIT_USAGE, FileError, InputError, UsageError
from kpuc.quant.batches import Samples
from kpuc.quant.data import InputSpec, replayable, samples

X = InputSpec("x", (1, 3, 4, 5))
IDS = InputSpec("ids", (1, 7), is_float=False)
DATA = np.random.default_rng(0).standard_normal((100, 3, 4, 5)).astype(np.float32)
TOKENS = np.arange(700).reshape(100, 7)


class Provider:
    """What the host passes: sized, iterable, its arrays (1, C, H, W) and not contiguous."""

    def __len__(self):
        return 100

    def __iter__(self):
        for row in DATA:
            yield row.transpose(1, 2, 0).copy().transpose(2, 0, 1)[None]

    def get_input_shape(self):
        return (1, 3, 4, 5)


def write_npy(folder: Path) -> Path:
    np.save(folder / "data.npy", DATA)
    return folder / "data.npy"


def write_fortran_npy(folder: Path) -> Path:
    np.save(folder / "data.npy", np.asfortranarray(DATA))
    return folder / "data.npy"


def write_npz(folder: Path) -> Path:
    np.savez_compressed(folder / "data.npz", x=DATA)
    return folder / "data.npz"


def write_safetensors(folder: Path) -> Path:
    save_file({"x": DATA}, folder / "data.safetensors")
    return folder / "data.safetensors"


FILES = [write_npy, write_fortran_npy, write_npz, write_safetensors]
OBJECTS = {
    "an array": lambda: DATA,
    "an array with batches of one": lambda: DATA[:, None],
    "a tensor": lambda: torch.from_numpy(DATA),
    "a dict": lambda: {"x": DATA},
    "a list of arrays": lambda: list(DATA),
    "a list of tensors with gradients": lambda: [
        torch.from_numpy(row)[None].requires_grad_() for row in DATA
    ],
    "a list of dicts": lambda: [{"x": row} for row in DATA],
    "a list of one-tuples": lambda: [(row,) for row in DATA],
    "a generator": lambda: (row for row in DATA),
    "batches of thirty-two": lambda: (DATA[at : at + 32] for at in range(0, 100, 32)),
    "a data loader": lambda: torch.utils.data.DataLoader(torch.from_numpy(DATA), batch_size=8),
    "the host's provider": Provider,
    "doubles": lambda: DATA.astype(np.float64),
}


def assert_is_data(read: Samples) -> None:
    """Twice: it can be iterated again."""
    for _ in range(2):
        rows = list(read)
        assert all(row["x"].shape == (1, 3, 4, 5) for row in rows)
        assert all(row["x"].dtype == np.float32 for row in rows)
        assert all(row["x"].flags.c_contiguous and row["x"].flags.writeable for row in rows)
        assert (np.concatenate([row["x"] for row in rows]) == DATA).all()


@pytest.mark.parametrize("write", FILES)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_read(write, kind, tmp_path):
    assert_is_data(samples(kind(write(tmp_path)), [X], "none"))


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_read(name):
    assert_is_data(samples(OBJECTS[name](), [X], "none"))


def test_bfloat16_tensors_are_read():
    read = samples(torch.from_numpy(DATA).bfloat16(), [X], "none")

    assert (next(iter(read))["x"] == torch.from_numpy(DATA[:1]).bfloat16().float().numpy()).all()


def test_a_folder_of_images_is_read_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    for value in range(100):
        folder = tmp_path / "b" if value >= 50 else tmp_path
        Image.new("RGB", (5, 4), (value, 0, 0)).save(folder / f"a{value:03d}.PNG")
    (tmp_path / "labels.csv").write_text("a000.PNG,3")

    read = samples(tmp_path, [X], "none")

    assert [row["x"][0, 0, 0, 0] for row in read] == list(range(100))


def test_images_are_resized_by_the_recipe(tmp_path):
    for value in range(100):
        Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / f"{value}.jpg")

    row = next(iter(samples(tmp_path, [X], "imagenet")))

    assert row["x"].shape == (1, 3, 4, 5)


@pytest.mark.parametrize("write", [np.savez, save_file])
def test_inputs_are_told_apart_by_name(write, tmp_path):
    path = tmp_path / "data.npz"
    arrays = {"ids": TOKENS, "x": DATA, "labels": np.zeros(3)}
    write(path, **arrays) if write is np.savez else write(arrays, path)

    rows = list(samples(path, [X, IDS], "none"))

    assert (np.concatenate([row["ids"] for row in rows]) == TOKENS).all()
    assert rows[0]["ids"].dtype == np.int64


def test_unnamed_arrays_and_tuples_go_by_position(tmp_path):
    np.savez(tmp_path / "data.npz", DATA, TOKENS)
    for source in (tmp_path / "data.npz", list(zip(DATA, TOKENS, strict=True))):
        row = list(samples(source, [X, IDS], "none"))[99]
        assert (row["ids"] == TOKENS[99:]).all()
        assert (row["x"] == DATA[99:]).all()


def test_samples_stack_when_the_models_batch_is_larger():
    read = samples(list(DATA), [InputSpec("x", (8, 3, 4, 5))], "none")

    rows = [row["x"] for row in read]
    # 12 batches of 8; the 4 samples left fill none
    assert (read.count, len(read), len(rows)) == (96, 12, 12)
    assert (np.concatenate(rows) == DATA[:96]).all()


@pytest.mark.parametrize(
    ("batch", "held_out"),
    [(8, (80, 16)), (16, (80, 16)), (32, (64, 32)), (64, (64, 8)), (13, (78, 13)), (53, (53, 6))],
)
def test_of_a_larger_batch_samples_are_held_out_in_full_batches(batch, held_out):
    """Of 100, at least 10: 16 leave 84 for 10 batches of 8; two batches of 64 or 53 cannot be
    filled, so 8 repeat in one of 64, 6 in six of 53."""
    read = samples(DATA, [InputSpec("x", (batch, 3, 4, 5))], "none")

    parts = read.split(10)

    assert tuple(part.count for part in parts) == held_out
    for part in parts:
        _, times = np.unique(np.concatenate([row["x"] for row in part]), axis=0, return_counts=True)
        assert (len(times), len(set(times))) == (part.count, 1)


BATCHES = np.random.default_rng(1).standard_normal((20, 10, 8)).astype(np.float32)
WHOLE = {
    "a list of arrays": lambda: list(BATCHES),
    "a list of dicts": lambda: [{"x": rows} for rows in BATCHES],
    "one array": lambda: BATCHES,
    "a generator": lambda: iter(BATCHES),
    "an iterator that is kept": lambda: replayable(iter(BATCHES)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_sample_of_the_full_input_shape_stays_whole(name):
    source = WHOLE[name]()
    for _ in range(1 if name == "a generator" else 2):
        calibration, held_out = samples(source, [InputSpec("x", (10, 8))], "none").split(20)

        # a tenth of 200 samples in 20 that were given whole: the first and the eleventh
        assert (calibration.count, held_out.count) == (180, 20)
        assert (np.stack([row["x"] for row in held_out]) == BATCHES[[0, 10]]).all()
        kept = [index for index in range(20) if index not in (0, 10)]
        assert (np.stack([row["x"] for row in calibration]) == BATCHES[kept]).all()


def test_single_samples_among_whole_ones_are_not_glued_to_them():
    loader = torch.utils.data.DataLoader(torch.from_numpy(DATA), batch_size=16)

    read = samples(loader, [InputSpec("x", (16, 3, 4, 5))], "none")

    # 6 batches of 16; the last 4 of the 100 come alone and fill none
    assert read.count == 96
    assert (np.concatenate([row["x"] for row in read]) == DATA[:96]).all()


def test_one_whole_sample_cannot_be_parted():
    with pytest.raises(UsageError, match="100 samples in 1 of the model's full input shape"):
        samples(DATA, [InputSpec("x", (100, 3, 4, 5))], "none").split(10)


def test_a_leading_axis_that_is_no_batch_counts_no_samples():
    spec = InputSpec("x", (10, 8), is_batched=False)

    with pytest.raises(UsageError, match="there are 20"):
        samples(BATCHES, [spec], "none")
    with pytest.raises(InputError, match="got \\(8\\)"):
        samples(list(np.zeros((100, 8), np.float32)), [spec], "none")


def test_inputs_without_a_batch_axis_in_common_are_whole_samples():
    specs = [X, InputSpec("threshold", ())]
    items = ({"x": row[None], "threshold": np.float32(0.5)} for row in DATA)

    row = list(samples(items, specs, "none"))[7]

    assert (row["x"] == DATA[7:8]).all()
    assert row["threshold"].shape == ()


def test_held_out_samples_are_spread_and_the_same_every_time():
    source = (
        np.concatenate([DATA, DATA])[:140] + np.arange(140, dtype=np.float32)[:, None, None, None]
    )
    read = samples(source, [X], "none")

    calibration, held_out = read.split(40)

    assert (calibration.count, held_out.count) == (100, 40)
    indices = [group.start for group in held_out.given]
    assert indices[:5] == [0, 3, 7, 10, 14]
    assert sorted([*(group.start for group in calibration.given), *indices]) == list(range(140))
    assert held_out.given == read.split(40)[1].given
    with pytest.raises(UsageError, match="140 samples cannot be held out of 140"):
        read.split(140)


@pytest.mark.parametrize("count", [0, 1, 99])
@pytest.mark.parametrize("kind", [list, iter])
def test_fewer_than_a_hundred_samples_are_too_few(count, kind):
    with pytest.raises(UsageError) as caught:
        samples(kind(list(DATA[:count])), [X], "none")

    assert str(caught.value) == (
        f"INT8 calibration requires at least 100 samples; there are {count}"
    )
    assert caught.value.exit_code == EXIT_USAGE


def test_another_precision_is_named():
    with pytest.raises(UsageError, match=r"^INT4 calibration requires at least 100 samples"):
        samples(DATA[:7], [X], "none", precision="int4")


def changed(index: int, value: object) -> list[object]:
    return [value if place == index else row for place, row in enumerate(DATA)]


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.zeros((1, 3, 6, 6), np.float32), r"expected \(1,3,4,5\), got \(1,3,6,6\)"),
        (np.zeros((3, 4, 5), np.uint8), "holds real numbers, this is uint8"),
        (np.full((3, 4, 5), np.nan, np.float32), "NaN or infinite values in input 'x'"),
        (np.full((3, 4, 5), 1e300), "NaN or infinite values in input 'x'"),
        ({"y": DATA[0], "z": DATA[0]}, "no array for input x, only y, z"),
        ({"y": DATA[0]}, "no array for input x, only y"),
        ((DATA[0], 3), r"2 arrays, the model takes 1 \(x\)"),
        ("photo.jpg", "this is <U9"),
        (None, "this is object"),
    ],
)
def test_a_sample_that_does_not_fit_names_itself_and_says_why(value, why, kind):
    with pytest.raises(InputError, match=f"calibration sample 41: .*{why}"):
        list(samples(kind(changed(41, value)), [X], "none"))


def test_a_row_of_a_file_that_is_not_finite_is_named(tmp_path):
    data = DATA.copy()
    data[17, 0, 0, 0] = np.inf
    np.save(tmp_path / "data.npy", data)

    with pytest.raises(InputError, match=r"data\.npy: sample 17: NaN or infinite"):
        list(samples(tmp_path / "data.npy", [X], "none"))


def test_as_many_samples_of_each_input_are_needed():
    with pytest.raises(
        InputError, match="not as many samples of each input: 100 of 'x', 99 of 'ids'"
    ):
        samples({"x": DATA, "ids": TOKENS[:99]}, [X, IDS], "none")


def test_one_array_without_a_name_does_not_fit_two_inputs(tmp_path):
    with pytest.raises(InputError, match=r"one array without a name, the model takes 2 \(x, ids\)"):
        samples(write_npy(tmp_path), [X, IDS], "none")


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((120, 3, 2, 5), r"expected \(N,3,4,5\), got \(120,3,2,5\)"),
        ((120, 1, 3, 2, 5), r"expected \(N,1,3,4,5\), got"),
        ((120, 3), r"expected \(1,3,4,5\), got"),
    ],
)
def test_the_axis_that_counts_samples_may_have_any_size(shape, wanted):
    with pytest.raises(InputError, match=wanted):
        samples(np.zeros(shape, np.float32), [X], "none")


def test_a_broken_image_names_itself(tmp_path):
    for value in range(100):
        Image.new("RGB", (5, 4)).save(tmp_path / f"{value:03d}.png")
    (tmp_path / "050.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")

    with pytest.raises(FileError, match=r"050\.png: not a readable image"):
        list(samples(tmp_path, [X], "none"))


def test_images_do_not_fit_two_inputs(tmp_path):
    with pytest.raises(UsageError, match="images fit a model of one input"):
        samples(tmp_path, [X, IDS], "none")


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="no images in this folder"):
        samples(tmp_path, [X], "none")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "neither .npy, .npz, .safetensors nor a folder of images"),
        (b"hello, this is text", "neither"),
        (b"\x93NUMPY\x01\x00", "not a readable .npy file"),
        (b"PK\x03\x04 and no more", "not a readable .npz file"),
        (b"\x20\0\0\0\0\0\0\0{", "not a readable .safetensors file"),
    ],
)
def test_a_malformed_file_is_a_file_error(content, why, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(content)

    with pytest.raises(FileError, match=f"data: {why}"):
        samples(path, [X], "none")


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "data.npy", np.array([object()] * 100), allow_pickle=True)

    with pytest.raises(FileError, match="not a readable"):
        samples(tmp_path / "data.npy", [X], "none")


def test_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match=r"nowhere\.npy: No such file"):
        samples(tmp_path / "nowhere.npy", [X], "none")


def test_what_cannot_be_iterated_is_refused():
    with pytest.raises(UsageError, match="calibration data: int is not iterable"):
        samples(3, [X], "none")


@pytest.mark.parametrize("kind", ["generator", "npy", "npz"])
def test_samples_do_not_gather_in_memory(kind, tmp_path):
    big = InputSpec("x", (1, 3, 128, 128))
    one_bytes = 3 * 128 * 128 * 4
    source = (np.full(big.shape, index, np.float32) for index in range(100))
    if kind != "generator":
        path = tmp_path / f"data.{kind}"
        data = np.concatenate(list(source))
        np.save(path, data) if kind == "npy" else np.savez(path, data)
        del data
    tracemalloc.start()

    for _ in samples(source if kind == "generator" else path, [big], "none"):
        pass

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 20 * one_bytes


def test_a_safetensors_file_of_halves(tmp_path):
    save_torch_file({"x": torch.from_numpy(DATA).half()}, tmp_path / "data.safetensors")

    row = next(iter(samples(tmp_path / "data.safetensors", [X], "none")))

    assert (row["x"] == DATA[:1].astype(np.float16)).all()


def test_an_iterator_is_asked_once_however_often_its_samples_are_needed():
    asked = []
    source = (asked.append(1) or row for row in DATA)

    first = samples(replayable(source), [X], "none")
    twos = samples(replayable(source), [InputSpec("x", (2, 3, 4, 5))], "none")

    assert len(asked) == 100
    assert [next(iter(each))["x"].shape for each in (first, twos)] == [(1, 3, 4, 5), (2, 3, 4, 5)]
    assert np.array_equal(np.concatenate([each["x"] for each in twos]), DATA)


def test_samples_that_were_kept_still_have_to_fit():
    source = iter(DATA)
    samples(replayable(source), [X], "none")

    with pytest.raises(InputError, match="calibration sample 0"):
        samples(replayable(source), [InputSpec("x", (1, 3, 8, 8))], "none")


def test_what_can_be_iterated_again_is_left_as_it_is():
    assert replayable(DATA) is DATA
