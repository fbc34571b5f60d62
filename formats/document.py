"""The JSON members: canonical text, decoded straight into the data classes.

Canonical is what Python's json module writes with sorted keys, no white space, UTF-8 and finite
numbers; a reader encodes what it decoded again and compares, which refuses duplicate keys, unknown
fields and every other second way of writing the same content.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec
import numpy as np

from formats.errors import FileError
from formats.profile import Profile
from formats.program import KPUProgram

MAX_JSON_BYTES = 256 * 2**20
MAX_NESTING = 32
MANY_DIGITS = re.compile(rb"[0-9]{19}")  # without them, every whole number fits 64 bits

T = TypeVar("T")


@cache
def program_document() -> type[Any]:
    """The JSON of a program: its class without the weights, which are a member of their own."""
    return _without(KPUProgram, "weights_blob", {})


@cache
def profile_document() -> type[Any]:
    """The JSON of a profile: its class without the events, and its program without weights."""
    return _without(Profile, "events", {"program": program_document()})


def encode(content: object, kind: type[Any]) -> bytes:
    """Canonical JSON of the fields that `kind` has. ValueError names what is not of its type.

    The content passes through `kind`'s types, so that a whole number in a float field is written
    as the float that a reader will find.
    """
    names = [f.name for f in fields(kind)]
    try:
        plain = {name: _plain(getattr(content, name)) for name in names}
        return canonical(_plain(msgspec.convert(plain, kind)))
    except (msgspec.MsgspecError, TypeError, RecursionError) as error:
        raise ValueError(f"not content of a {kind.__name__}: {error}") from error


def _plain(value: object) -> Any:
    """JSON values; bytes stay what JSON does not have, instead of turning into text."""
    return msgspec.to_builtins(value, builtin_types=(bytes, bytearray))


def canonical(plain: object) -> bytes:
    """Canonical JSON of plain values. ValueError for infinities, NaN and broken text."""
    text = json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def decode(raw: bytes | memoryview, kind: type[T], name: str, exact: bool) -> T:
    """Typed content of the canonical JSON of member `name`, or FileError.

    exact: the file is of our own version, so that its fields are ours, all of them and no more.
    """
    if len(raw) > MAX_JSON_BYTES:
        raise FileError(f"{name}: larger than {MAX_JSON_BYTES:,} bytes")
    data = bytes(raw)
    try:
        content = msgspec.json.decode(data, type=kind)
        plain = msgspec.to_builtins(content) if exact else msgspec.json.decode(data)
        is_canonical = canonical(plain) == data
        is_too_wide = MANY_DIGITS.search(data) is not None and _has_wide_integer(plain)
    except (ValueError, RecursionError) as error:  # DecodeError and UnicodeError among them
        raise FileError(f"{name}: {error}") from error
    if not is_canonical:
        raise FileError(f"{name}: not canonical JSON, or with unknown fields")
    if is_too_wide:
        raise FileError(f"{name}: a whole number that does not fit 64 bits")
    return content


def _has_wide_integer(plain: Any) -> bool:
    if isinstance(plain, dict):
        return any(map(_has_wide_integer, plain.values()))
    if isinstance(plain, list | tuple):
        return any(map(_has_wide_integer, plain))
    return isinstance(plain, int) and not -(2**63) <= plain < 2**63


def frozen(value: Any, name: str, depth: int = 0) -> Any:
    """Free-form JSON with its lists as tuples, as the data classes have them."""
    if depth > MAX_NESTING:
        raise FileError(f"{name}: nested deeper than {MAX_NESTING}")
    if isinstance(value, list):
        return tuple(frozen(item, name, depth + 1) for item in value)
    if isinstance(value, dict):
        return {key: frozen(item, name, depth + 1) for key, item in value.items()}
    return value


def _without(kind: type[Any], omitted: str, replaced: Mapping[str, type[Any]]) -> type[Any]:
    """A data class with the same fields but one, some of another type.

    All data classes have slots: only then does msgspec write the defaults into what it decodes.
    """
    hints = {**get_type_hints(kind, localns={"np": np}), **replaced}
    columns = [
        (f.name, hints[f.name], field(default=f.default, default_factory=f.default_factory))
        for f in fields(kind)
        if f.name != omitted
    ]
    return make_dataclass(
        kind.__name__, columns, frozen=True, slots=True, namespace={"__doc__": kind.__doc__}
    )
