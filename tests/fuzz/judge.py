"""What reading any file may do: give the right answer or one of the project's own errors, within
2 s of processor time and twice the file plus 64 MiB of memory."""

import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from formats.errors import KPUError

MOST_SECONDS = 2  # of the processor: nothing fails because others are at work
SLACK_BYTES = 64 << 20
MOST_MAPPED_BYTES = 4 << 30  # a runaway ends in a MemoryError, not in the end of the tests
STATUS = Path("/proc/self/statm")


class Broken(BaseException):
    """A reader did what it must not do; no `except Exception` of a reader hides it."""


def outcome(read: Callable[[bytes], Any], data: bytes) -> str:
    """ "read", or the name of the project's error; whatever else is raised is a bug of ours."""
    with within_bounds(len(data)):
        try:
            read(data)
        except KPUError as error:
            if not str(error).strip():
                raise Broken("an error that does not say what is wrong") from error
            return type(error).__name__
    return "read"


@contextmanager
def within_bounds(file_bytes: int) -> Iterator[None]:
    """Broken if the block computes for more than 2 s or holds more than twice the file + 64 MiB."""
    before, peak = _resident_bytes(), _peak_bytes()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space_bytes() + MOST_MAPPED_BYTES, limits[1]))
    previous = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    reached = _peak_bytes()  # an older peak hides at most what was allowed then
    if reached > peak and reached - before > 2 * file_bytes + SLACK_BYTES:
        raise Broken(f"{reached - before:,} bytes of memory for a file of {file_bytes:,}")


def _too_long(*_: object) -> None:
    raise Broken(f"more than {MOST_SECONDS} s")


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _resident_bytes() -> int:
    return _pages(1) if STATUS.exists() else _peak_bytes()  # elsewhere the peak is all there is


def _address_space_bytes() -> int:
    return _pages(0) if STATUS.exists() else 0


def _pages(field: int) -> int:
    return int(STATUS.read_text().split()[field]) * resource.getpagesize()
