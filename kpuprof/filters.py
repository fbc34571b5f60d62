"""Numbers as a person reads them, always with a unit; the filters of the report's templates."""

from collections.abc import Sequence

from formats.console import size_text

__all__ = ["FILTERS", "size_text"]

THIN = "\u202f"  # narrow no-break space between a number and its unit


def count(value: float) -> str:
    """1,234,567"""
    return f"{value:,.0f}"


def signed(value: float) -> str:
    """+1,234, with a real minus."""
    return f"{value:+,.0f}".replace("-", "−")


def mode_text(mode: str) -> str:
    """How a run was timed."""
    return mode.replace("_", " ")


def short_count(value: float) -> str:
    """12.3 M, 4.5 k"""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{_significant(value / factor)}{THIN}{unit}"
    return f"{value:,.0f}"


def time_text(microseconds: float) -> str:
    """Microseconds as ns, µs, ms or s."""
    for factor, unit in ((1e6, "s"), (1e3, "ms"), (1, "µs")):
        if abs(microseconds) >= factor:
            return f"{_significant(microseconds / factor)}{THIN}{unit}"
    return f"{_significant(microseconds * 1000)}{THIN}ns" if microseconds else f"0{THIN}µs"


def energy_text(microjoules: float) -> str:
    """Microjoules as nJ, µJ, mJ or J."""
    for factor, unit in ((1e6, "J"), (1e3, "mJ"), (1, "µJ")):
        if abs(microjoules) >= factor:
            return f"{_significant(microjoules / factor)}{THIN}{unit}"
    return f"{_significant(microjoules * 1000)}{THIN}nJ" if microjoules else f"0{THIN}µJ"


def power_text(watts: float) -> str:
    """Watts."""
    return f"{watts:.2f}{THIN}W"


def share_text(share: float) -> str:
    """0–1 as per cent."""
    percent = share * 100
    return f"{percent:.1f}{THIN}%" if percent >= 0.05 or not percent else f"<0.1{THIN}%"


def change_text(change: float | None) -> str:
    """+12.3 %, with a real minus."""
    if change is None:
        return "–"
    return f"{change * 100:+.1f}{THIN}%".replace("-", "−")


def decibels(value: float | None) -> str:
    """dB, a dash for none."""
    return "–" if value is None else f"{value:.1f}{THIN}dB"


def bytes_text(value: float) -> str:
    """Bytes with a binary unit."""
    return size_text(int(value)).replace(" ", THIN)


def rate_text(value: float) -> str:
    """Per second."""
    return f"{_significant(value)}{THIN}/s"


def bound_text(bound_by: str) -> str:
    """What limits an op, in words."""
    words = {"vector": "vector lanes", "dram": "DRAM", "sram": "block mover", "none": "–"}
    return words.get(bound_by, bound_by)


def figure_text(value: float, unit: str) -> str:
    """By the name of the unit, as comparisons carry it."""
    texts = {
        "us": time_text,
        "uj": energy_text,
        "watts": power_text,
        "share": share_text,
        "bytes": bytes_text,
        "rate": rate_text,
        "count": count,
    }
    return texts[unit](value)


def shortened(text: str, length: int) -> str:
    """At most so many characters: the end of a name tells ops apart, so the middle goes."""
    if len(text) <= length:
        return text
    head = (length - 1) // 3
    return f"{text[:head]}…{text[-(length - 1 - head) :]}"


def least(values: Sequence[float | None], most: int = 8) -> list[int]:
    """Places of the smallest that are known, the smallest first."""
    known = [place for place, value in enumerate(values) if value is not None]
    return sorted(known, key=lambda place: values[place] or 0.0)[:most]


def _significant(value: float) -> str:
    """Three digits at least, no exponent: 1,234 · 12.3 · 1.23."""
    magnitude = abs(value)
    return f"{value:,.0f}" if magnitude >= 100 else f"{value:.{1 if magnitude >= 10 else 2}f}"


FILTERS = {
    "count": count,
    "signed": signed,
    "mode": mode_text,
    "short_count": short_count,
    "time": time_text,
    "energy": energy_text,
    "power": power_text,
    "percent": share_text,
    "change": change_text,
    "decibels": decibels,
    "bytes": bytes_text,
    "rate": rate_text,
    "bound": bound_text,
    "figure": figure_text,
    "shortened": shortened,
    "least": least,
}
