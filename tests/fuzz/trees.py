"""Changes of JSON-like documents that keep most of their structure, so that they get past the first
checks: another number, a name of something else, a part moved, doubled or lost."""

import copy
from random import Random
from typing import Any

Path = tuple[Any, ...]

NUMBERS: tuple[int | float, ...] = (
    *(-1, 0, 1, 2, 3, 7, 8, 63, 64, 65, 255, 256, 1000, 2**16, 2**31 - 1, 2**31, 2**32, 2**44),
    *(2**53, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64, 10**9, 10**30),
    *(0.5, -0.0, 1e-45, 1e-300, 3.4e38, 1e39, 1.7e308, -1e308),
)
WORDS = ("", " ", "a", "image", "conv", "\x1b[2J", "é", "../x", "/etc/passwd", "9" * 400)
DEEPEST = 40


def paths(value: Any, path: Path = ()) -> list[Path]:
    """Where every part of a document is, the document itself first."""
    if isinstance(value, dict):
        children = list(value.items())
    else:
        children = list(enumerate(value)) if isinstance(value, list) else []
    return [path, *(found for key, item in children for found in paths(item, (*path, key)))]


def at(value: Any, path: Path) -> Any:
    """The part of a document at a path."""
    for key in path:
        value = value[key]
    return value


def planted(value: Any, path: Path, new: Any) -> Any:
    """The document with another value at a path."""
    if not path:
        return new
    key, *rest = path
    changed = value.copy()
    changed[key] = planted(value[key], tuple(rest), new)
    return changed


def mutated(document: Any, random: Random, most_changes: int = 3) -> Any:
    """The document with one to `most_changes` changes."""
    for _ in range(random.randint(1, most_changes)):
        found = paths(document)[1:]
        if not found:
            return document
        document = _changed(document, random.choice(found), found, random)
    return document


def _changed(document: Any, path: Path, all_paths: list[Path], random: Random) -> Any:
    kind = random.randrange(10)
    if kind < 5:
        return planted(document, path, _like(at(document, path), random))
    if kind < 7:
        alike = [each for each in all_paths if _field(each) == _field(path)]
        return planted(document, path, copy.deepcopy(at(document, random.choice(alike))))
    if kind == 7:
        return planted(document, path, copy.deepcopy(at(document, random.choice(all_paths))))
    if kind == 8:
        parent = at(document, path[:-1])
        return planted(document, path[:-1], _without_or_twice(parent, path[-1], random))
    return planted(document, path, _anything(random))


def _field(path: Path) -> Any:
    """The key by which a part is known; the items of a list share that of the list."""
    return next((key for key in reversed(path) if isinstance(key, str)), None)


def _without_or_twice(parent: Any, key: Any, random: Random) -> Any:
    changed = parent.copy()
    if random.random() < 0.5:
        del changed[key]
    elif isinstance(changed, list):
        changed.insert(random.randrange(len(changed) + 1), copy.deepcopy(changed[key]))
    else:
        changed[random.choice(WORDS)] = changed[key]
    return changed


def _like(old: Any, random: Random) -> Any:
    """Another value of the same kind."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        near = (old + 1, old - 1, old * 2, old // 2, -old, old + 64)
        return random.choice((*near, *(n for n in NUMBERS if isinstance(n, int))))
    if isinstance(old, float):
        return random.choice((old * 2, old / 3, -old, old + 1, *map(float, NUMBERS)))
    if isinstance(old, str):
        return random.choice((*WORDS, old + "x", old[:-1]))
    if isinstance(old, list):
        return random.choice((old[::-1], old[:-1], old * 2, [*old, random.choice(NUMBERS)]))
    if isinstance(old, dict):
        keys = list(old)
        random.shuffle(keys)
        return {key: old[other] for key, other in zip(old, keys, strict=True)}
    return random.choice((0, 1, 0.5, "fp16"))


def _anything(random: Random) -> Any:
    value = random.choice((None, True, [], {}, *NUMBERS, *WORDS))
    if random.random() < 0.2:
        for _ in range(random.randint(1, DEEPEST)):
            value = random.choice(([value], {"a": value}))
    return value
