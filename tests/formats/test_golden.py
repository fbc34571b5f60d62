"""Files of every released minor version are read for ever, with all that was in them.

`python -m tests.formats.make_golden` wrote them; a released one is never written again.
"""

import json
from pathlib import Path

import numpy as np
import pytest

import formats
from formats import container, tensors

FOLDER = Path(__file__).parents[1] / "golden"
FILES = sorted(FOLDER.glob("*.kpu")) + sorted(FOLDER.glob("*.kprof"))


def contains(new: object, old: object) -> bool:
    """Whether everything in `old` is in `new` with the same value; fields may have been added."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(
            key in new and contains(new[key], value) for key, value in old.items()
        )
    if isinstance(old, list):
        same_length = isinstance(new, list) and len(new) == len(old)
        return same_length and all(map(contains, new, old))
    return bool(new == old)


def test_the_present_version_has_its_golden_files():
    names = {path.name for path in FILES}
    assert {f"program-{container.VERSION}.kpu", f"profile-{container.VERSION}.kprof"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_golden_file_is_read_and_loses_nothing_when_written_again(path):
    old = container.read(path).members
    new = container.read(formats.to_bytes(formats.load(path))).members
    assert list(new) == list(old)
    for name in old.keys() - {"manifest.json"}:
        if name.endswith(".json"):
            assert contains(json.loads(bytes(new[name])), json.loads(bytes(old[name])))
        else:
            before, after = tensors.unpack(old[name]), tensors.unpack(new[name])
            assert before.keys() == after.keys()
            for key, array in before.items():
                np.testing.assert_array_equal(after[key], array)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_golden_file_says_what_its_name_says(path):
    kind, version = path.stem.rsplit("-", 1)
    manifest = container.read(path).manifest
    assert manifest.format == f"kpu-{kind}"
    assert manifest.version == version
