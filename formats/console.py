"""How the three commands conduct themselves: exit codes, one-line errors, what goes where.

A command parses, calls one public function, and prints. stdout carries only what was asked for;
messages and progress go to stderr. This module starts fast: rich is imported when it is needed.
"""

import io
import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.exceptions import TyperException

from formats.errors import (
    EXIT_BAD_FILE,
    EXIT_BUG,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_LIMIT,
    EXIT_USAGE,
    KPUError,
    UsageError,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

JSON_SCHEMA_VERSION = "1.0"
STDIO = "-"

T = TypeVar("T")

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print more on stderr.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", help="Show the Python traceback of an error.")
]


def toolchain_version() -> str:
    """Version of the installed distribution; "0+source" when run from a checkout alone."""
    try:
        return version("kpu-toolchain")
    except PackageNotFoundError:
        return "0+source"


def print_version(wanted: bool) -> None:
    """Callback of `--version`."""
    if wanted:
        typer.echo(f"kpu-toolchain {toolchain_version()}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
]


def run(app: typer.Typer, command: str, arguments: Sequence[str] | None = None) -> int:
    """Run a typer app and return its exit code; every failure is one line on stderr.

    arguments: without the program name; None takes the process's own.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _print_any_text()
    try:
        result = typer.main.get_command(app).main(words, prog_name=command, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_closed_pipe()
        return EXIT_DONE
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BaseException as error:
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
            _leave_closed_pipe()  # typer catches it before us
            return EXIT_DONE
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if "--traceback" in words:
            traceback.print_exc()
        code, message = _explain(error)
        if isinstance(error, OSError):
            _leave_closed_pipe()  # a full disk refuses what is buffered once more
        print(f"{command}: error: {message}", file=sys.stderr)
        return code
    return result if isinstance(result, int) else EXIT_DONE


def _print_any_text() -> None:
    """A locale without our signs shows a ? in their place, and is no reason to fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _explain(error: BaseException) -> tuple[int, str]:
    if isinstance(error, KPUError):
        return error.exit_code, str(error)
    if isinstance(error, TyperException):
        return EXIT_USAGE, " ".join(error.format_message().split())
    if isinstance(error, OSError) and error.strerror is not None:
        return EXIT_BAD_FILE, f"{error.filename or 'stdin or stdout'}: {error.strerror}"
    if isinstance(error, MemoryError):
        return EXIT_LIMIT, "this computer has not enough memory for it"
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return EXIT_BUG, f"internal error, a bug of ours: {what} (--traceback shows where)"


def _leave_closed_pipe() -> None:
    """The reader went away: drop what is buffered, so that the interpreter's exit is silent too."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_of(value: str, allowed: Iterable[str], option: str) -> str:
    """`value` when it is allowed, else a UsageError that lists what is and suggests the nearest."""
    from difflib import get_close_matches

    choices = list(allowed)
    if value in choices:
        return value
    near = get_close_matches(value.lower(), choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{option}: {value!r} is not one of {', '.join(choices)}{hint}")


def read_stdin() -> bytes:
    """All of stdin, for a file given as `-`."""
    return sys.stdin.buffer.read()


def write_stdout(data: bytes) -> None:
    """Binary data to stdout, refused when stdout is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("refusing to write binary data to a terminal; redirect it or name a file")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def print_json(command: str, payload: dict[str, Any]) -> None:
    """One JSON document on stdout, with its schema version and finite numbers only."""
    sys.stdout.write(json_text(command, payload))


def json_text(command: str, payload: dict[str, Any]) -> str:
    """The document that `print_json` prints."""
    document = {"schema_version": JSON_SCHEMA_VERSION, "command": command, **payload}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def size_text(size_bytes: int) -> str:
    """Bytes for a person: 900 B, 12.5 KiB, 3.1 MiB."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    if size_bytes < 1024 * 1024:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{size_bytes / (1024 * 1024):.1f} MiB"


def require_different(source: str, target: str) -> None:
    """Refuse to write a file over the one that it is made from."""
    if STDIO in (source, target):
        return
    if Path(target).exists() and Path(target).resolve() == Path(source).resolve():
        raise UsageError(f"{target}: the output would overwrite the input")


def require_distinct(targets: Mapping[str, str | None]) -> None:
    """Refuse to write two outputs to one file or to stdout. targets: path by option."""
    taken: dict[str, str] = {}
    for option, target in targets.items():
        if target is None or (Path(target).exists() and not Path(target).is_file()):
            continue  # several may go to /dev/null
        place = target if target == STDIO else str(Path(target).resolve())
        if place in taken:
            raise UsageError(f"{taken[place]} and {option} both name {target}")
        taken[place] = option


@dataclass(frozen=True)
class Terminal:
    """Where messages for a person go: stderr, in colour when it is a terminal."""

    quiet: bool = False
    verbose: bool = False

    def console(self) -> "Console":
        """A rich console on stderr; it honours NO_COLOR and TERM by itself."""
        from rich.console import Console

        return Console(stderr=True, quiet=self.quiet, highlight=False)

    def note(self, text: str) -> None:
        """A line that --quiet silences."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def detail(self, text: str) -> None:
        """A line that only --verbose shows."""
        if self.verbose and not self.quiet:
            print(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """A warning; --quiet does not hide it."""
        print(f"warning: {text}", file=sys.stderr)

    def show(self, renderable: "RenderableType") -> None:
        """A rich table or panel on stderr."""
        self.console().print(renderable)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """`items` with a progress bar, on a terminal only."""
        if self.quiet or not sys.stderr.isatty():
            return items
        from rich.progress import track

        return track(items, description, total=total, console=self.console(), transient=True)
