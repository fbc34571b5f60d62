"""The space of a sweep: a TOML file that names fields of the machine and the values of each.

Every range is a finite list here, so that a point is a tuple of indices and means the same to every
search, to the results file and to the next run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from decimal import Decimal
from math import prod
from pathlib import Path
from typing import Any

from formats.config import KPUConfig
from formats.console import one_of
from formats.errors import UsageError
from formats.precision import KPUPrecision
from formats.schema import changed, load_config, presets
from formats.toml import read_toml

Value = int | float | bool
Point = tuple[int, ...]  # index of the value, per axis

KEYS = ("base", "precision", "vary")
RANGE_KEYS = ("from", "to", "step", "count", "spacing")
SPACINGS = ("linear", "log")
MOST_VALUES = 10_000  # of one axis
MAX_NUMBER = Decimal(2) ** 63


@dataclass(frozen=True)
class Axis:
    """What varies: "precision", or a field of the machine by its dotted name."""

    name: str
    values: tuple[Any, ...]

    @property
    def is_ordered(self) -> bool:
        """Whether neighbours are alike: numbers in order."""
        return not any(isinstance(value, bool | str) for value in self.values)


@dataclass(frozen=True)
class Space:
    """base: the machine of every field that does not vary; precisions: () where the file names
    none; axes: of the fields, in the file's order."""

    base: KPUConfig
    precisions: tuple[KPUPrecision, ...]
    axes: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """How many machines it holds, whatever the precisions."""
        return prod(len(axis.values) for axis in self.axes)

    def config(self, values: Mapping[str, Value]) -> KPUConfig:
        """The machine with these fields, which need not be a sound one."""
        config = self.base
        for name, value in values.items():
            config = changed(config, name, _text(value))
        return config


def read_space(path: str) -> Space:
    """The space that a TOML file describes; `-` is stdin.

    FileError where it cannot be read or is no TOML, UsageError for anything in it that cannot be
    meant: an unknown field, a value that does not fit, a value twice.
    """
    document = read_toml(path)
    for key in document:
        one_of(key, KEYS, path)
    base = load_config(_base(document.get("base", "swkpu-v1"), path))
    precisions = _precisions(document.get("precision", []), path)
    varied = document.get("vary", {})
    if not isinstance(varied, dict) or not varied:
        raise UsageError(f'{path}: nothing varies: give [vary] with "field" = [values]')
    axes = tuple(
        Axis(name, _values(base, name, listed, path)) for name, listed in _leaves(varied, base)
    )
    return Space(base, precisions, axes)


def _base(named: object, path: str) -> str:
    """A preset's name, or a file in the folder of the space's file or below."""
    if not isinstance(named, str) or "\0" in named:
        raise UsageError(f"{path}: base: give the name of a preset or a file")
    if named in presets():
        return named
    folder = Path() if path == "-" else Path(path).parent
    found = folder / named
    if not found.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{path}: base: {named!r} leads out of the folder that the file is in")
    return str(found)


def _precisions(listed: object, path: str) -> tuple[KPUPrecision, ...]:
    names = listed if isinstance(listed, list) else [listed]
    known = [precision.value for precision in KPUPrecision]
    for name in names:
        one_of(str(name), known, f"{path}: precision")
    if len(set(names)) < len(names):
        raise UsageError(f"{path}: precision: a value is there twice")
    return tuple(KPUPrecision(name) for name in names)


def _leaves(
    table: Mapping[str, Any], record: object, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(dotted name, values) of every field, however the file nests its groups."""
    for key, value in table.items():
        inside = getattr(record, key, None)
        if isinstance(value, dict) and is_dataclass(inside):
            yield from _leaves(value, inside, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _values(base: KPUConfig, name: str, listed: object, path: str) -> tuple[Any, ...]:
    where = f"{path}: vary"
    if isinstance(listed, dict):
        listed = _range(listed, f"{where}: {name}")
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{where}: {name}: give a list of values, or a range {{ from, to, step }}")
    if len(listed) > MOST_VALUES:
        raise UsageError(f"{where}: {name}: more than {MOST_VALUES:,} values")
    values = [_field(changed(base, name, _text(value), where), name) for value in listed]
    for value in values:
        if not isinstance(value, Value):
            raise UsageError(
                f"{where}: {name}: only numbers and switches vary; what is fused and laid out is "
                "decided once per model"
            )
    if len(set(values)) < len(values):
        raise UsageError(f"{where}: {name}: a value is there twice")
    return tuple(values)


def _field(config: KPUConfig, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _range(given: Mapping[str, Any], where: str) -> list[Any]:
    """The values from `from` to `to`, both included where the steps meet them."""
    for key in given:
        one_of(key, RANGE_KEYS, where)
    if "from" not in given or "to" not in given or ("step" in given) == ("count" in given):
        raise UsageError(f"{where}: a range has from, to, and step or count")
    low, high = _number(given["from"], where), _number(given["to"], where)
    if not low < high:
        raise UsageError(f"{where}: from must be below to")
    if "step" in given:
        return _steps(low, high, given, where)
    count, spacing = given["count"], one_of(given.get("spacing", "linear"), SPACINGS, where)
    if type(count) is not int or not 2 <= count <= MOST_VALUES:
        raise UsageError(f"{where}: count is a whole number from 2 to {MOST_VALUES:,}")
    if spacing == "linear":
        return [_plain(low + (high - low) * place / (count - 1)) for place in range(count)]
    if low <= 0:
        raise UsageError(f"{where}: spacing log needs from above 0")
    ratio = float(high / low)
    powers = [_plain(low * Decimal(repr(ratio ** (i / (count - 1))))) for i in range(count - 1)]
    return [*powers, _plain(high)]


def _steps(low: Decimal, high: Decimal, given: Mapping[str, Any], where: str) -> list[Any]:
    if "spacing" in given:
        raise UsageError(f"{where}: spacing is for count, not step")
    step = _number(given["step"], where)
    if step <= 0 or (high - low) / step >= MOST_VALUES:
        raise UsageError(f"{where}: step must be positive and give at most {MOST_VALUES:,} values")
    return [_plain(low + step * place) for place in range(int((high - low) / step) + 1)]


def _number(value: object, where: str) -> Decimal:
    """Of a TOML number, or of a size such as "512KiB", as whole bytes."""
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    text, factor = str(value), 1
    if isinstance(value, str) and value[-3:] in units:
        text, factor = value[:-3].strip(), units[value[-3:]]
    try:
        number = Decimal(text) * factor
    except ArithmeticError:
        raise UsageError(f"{where}: {value!r} is not a number") from None
    if isinstance(value, bool) or not number.is_finite() or abs(number) > MAX_NUMBER:
        raise UsageError(f"{where}: {value!r} is not a number")
    return number


def _plain(number: Decimal) -> int | float:
    """A whole number as one; fractions to twelve digits, so that sums do not show their errors."""
    rounded = float(f"{number:.12g}")
    return int(rounded) if rounded == int(rounded) else rounded


def _text(value: object) -> str:
    """A value of TOML as `--set` would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
