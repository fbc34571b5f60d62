"""The errors a user of the toolchain can meet, each with the exit code a command ends with.

Every reader, compiler pass and runtime raises one of these for a user's mistake; anything else
that escapes is a bug of ours. The messages of the document's table are built here and nowhere else.
"""

from collections.abc import Sequence

EXIT_DONE = 0
EXIT_CHECK_FAILED = 1
EXIT_USAGE = 2
EXIT_BAD_FILE = 3
EXIT_UNSUPPORTED = 4
EXIT_LIMIT = 5
EXIT_TRUST = 6
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class KPUError(Exception):
    """Base of every error a user can meet; `exit_code` is what a command ends with."""

    exit_code = EXIT_UNSUPPORTED


class CheckError(KPUError):
    """A gate or check that the user asked for did not hold."""

    exit_code = EXIT_CHECK_FAILED


class UsageError(KPUError):
    """An argument or option does not make sense."""

    exit_code = EXIT_USAGE


class InputError(UsageError):
    """An input array does not fit the program."""


class FileError(KPUError):
    """A file is missing, unreadable, malformed or of the wrong version."""

    exit_code = EXIT_BAD_FILE


class CompilationError(KPUError):
    """The model cannot be compiled for this configuration."""


class ConfigurationError(KPUError):
    """The hardware configuration is inconsistent or cannot do what is asked."""


class UnsupportedOpError(CompilationError):
    """The model contains operators that the machine cannot execute.

    `ops` are the operator names; `details` one line each with the reason and the source line.
    """

    def __init__(self, ops: Sequence[str], details: Sequence[str] = ()) -> None:
        self.ops = list(ops)
        self.details = list(details)
        headline = f"Unsupported operators: {', '.join(self.ops)}"
        super().__init__("\n".join([headline, *(f"  {detail}" for detail in self.details)]))


class LimitError(KPUError):
    """A limit other than a memory size is exceeded."""

    exit_code = EXIT_LIMIT


class MemoryError(KPUError):
    """The program needs more of one memory than the machine has; sizes in bytes."""

    exit_code = EXIT_LIMIT

    def __init__(self, required: int, available: int, memory_type: str) -> None:
        self.required = required
        self.available = available
        self.memory_type = memory_type
        super().__init__(
            f"{memory_type} memory exceeded: "
            f"{_in_kilobytes(required)} required, {_in_kilobytes(available)} available"
        )

    def __reduce__(self) -> tuple[type["MemoryError"], tuple[int, int, str]]:
        return type(self), (self.required, self.available, self.memory_type)


class TrustError(KPUError):
    """Loading the file would run code that the user has not agreed to."""

    exit_code = EXIT_TRUST


def shape_mismatch(expected: Sequence[int | str], got: Sequence[int], name: str = "") -> InputError:
    """The document's message for an input of the wrong shape; a name stands for any size."""
    where = f" (input {name!r})" if name else ""
    return InputError(
        f"Input shape mismatch: expected {_shape_text(expected)}, got {_shape_text(got)}{where}"
    )


def too_few_calibration_samples(precision: str = "int8") -> UsageError:
    """The document's message for a calibration set of fewer than 100 samples."""
    return UsageError(f"{precision.upper()} calibration requires at least 100 samples")


def _shape_text(shape: Sequence[int | str]) -> str:
    return "(" + ",".join(str(size) for size in shape) + ")"


def _in_kilobytes(size_bytes: int) -> str:
    return f"{-(-size_bytes // 1024)}KB"
