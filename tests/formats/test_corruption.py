"""No damaged file is ever read: every byte changed, lost or added is noticed, by a FileError."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import formats
from formats.errors import FileError
from tests.formats.programs import tiny_profile, tiny_program


def small_program() -> formats.KPUProgram:
    """One op, one weight: a file small enough to try every byte of it."""
    program = tiny_program()
    image = program.tensors["image"]
    weight = replace(program.tensors["weight"], scales=None, scale=0.5)
    conv = replace(program.ops[0], input_ids=("image", "weight"), operand_count=2, epilogue=())
    weights = formats.weights(program)
    return formats.KPUProgram(
        name="small",
        ops=(replace(conv, output_ids=("mean",), tiling=None),),
        tensors={"image": image, "weight": weight, "mean": program.tensors["mean"]},
        input_ids=("image",),
        output_ids=("mean",),
        weights_blob=formats.tensors.pack({"weight": weights["weight"]}),
    )


DATA = formats.to_bytes(small_program())


def assert_refused(data: bytes, what: object) -> None:
    try:
        formats.load(data)
    except FileError:
        return
    pytest.fail(f"accepted after {what}")


def test_the_file_itself_is_sound():
    assert formats.load(DATA) == small_program()


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_byte_changed(mask):
    for position in range(len(DATA)):
        changed = bytearray(DATA)
        changed[position] ^= mask
        assert_refused(bytes(changed), f"byte {position} ^ {mask:#x}")


def test_every_truncation():
    for length in range(len(DATA)):
        assert_refused(DATA[:length], f"cut to {length} bytes")


@pytest.mark.parametrize("inserted", [b"\0", b" "])
def test_every_insertion(inserted):
    for position in range(len(DATA) + 1):
        assert_refused(DATA[:position] + inserted + DATA[position:], f"a byte at {position}")


def test_every_deletion():
    for position in range(len(DATA)):
        assert_refused(DATA[:position] + DATA[position + 1 :], f"loss of byte {position}")


def test_bytes_before_and_after_are_refused():
    assert_refused(DATA + DATA, "a second file at its end")
    assert_refused(b"#!/bin/sh\n" + DATA, "a script before it")


@given(data=st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_pieces_swapped_or_overwritten(data):
    profile = formats.to_bytes(tiny_profile())
    first, last = sorted(data.draw(st.integers(0, len(profile))) for _ in range(2))
    piece = data.draw(st.binary(max_size=40) | st.just(profile[last:]) | st.just(profile[:first]))
    changed = profile[:first] + piece + profile[last:]
    if changed != profile:
        assert_refused(changed, f"{first}:{last} became {piece!r}")
