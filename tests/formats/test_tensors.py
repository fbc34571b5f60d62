"""The safetensors members: canonical, aligned, not copied, and the same to the library."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from formats import tensors
from formats.codec import STORAGE, encode
from formats.errors import FileError
from formats.precision import DType
from tests.formats.programs import tiny_program

ARRAYS = {
    "flags": np.array([True, False, True]),
    "codes": np.arange(7, dtype=np.uint8),
    "ids": np.array([[-1, 2**40]], np.int64),
    "scale": np.float32(0.5).reshape(()),
    "é": np.ones((2, 3), np.float16),
    "empty": np.zeros((0, 4), np.float64),
}

ANY_ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8),
    hnp.arrays(
        st.sampled_from(["?", "u1", "i1", "u2", "f2", "i4", "f4", "i8", "f8"]),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
    ),
    max_size=6,
)


def header(entries: object) -> bytes:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict:
    return {"a": {"data_offsets": offsets, "dtype": dtype, "shape": shape}}


@given(ANY_ARRAYS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_arrays_come_back_and_the_library_reads_the_same(arrays):
    data = tensors.pack(arrays)
    found, by_library = tensors.unpack(data), safetensors.deserialize(data)
    assert found.keys() == arrays.keys() == dict(by_library).keys()
    for name, entry in by_library:
        assert found[name].dtype == arrays[name].dtype
        np.testing.assert_array_equal(found[name], arrays[name])
        assert tuple(entry["shape"]) == arrays[name].shape
        assert bytes(entry["data"]) == arrays[name].tobytes()


def test_bf16_is_bf16_to_other_readers():
    values = np.float32([1.5, -2, 3.25])
    data = tensors.pack({"w": encode(values, DType.BF16)}, {"w": DType.BF16})
    (loaded,) = safetensors.torch.load(data).values()
    assert loaded.dtype == torch.bfloat16
    assert loaded.tolist() == values.tolist()
    assert tensors.unpack(data)["w"].dtype == STORAGE[DType.BF16]


def test_equal_arrays_give_equal_bytes_in_any_order():
    assert tensors.pack(dict(reversed(ARRAYS.items()))) == tensors.pack(ARRAYS)


def test_arrays_are_views_and_aligned_to_their_elements():
    data = tensors.pack(ARRAYS)
    entries, start = tensors.read_header(data)
    assert start % 64 == 0
    assert all(item.start % tensors.DTYPES[item.label].itemsize == 0 for item in entries.values())
    whole = np.frombuffer(data, np.uint8)
    for name, array in tensors.unpack(data).items():
        assert array.size == 0 or np.shares_memory(array, whole), name
        assert not array.flags.writeable


def test_arrays_that_are_not_contiguous_are_written_in_their_order():
    array = np.arange(12, dtype=np.int32).reshape(3, 4).T
    np.testing.assert_array_equal(tensors.unpack(tensors.pack({"a": array}))["a"], array)


@pytest.mark.parametrize(
    ("array", "dtypes"),
    [
        (np.zeros(1, np.complex64), None),
        (np.zeros(1, ">f4"), None),
        (np.zeros(1, np.float32), {"a": DType.BF16}),
    ],
)
def test_an_array_that_the_format_does_not_have_is_refused(array, dtypes):
    with pytest.raises(ValueError, match="does not hold"):
        tensors.pack({"a": array}, dtypes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\0\0\0\0\0\0",
        b"\xff" * 8 + b"{}",
        header([]) + b"1234",
        header({"__metadata__": {"a": "b"}}),
        header({"a": 1}),
        header(entry(dtype="F128")) + b"1234",
        header(entry(dtype=["F32"])) + b"1234",
        header(entry(shape=[2])) + b"1234",
        header(entry(shape=[-1, -1])) + b"1234",
        header(entry(shape=[True])) + b"1234",
        header(entry(shape=[1.0])) + b"1234",
        header(entry(shape=[1] * 33)) + b"1234",
        header(entry(shape=[2**62, 4])) + b"1234",
        header(entry(offsets=[0, 4, 4])) + b"1234",
        header(entry(offsets=[4, 8])) + b"12345678",
        header(entry()) + b"123",
        header(entry()) + b"12345",
        header({**entry(), "b": entry()["a"]}) + b"1234",
        header({"a": {**entry()["a"], "more": 1}}) + b"1234",
        header(entry(dtype=float("nan"))) + b"1234",
    ],
)
def test_a_malformed_file_is_refused(data):
    with pytest.raises(FileError):
        tensors.unpack(data)


def test_what_the_library_writes_otherwise_is_refused():
    """One content, one way to write it: the same tensors with metadata are other bytes."""
    array = torch.zeros(1)
    assert tensors.unpack(tensors.pack({"a": np.zeros(1, np.float32)}))
    with pytest.raises(FileError):
        tensors.unpack(safetensors.torch.save({"a": array}, {"by": "somebody"}))


def test_duplicate_names_are_refused():
    twice = header(entry()).replace(b'{"a":{', b'{"a":{"data_offsets":[0,4],"dtype":"F32",')
    assert twice != header(entry())
    with pytest.raises(FileError):
        tensors.unpack(twice + b"1234")


def test_deep_nesting_is_refused():
    text = b"[" * 100_000
    with pytest.raises(FileError, match="JSON"):
        tensors.unpack(len(text).to_bytes(8, "little") + text)


def test_the_weights_of_a_program_are_read_by_the_library():
    loaded = safetensors.torch.load(bytes(tiny_program().weights_blob))
    assert {name: tuple(tensor.shape) for name, tensor in loaded.items()} == {
        "weight": (4, 3, 3, 3),
        "bias": (4,),
        "weight.scales": (4,),
    }
