"""What a program computed as bytes of an .npz, .npy or .safetensors; equal arrays, equal bytes."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import PurePath
from zipfile import ZipFile, ZipInfo

import numpy as np

from formats.errors import UsageError

Arrays = Mapping[str, np.ndarray]

EARLIEST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def encoder_for(target: str) -> Callable[[Arrays], bytes]:
    """How to encode outputs for a file of this name; `-` is an .npz. UsageError for another kind.

    Known before anything runs, so that a wrong name costs no time.
    """
    suffix = ".npz" if target == "-" else PurePath(target).suffix.lower()
    if suffix not in ENCODERS:
        raise UsageError(f"{target}: outputs are written as {', '.join(ENCODERS)}")
    return ENCODERS[suffix]


def _npz(outputs: Arrays) -> bytes:
    """By hand: numpy.savez takes names as keyword arguments, and "file" is one of its own."""
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, array in outputs.items():
            archive.writestr(ZipInfo(f"{name}.npy", EARLIEST_ZIP_DATE), _npy_bytes(array))
    return buffer.getvalue()


def _npy(outputs: Arrays) -> bytes:
    if len(outputs) != 1:
        raise UsageError(f"an .npy holds one array, the program gives {len(outputs)}: use .npz")
    return _npy_bytes(next(iter(outputs.values())))


def _npy_bytes(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _safetensors(outputs: Arrays) -> bytes:
    from safetensors.numpy import save

    return save(dict(outputs))


ENCODERS: dict[str, Callable[[Arrays], bytes]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".safetensors": _safetensors,
}
