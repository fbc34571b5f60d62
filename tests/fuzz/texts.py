"""Mutants of TOML files: lines moved, doubled and lost, values and keys exchanged for others."""

import re
from random import Random

from tests.fuzz.mutants import damaged

VALUES = (
    *("0", "-1", "1", "1e400", "-inf", "nan", "1e-400", "0.1", "9223372036854775807"),
    *("9223372036854775808", "9" * 400, "9" * 5000, "0x" + "f" * 5000, "1e308", "-0.0", "true"),
    *('""', '"512KiB"', '"1e999999999KiB"', '"9e99999 ms"', '"1 GiB"', '"NaN"', '"inf %"'),
    *("[]", "{}", "[1, 2]", "[[1]]", "[nan, nan]", '["a", 1]', "1979-05-27", "07:32:00"),
    *("{ from = 1, to = 2, count = 10000 }", "{ from = 0, to = 1, step = 1e-9 }", '"swkpu-v1"'),
    *('{ from = 1e-300, to = 1e300, count = 3, spacing = "log" }', '"/dev/zero"', '"../x.toml"'),
    *("{ from = 1, to = " + "9" * 400 + ', count = 3, spacing = "log" }', '"\\u0000"', "'\x1b'"),
    *("[" * 2000, "{a=" * 2000, '"' + "x" * 5000 + '"'),
)
KEYS = ("memory", "compute.clock_mhz", '"memory.sram_l2_bytes"', "name", "vary", "a.b.c", '""')
VALUE = re.compile(r"(?<== ).*$", re.MULTILINE)
KEY = re.compile(r"^[\w\".]+(?= =)", re.MULTILINE)


def mutated_text(data: bytes, random: Random) -> bytes:
    """One to three changes of a TOML file, or damage to its bytes."""
    if random.random() < 0.2:
        return damaged(data, random)
    text = data.decode()
    for _ in range(random.randint(1, 3)):
        text = _changed(text, random)
    return text.encode()


def _changed(text: str, random: Random) -> str:
    kind = random.randrange(8)
    lines = text.splitlines(keepends=True)
    if kind < 5:
        return _exchanged(text, VALUE, random.choice(VALUES), random)
    if kind == 5:
        return _exchanged(text, KEY, random.choice(KEYS), random)
    if kind == 6 or not lines:
        return text + random.choice(lines or ["x = 1\n"])
    place = random.randrange(len(lines))
    return "".join((*lines[:place], *lines[place + 1 :]))


def _exchanged(text: str, pattern: re.Pattern[str], new: str, random: Random) -> str:
    """One of the pattern's matches becomes another text."""
    found = list(pattern.finditer(text))
    if not found:
        return text
    start, end = random.choice(found).span()
    return text[:start] + new + text[end:]
