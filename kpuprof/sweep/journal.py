"""The results file: a line of JSON per result, appended and flushed as each is computed.

A sweep may be killed at any moment: what is half a line then is cut off by the next run, and every
whole line counts. One sweep at a time writes to a file, so that no result is there twice.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from formats.errors import FileError, UsageError
from kpuprof.sweep.result import Result, from_line, to_line


class Journal:
    """Results by key, those of earlier runs and those that `append` adds."""

    def __init__(self, file: BinaryIO | None, results: dict[str, Result]) -> None:
        self._file = file
        self.results = results

    def append(self, result: Result) -> None:
        """Keep a result; when this returns, it outlives the process."""
        if result.key in self.results:
            raise ValueError(f"{result.key} is there already")
        if self._file is not None:
            _write(self._file.fileno(), to_line(result))
        self.results[result.key] = result


def _write(descriptor: int, line: bytes) -> None:
    """Without a buffer, which would be written a second time on the way out of an error."""
    while line:
        line = line[os.write(descriptor, line) :]
    os.fsync(descriptor)


@contextmanager
def open_journal(path: Path | None) -> Iterator[Journal]:
    """The results file with all that is in it; None keeps results in memory alone.

    FileError where it cannot be read, written, or holds something else; UsageError while another
    sweep writes to it.
    """
    if path is None:
        yield Journal(None, {})
        return
    try:
        file = path.open("a+b")
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    with file:
        _lock(file, path)
        yield Journal(file, _recovered(file, path))


def _lock(file: BinaryIO, path: Path) -> None:
    """For this process alone, until it ends in whatever way."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: nothing guards against two sweeps
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path}: another sweep is writing to it") from None


def _recovered(file: BinaryIO, path: Path) -> dict[str, Result]:
    """The results of all whole lines; a line without its end is cut off."""
    file.seek(0)
    whole = 0
    results: dict[str, Result] = {}
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        result = from_line(line, f"{path}: line {number}")
        if result.key in results:
            raise FileError(f"{path}: line {number}: a result that is there already")
        results[result.key] = result
        whole += len(line)
    file.seek(0, os.SEEK_END)
    if file.tell() != whole:
        file.truncate(whole)
    return results
