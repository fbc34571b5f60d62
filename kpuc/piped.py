"""A model or samples that come through a pipe: a file for as long as they are read."""

import io
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from formats.console import STDIO, read_stdin
from formats.errors import FileError

_PICKLE = b"\x80"  # the first byte of every pickle of protocol 2 on


@contextmanager
def model_file(model: str) -> Iterator[str]:
    """`model` itself, or a temporary file with what stdin holds when it is `-`."""
    if model != STDIO:
        yield model
        return
    data = read_stdin()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"stdin{_suffix(data)}"
        path.write_bytes(data)
        yield str(path)


@contextmanager
def samples_file(samples: str | None) -> Iterator[str | None]:
    """`samples` itself, or a temporary file with the arrays that stdin holds when it is `-`."""
    if samples != STDIO:
        yield samples
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin"
        path.write_bytes(read_stdin())
        yield str(path)


def _suffix(data: bytes) -> str:
    """What a file of these bytes would be called."""
    if data.startswith(_PICKLE):
        return ".pt"
    if data[8:9] == b"{":  # behind the length of its header
        return ".safetensors"
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except zipfile.BadZipFile:
        raise FileError("stdin: neither a .pt2, a .pt nor a .safetensors file") from None
    return ".pt2" if any(name.endswith("models/model.json") for name in names) else ".pt"
