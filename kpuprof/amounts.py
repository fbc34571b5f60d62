"""Amounts with units: read from what a person types, written so that unequal ones look unequal.

Read as exact fractions: 2.9 % of 1000 is 29, and 29 is not more than that.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

from formats.console import size_text
from formats.errors import UsageError

AMOUNT = re.compile(r"([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:e([-+]?[0-9]{1,2}))?\s*(\D*)")

# Unit of a figure -> what may be written behind a number -> in the figure's own unit.
TIMES = {"ns": Fraction(1, 1000), "us": Fraction(1), "µs": Fraction(1)}
TIMES |= {"ms": Fraction(1000), "s": Fraction(10**6)}
ENERGIES = {"pJ": Fraction(1, 10**6), "nJ": Fraction(1, 1000), "uJ": Fraction(1)}
ENERGIES |= {"µJ": Fraction(1), "mJ": Fraction(1000), "J": Fraction(10**6)}
UNITS: dict[str, dict[str, Fraction]] = {
    "cycles": {"cycles": Fraction(1)},
    "us": TIMES,
    "uj": ENERGIES,
    "mj": {unit: scale / 1000 for unit, scale in ENERGIES.items()},
    "watts": {"mW": Fraction(1, 1000), "W": Fraction(1)},
    "bytes": {"B": Fraction(1), "KiB": Fraction(2**10), "MiB": Fraction(2**20)}
    | {"GiB": Fraction(2**30)},
    "rate": {"/s": Fraction(1)},
    "share": {"%": Fraction(1, 100)},
    "db": {"dB": Fraction(1)},
    "count": {},
}
OWN = {
    "cycles": " cycles",
    "us": " µs",
    "uj": " µJ",
    "mj": " mJ",
    "watts": " W",
    "bytes": " B",
    "rate": "/s",
    "share": "",
    "db": " dB",
    "count": "",
}


@dataclass(frozen=True)
class Amount:
    """A limit as it was written. is_relative: `value` is a share of a figure (0.02 for 2 %)."""

    value: Fraction
    text: str
    is_relative: bool = False


def amount(text: str, unit: str, where: str) -> Amount:
    """A number in the figure's own unit, or with one of its units behind it.

    unit: a key of UNITS. where: what the message of a UsageError starts with.
    """
    number, suffix = _parts(text, unit, where)
    scale = UNITS[unit].get(suffix) if suffix else Fraction(1)
    if scale is None:
        raise UsageError(f"{where}: {text.strip()!r} is not an amount: {_expected(unit)}")
    return Amount(number * scale, text.strip())


def change_amount(text: str, unit: str, where: str) -> Amount:
    """As `amount`; but a percentage is one of the figure that is compared with."""
    number, suffix = _parts(text, unit, where)
    if suffix == "%":
        return Amount(number / 100, text.strip(), is_relative=True)
    return amount(text, unit, where)


def _parts(text: str, unit: str, where: str) -> tuple[Fraction, str]:
    match = AMOUNT.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{where}: {text.strip()!r} is not an amount: {_expected(unit)}")
    return Fraction(match[1]) * Fraction(10) ** int(match[2] or 0), match[3]


def _expected(unit: str) -> str:
    units = [name for name in UNITS[unit] if name.isascii()]
    return "give a number" + (f", alone or with {' '.join(units)}" if units else " alone")


def exact(value: float) -> Fraction:
    """The decimal number that the file says: its 0.6 is equal to a budget of 0.6."""
    return Fraction(str(value))


def plain(value: Fraction) -> float:
    """A whole number where it is one, so that it is written as one."""
    return value.numerator if value.denominator == 1 else float(value)


def text_of(value: float, unit: str) -> str:
    """For a person, to three or four digits: 1.220 ms, 12.5 KiB, 319,753 cycles."""
    match unit:
        case "bytes":
            return size_text(round(value))
        case "us" | "uj":
            sign = "s" if unit == "us" else "J"
            return f"{value / 1000:,.3f} m{sign}" if abs(value) >= 1000 else f"{value:,.1f} µ{sign}"
        case "cycles" | "count":
            return f"{value:,.0f}{OWN[unit]}"
        case "share":
            return f"{value:.1%}"
        case "watts" | "mj":
            return f"{value:.3f}{OWN[unit]}"
        case _:
            return f"{value:,.1f}{OWN[unit]}"


def change_text(difference: float, unit: str) -> str:
    """With its sign: +1.220 ms, −12.5 KiB; "=" when nothing changed."""
    if not difference:
        return "="
    return ("+" if difference > 0 else "−") + text_of(abs(difference), unit)


def share_text(share: float | None) -> str:
    """A relative change with its sign; empty when there is none, or nothing to compare with."""
    if not share:
        return ""
    if abs(share) < 0.0005:
        return "+<0.1%" if share > 0 else "−<0.1%"
    return f"{share:+,.1%}".replace("-", "−")


def share_beside(share: float, limit: float) -> str:
    """As share_text, with as many digits as show on which side of the limit it is."""
    for digits in (1, 2, 4, 8):
        text = f"{share:+,.{digits}%}"
        if (round(share, digits + 2) > limit) == (share > limit):
            break
    return text.replace("-", "−")


def texts_apart(first: float, second: float, unit: str) -> tuple[str, str]:
    """Both for a person; to the last digit where rounding would make unequal ones look equal."""
    texts = text_of(first, unit), text_of(second, unit)
    if texts[0] != texts[1] or first == second:
        return texts
    return exact_text(first, unit), exact_text(second, unit)


def exact_text(value: float, unit: str) -> str:
    """Every digit: 2,097,216 B, 0.7603953076280754 W."""
    return f"{value:,}{OWN[unit]}"
