"""Hardware configurations from files and from `--set`, and the published JSON Schema of all files.

Unknown keys are refused with the nearest known one; nothing in a configuration is ever ignored.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from decimal import Decimal
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from formats.config import KPUConfig
from formats.errors import ConfigurationError, FileError, UsageError
from formats.toml import MAX_TOML_BYTES, read_toml

SUFFIXES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
MAX_CONFIG_BYTES = MAX_TOML_BYTES
MAX_INTEGER = 2**63 - 1

T = TypeVar("T")


def presets() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = files("formats") / "presets"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())


def load_config(name_or_path: str | os.PathLike[str]) -> KPUConfig:
    """A preset by name, or a TOML or JSON file by path; what a file does not say keeps its default.

    UsageError for a name that is neither, FileError for a file that cannot be read or has an
    unknown key or a value of the wrong type, ConfigurationError for an inconsistent machine.
    """
    name = os.fspath(name_or_path)
    if name in presets():
        text = (files("formats") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
        return _config(tomllib.loads(text), name)
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        raise UsageError(
            f"--config: {name!r} is neither a preset ({', '.join(presets())}) nor a .toml or "
            f".json file{_suggestion(name, presets())}"
        )
    return _config(_read(path), name)


def override(config: KPUConfig, assignment: str) -> KPUConfig:
    """`config` with one field changed, as `--set` has it: "memory.sram_l2_bytes=4MiB".

    Sizes in bytes take KiB, MiB or GiB, lists are comma-separated. UsageError names the mistake,
    ConfigurationError what the change makes inconsistent.
    """
    key, equals, text = assignment.partition("=")
    key = key.strip()
    if not equals:
        raise UsageError(f"--set: {assignment!r} is not of the form key=value")
    return _validated(changed(config, key, text.strip()), "--set")


def changed(config: KPUConfig, key: str, text: str, where: str = "--set") -> KPUConfig:
    """`config` with the field at a dotted key set to what `text` says; whether the machine is still
    sound is not asked, so that several fields can change one after another.

    where: who says so, for the UsageError that names the mistake.
    """
    try:
        return _with(config, key.split("."), key, text)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {key}: {error}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".toml":
        return read_toml(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_CONFIG_BYTES:
        raise FileError(f"{path}: larger than a configuration can be ({MAX_CONFIG_BYTES:,} bytes)")
    try:
        return _json_object(data)
    except (ValueError, RecursionError) as error:  # of JSON or UTF-8
        raise FileError(f"{path}: {error}") from error


def _json_object(data: bytes) -> dict[str, Any]:
    document = json.loads(data, object_pairs_hook=_without_duplicates)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise ValueError(f"the key {key!r} is there twice")
        unique[key] = value
    return unique


def _config(document: dict[str, Any], where: str) -> KPUConfig:
    _refuse_unknown_keys(document, KPUConfig(), where, prefix="")
    try:
        config = msgspec.convert(document, KPUConfig)
    except msgspec.ValidationError as error:
        raise FileError(f"{where}: {error}") from error
    return _validated(config, where)


def _refuse_unknown_keys(document: dict[str, Any], record: Any, where: str, prefix: str) -> None:
    known = [field.name for field in fields(record)]
    for key, value in document.items():
        if key not in known:
            raise FileError(f"{where}: unknown key {prefix + key!r}{_suggestion(key, known)}")
        current = getattr(record, key)
        if is_dataclass(current) and isinstance(value, dict):
            _refuse_unknown_keys(value, current, where, f"{prefix}{key}.")


def _validated(config: KPUConfig, where: str) -> KPUConfig:
    problems = config.validate()
    if problems:
        raise ConfigurationError(f"{where}: {'; '.join(problems)}")
    return config


def _suggestion(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _with(record: T, path: Sequence[str], key: str, text: str) -> T:
    """`record` with the field at `path` set to what `text` says, by the types of its class."""
    name, *rest = path
    known = [field.name for field in fields(record)]  # type: ignore[arg-type]  # a dataclass
    if name not in known:
        raise UsageError(f"unknown key {key!r}{_suggestion(name, known)}")
    current = getattr(record, name)
    if is_dataclass(current) and not rest:
        inside = ", ".join(field.name for field in fields(current))
        raise UsageError(f"{key!r} is a group; name one of {inside}")
    if rest and not is_dataclass(current):
        raise UsageError(f"{name!r} in {key!r} is a value, not a group")
    value = _with(current, rest, key, text) if rest else _parsed(text, current, name)
    plain = asdict(value) if rest else value
    changed = {**asdict(record), name: plain}  # type: ignore[call-overload]  # a dataclass
    return msgspec.convert(changed, type(record))


def _parsed(text: str, current: Any, name: str) -> Any:
    """The value that `text` stands for, given the value it replaces."""
    if isinstance(current, bool):
        if text.lower() not in ("true", "false"):
            raise UsageError(f"{name}: {text!r} is neither true nor false")
        return text.lower() == "true"
    if isinstance(current, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(current, str):
        return text
    number = _number(text, SUFFIXES if "bytes" in name else {"": 1})
    if isinstance(current, int) and (number is None or abs(number) > MAX_INTEGER or number % 1):
        units = ", or one of KiB, MiB and GiB" if "bytes" in name else ""
        raise UsageError(f"{name}: {text!r} is not a whole number{units}")
    if number is None:
        raise UsageError(f"{name}: {text!r} is not a number")
    return int(number) if isinstance(current, int) else float(number)


def _number(text: str, suffixes: Mapping[str, int]) -> Decimal | None:
    match = re.fullmatch(r"([-+0-9._eE]+)\s*([A-Za-z]*)", text)
    if match is None or match[2] not in suffixes:
        return None
    try:
        return Decimal(match[1]) * suffixes[match[2]]
    except ArithmeticError:  # no number, or one beyond any exponent
        return None
