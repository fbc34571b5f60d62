"""TOML files that a user writes: machines, budgets, spaces of sweeps. Small, and read as untrusted.

Python's reader takes memory that grows with the square of a dotted key's parts, and whole numbers
of any length from hexadecimal digits; both are refused here, before and after it.
"""

import re
import tomllib
from collections.abc import Iterable
from typing import Any

from formats.errors import FileError
from formats.files import Source, read_file

MAX_TOML_BYTES = 256 * 2**10
MAX_KEY_PARTS = 16
MAX_NESTING = 100
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w.-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}")


def read_toml(source: Source) -> dict[str, Any]:
    """The document of a path, of stdin (`-`) or of bytes; every whole number fits 64 bits.

    FileError for what cannot be read or is no TOML.
    """
    label = "stdin" if isinstance(source, bytes) or str(source) == "-" else str(source)
    view = read_file(source)
    if len(view) > MAX_TOML_BYTES:
        raise FileError(f"{label}: larger than such a file can be ({MAX_TOML_BYTES:,} bytes)")
    try:
        text = bytes(view).decode()
        if _LONG_KEY.search(text):
            raise ValueError(f"a key of more than {MAX_KEY_PARTS} parts")
        document = tomllib.loads(text)
        _require_small(document)
    except (ValueError, RecursionError) as error:  # of TOML or UTF-8
        raise FileError(f"{label}: {error}") from error
    return document


def _require_small(document: dict[str, Any]) -> None:
    level: list[tuple[str, Any]] = [("", document)]
    for _ in range(MAX_NESTING):
        level = [part for name, value in level for part in _parts(name, value)]
        for name, value in level:
            if isinstance(value, int) and abs(value) >= 2**63:
                raise ValueError(f"{name}: whole numbers must lie between -2^63 and 2^63")
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_NESTING}")


def _parts(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    """The values in a table or a list, each with its dotted key."""
    if isinstance(value, dict):
        return [(f"{name}.{key}" if name else key, part) for key, part in value.items()]
    return [(name, part) for part in value] if isinstance(value, list) else ()
