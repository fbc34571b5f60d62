"""safetensors files written and read in one canonical way, so that equal tensors give equal bytes.

The header is JSON with sorted keys, padded with spaces so that the data starts on a 64-byte
boundary; wider elements come first, so that every tensor is aligned to its own element. The reader
accepts exactly that and copies nothing: arrays are views of the buffer it is given.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from formats.errors import FileError
from formats.precision import DType

ALIGNMENT_BYTES = 64
MAX_RANK = 32  # numpy's before version 2
MAX_HEADER_BYTES = 64 * 2**20
RESERVED_NAME = "__metadata__"  # not a tensor to other readers of this format

Arrays = Mapping[str, np.ndarray]

# What the format calls an element -> the numpy dtype that holds it.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: its bits
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}

# How an element of a program is labelled; formats that safetensors lacks are their codes.
LABELS: dict[DType, str] = {
    DType.INT8: "I8",
    DType.INT4: "U8",
    DType.FP16: "F16",
    DType.BF16: "BF16",
    DType.POSIT8: "U8",
    DType.POSIT16: "U16",
    DType.UINT8: "U8",
    DType.FP32: "F32",
    DType.INT32: "I32",
    DType.INT64: "I64",
    DType.BOOL: "BOOL",
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: label of its elements, shape, and its bytes' range in the data."""

    label: str
    shape: tuple[int, ...]
    start: int
    end: int


def pack(arrays: Arrays, dtypes: Mapping[str, DType] | None = None) -> bytes:
    """The file that holds `arrays`.

    dtypes: what the elements of a tensor are, where numpy's dtype does not say it (bf16 as uint16).
    """
    if RESERVED_NAME in arrays:
        raise ValueError(f"no tensor can be named {RESERVED_NAME}")
    stored = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    labels = {name: _label(array, (dtypes or {}).get(name)) for name, array in stored.items()}
    entries: dict[str, Any] = {}
    offset = 0
    for name in _data_order(labels):
        end = offset + stored[name].nbytes
        shape = list(arrays[name].shape)
        entries[name] = {"data_offsets": [offset, end], "dtype": labels[name], "shape": shape}
        offset = end
    return b"".join([_header(entries), *(stored[name].tobytes() for name in _data_order(labels))])


def unpack(buffer: bytes | memoryview) -> dict[str, np.ndarray]:
    """Arrays by name, each a view of `buffer`. FileError for anything but what `pack` writes."""
    view = memoryview(buffer)
    entries, data_start = read_header(view)
    return {
        name: np.frombuffer(
            view[data_start + entry.start : data_start + entry.end], DTYPES[entry.label]
        ).reshape(entry.shape)
        for name, entry in entries.items()
    }


def read_header(buffer: bytes | memoryview) -> tuple[dict[str, Entry], int]:
    """What the file holds by name, and where its data starts; FileError as for `unpack`."""
    view = memoryview(buffer)
    if len(view) < 8:
        raise FileError("the tensor file is shorter than its header")
    length = int.from_bytes(view[:8], "little")
    if length > min(len(view) - 8, MAX_HEADER_BYTES):
        raise FileError("the tensor header is longer than it can be")
    raw = bytes(view[: 8 + length])
    try:
        document = json.loads(raw[8:])
    except (ValueError, RecursionError) as error:
        raise FileError("the tensor header is not JSON") from error
    if not isinstance(document, dict):
        raise FileError("the tensor header is not a JSON object")
    entries = {name: _entry(name, fields) for name, fields in document.items()}
    if _header(document) != raw:
        raise FileError("the tensor header is not in canonical form")
    _require_gapless(entries, len(view) - len(raw))
    return entries, len(raw)


def _label(array: np.ndarray, dtype: DType | None) -> str:
    label = NAMES.get(array.dtype) if dtype is None else LABELS[dtype]
    if label is None or DTYPES[label] != array.dtype:
        what = "any type" if dtype is None else dtype.value
        raise ValueError(f"an array of {array.dtype} does not hold elements of {what} in a file")
    return label


def _data_order(labels: Mapping[str, str]) -> list[str]:
    return sorted(labels, key=lambda name: (-DTYPES[labels[name]].itemsize, name))


def _header(entries: Mapping[str, Any]) -> bytes:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    padding = -(8 + len(text)) % ALIGNMENT_BYTES
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding


def _entry(name: str, fields: Any) -> Entry:
    """Sizes are Python integers, so that no product can overflow."""
    is_tensor = isinstance(fields, dict) and set(fields) == {"data_offsets", "dtype", "shape"}
    if not is_tensor or name == RESERVED_NAME:
        raise FileError(f"tensor {name!r}: malformed entry")
    label, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(label, str) or label not in DTYPES:
        raise FileError(f"tensor {name!r}: unknown dtype {label!r}")
    if not _is_sizes(shape) or len(shape) > MAX_RANK:
        raise FileError(f"tensor {name!r}: malformed shape")
    if not _is_sizes(offsets) or len(offsets) != 2:
        raise FileError(f"tensor {name!r}: malformed data_offsets")
    start, end = offsets
    if end - start != math.prod(shape) * DTYPES[label].itemsize:
        raise FileError(f"tensor {name!r}: its data is not as long as its shape")
    return Entry(label, tuple(shape), start, end)


def _is_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(size) is int and size >= 0 for size in value)


def _require_gapless(entries: Mapping[str, Entry], data_bytes: int) -> None:
    """Every byte of the data belongs to exactly one tensor, in canonical order."""
    offset = 0
    for name in _data_order({name: entry.label for name, entry in entries.items()}):
        if entries[name].start != offset:
            raise FileError(f"tensor {name!r}: its data is not where it belongs")
        offset = entries[name].end
    if offset != data_bytes:
        raise FileError("the tensor data is not as long as its header says")
