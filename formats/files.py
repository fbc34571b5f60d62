"""Whole files in and out: read by mapping, written by replacing, so that none is half there."""

import mmap
import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from formats.errors import FileError

STDIO = "-"
MAX_FILE_BYTES = 2**32 - 1

Source = str | os.PathLike[str] | bytes
Target = str | os.PathLike[str]


def read_file(source: Source) -> memoryview:
    """The bytes of a path, of stdin (`-`), or those given; a regular file is mapped, not copied.

    The mapping outlives a replacement of the file (every writer of ours replaces), not its being
    overwritten in place. FileError when there is nothing to read or more than 4 GiB.
    """
    if isinstance(source, bytes):
        return memoryview(source)
    if os.fspath(source) == STDIO:
        from formats.console import read_stdin  # brings the command-line library

        return memoryview(read_stdin())
    try:
        with Path(source).open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return memoryview(file.read(MAX_FILE_BYTES + 1))
            if status.st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise FileError(f"{source}: {_reason(error)}") from error


def write_file(data: bytes | Iterable[bytes | memoryview], target: Target) -> None:
    """Write all of `data` to a path or none of it; `-` is stdout, refused when it is a terminal.

    The new file comes into being beside the old one and replaces it. What is not a regular file (a
    pipe, /dev/null) is written to directly. FileError when that cannot be done.
    """
    chunks: list[bytes | memoryview] = [data] if isinstance(data, bytes) else list(data)
    if os.fspath(target) == STDIO:
        from formats.console import write_stdout  # brings the command-line library

        write_stdout(b"".join(chunks))
        return
    try:
        path = Path(target)
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.writelines(chunks)
        else:
            _replace(path.resolve(), chunks)  # a link stays one
    except (OSError, ValueError) as error:
        raise FileError(f"{target}: {_reason(error)}") from error


def _replace(path: Path, chunks: list[bytes | memoryview]) -> None:
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # an interrupt too leaves nothing behind
        with suppress(OSError):
            temporary.unlink()
        raise


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def let_go(content: bytes | memoryview | None) -> None:
    """Give back the memory of a mapped file's pages; whoever reads them again reads the file."""
    mapped = content.obj if isinstance(content, memoryview) else None
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
