"""A file may be canonical, checksummed and still made to harm: it is read whole or refused."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import formats
from formats.errors import FileError
from tests.formats.forge import document_of, forged
from tests.formats.programs import tiny_program

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "conv", "image", "sram_l2", "fp16", "\x1b[2J", "é", "9" * 30, "../x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "a", "OC"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every part of a document is."""
    if isinstance(value, dict):
        children = list(value.items())
    else:
        children = list(enumerate(value)) if isinstance(value, list) else []
    return [path, *(found for key, item in children for found in paths(item, (*path, key)))]


def planted(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    key, *rest = path
    copy = value.copy()
    copy[key] = planted(value[key], tuple(rest), new)
    return copy


SOUND = document_of(formats.to_bytes(tiny_program()))


@given(data=st.data())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_value_anywhere_is_read_or_refused(data):
    content = SOUND
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(paths(content)[1:]))
        content = planted(content, path, data.draw(ANYTHING))
    try:
        program = formats.load(forged(content=content))
    except FileError:
        return
    assert program.validate() == []
    assert "\x1b" not in formats.dump(program)
    assert formats.load(formats.to_bytes(program)) == program
