"""Files of samples: the images of a folder, and arrays that are mapped into memory rather than
read, so that their size does not matter.

The kind of arrays is recognised by content; pickled ones are refused.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.errors import FileError

IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .bmp .gif .tif .tiff .webp".split())


def image_paths(folder: Path) -> list[Path]:
    """The images of a folder and of those in it, in order of their names."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def map_arrays(path: Path) -> Mapping[str, Any]:
    """Arrays by name (numpy's, or torch tensors), of an .npy under "arr_0". FileError otherwise.

    An .npz is unpacked into temporary files without names, in $TMPDIR.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if start.startswith(b"\x93NUMPY"):
        return {"arr_0": _map_npy(path, str(path))}
    if start.startswith(b"PK"):
        return _map_npz(path)
    if start[8:9] == b"{":
        return _map_safetensors(path)
    raise FileError(f"{path}: neither .npy, .npz, .safetensors nor a folder of images")


def _map_npy(path: Path, label: str) -> np.ndarray:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise FileError(f"{label}: not a readable .npy file: {_one_line(error)}") from error


def _map_npz(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
            members = archive.infolist()
            if not members or not all(each.filename.endswith(".npy") for each in members):
                raise FileError(f"{path}: a zip file, but not an .npz of arrays")
            unpacked_bytes = sum(member.file_size for member in members)
            if unpacked_bytes > shutil.disk_usage(folder).free:
                raise FileError(
                    f"{path}: unpacks to {unpacked_bytes} bytes, more than {folder} has"
                )
            for place, member in enumerate(members):
                name = member.filename.removesuffix(".npy")
                unpacked = Path(folder) / str(place)
                with archive.open(member) as packed, unpacked.open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
                arrays[name] = _map_npy(unpacked, f"{path}: {name}")
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise FileError(f"{path}: not a readable .npz file: {_one_line(error)}") from error
    return arrays


def _map_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        label = f"{path}: not a readable .safetensors file"
        raise FileError(f"{label}: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
