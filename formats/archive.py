"""The canonical stored-only zip that `.kpu` and `.kprof` files are.

Every framing byte follows from the members' names and contents, so the reader computes the framing
that these would give and compares: anything else in the file (comments, gaps, compression, other
dates, a second directory) is refused because it differs, not because someone thought of it.
"""

import re
import struct
import zlib
from collections.abc import Sequence

from formats.errors import FileError, LimitError
from formats.files import MAX_FILE_BYTES

LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
CENTRAL_HEADER = struct.Struct("<4sHHHHHHIIIHHHHHII")
END_RECORD = struct.Struct("<4sHHHHIIH")
LOCAL_MAGIC, CENTRAL_MAGIC, END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
ZIP_VERSION = 20
DATE_1980_01_01 = 0x0021
PADDING_ID = 0xD935  # the extra field that Android's zipalign pads with
ALIGNMENT_BYTES = 64
MAX_MEMBERS = 16
MAX_NAME_BYTES = 64

Bytes = bytes | memoryview
Member = tuple[str, Bytes]


def pack(members: Sequence[Member]) -> list[Bytes]:
    """The archive of `members` in this order, in pieces; each member's data is 64-byte aligned.

    LimitError from 4 GiB on.
    """
    total_bytes = _total_bytes(members)
    if total_bytes > MAX_FILE_BYTES:
        raise LimitError(f"the file would be {total_bytes:,} bytes; format 1 ends at 4 GiB")
    crcs = [zlib.crc32(data) for _, data in members]
    pieces: list[Bytes] = []
    for header, (_, data) in zip(_local_headers(members, crcs), members, strict=True):
        pieces += [header, data]
    return [*pieces, _directory(members, crcs)]


def first_member(view: memoryview) -> Member:
    """Name and data of the first member, unchecked: it says which version the rest is in."""
    if len(view) == 0:
        raise FileError("empty file")
    if view[:4] != LOCAL_MAGIC[: len(view)]:
        raise FileError("not a KPU file (wrong magic number)")
    if len(view) < LOCAL_HEADER.size:
        raise FileError("truncated")
    fields = LOCAL_HEADER.unpack(view[: LOCAL_HEADER.size])
    size, name_length, extra_length = fields[8:]
    name_end = LOCAL_HEADER.size + name_length
    start = name_end + extra_length
    name = bytes(view[LOCAL_HEADER.size : name_end]).decode("latin-1")
    if start + size > len(view):
        raise FileError("truncated")
    return name, view[start : start + size]


def unpack(view: memoryview) -> dict[str, memoryview]:
    """Members by name, as views; FileError for a single byte that `pack` would not write."""
    members: list[tuple[str, memoryview]] = []
    offset = 0
    for name, size in _listed(view):
        start = offset + _header_length(name, offset)
        if start + size > len(view):
            raise FileError("truncated")
        members.append((name, view[start : start + size]))
        offset = start + size
    crcs = [zlib.crc32(data) for _, data in members]
    offset = 0
    for header, (name, data) in zip(_local_headers(members, crcs), members, strict=True):
        if view[offset : offset + len(header)] != header:
            raise FileError(f"damaged: the header or checksum of {name} does not fit its content")
        offset += len(header) + len(data)
    if view[offset:] != _directory(members, crcs):
        raise FileError("damaged: the directory does not fit the members")
    return dict(members)


def _listed(view: memoryview) -> list[tuple[str, int]]:
    """(name, size) of each member as the directory says; not to be believed until compared."""
    if len(view) > MAX_FILE_BYTES:
        raise FileError("larger than 4 GiB, where format 1 ends")
    if len(view) < END_RECORD.size or view[-END_RECORD.size :][:4] != END_MAGIC:
        raise FileError("truncated, or bytes follow its end")
    _, _, _, _, count, length, offset, _ = END_RECORD.unpack(view[-END_RECORD.size :])
    if count > MAX_MEMBERS or offset + length + END_RECORD.size != len(view):
        raise FileError("damaged: the end record does not fit the file")
    listed: list[tuple[str, int]] = []
    for _ in range(count):
        name_start = offset + CENTRAL_HEADER.size
        if name_start > len(view):
            raise FileError("damaged: the directory ends early")
        fields = CENTRAL_HEADER.unpack(view[offset:name_start])
        size, name_length = fields[9], fields[10]
        offset = name_start + name_length
        listed.append((bytes(view[name_start:offset]).decode("latin-1"), size))
    _require_plain_names([name for name, _ in listed])
    return listed


def _require_plain_names(names: Sequence[str]) -> None:
    """No folders, nothing hidden, none twice: what unpacks anywhere without a surprise."""
    for name in names:
        if len(name) > MAX_NAME_BYTES or not re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+)+", name):
            raise FileError(f"unexpected member {name[:MAX_NAME_BYTES]!r}")
    if len(set(names)) != len(names):
        raise FileError("a member is there twice")


def _header_length(name: str, offset: int) -> int:
    """Local header with its padding: the data after it starts on a 64-byte boundary."""
    bare = offset + LOCAL_HEADER.size + len(name) + 4
    return bare + -bare % ALIGNMENT_BYTES - offset


def _total_bytes(members: Sequence[Member]) -> int:
    offset = 0
    for name, data in members:
        offset += _header_length(name, offset) + len(data)
    entries = sum(CENTRAL_HEADER.size + len(name) for name, _ in members)
    return offset + entries + END_RECORD.size


def _local_headers(members: Sequence[Member], crcs: Sequence[int]) -> list[bytes]:
    headers = []
    offset = 0
    for (name, data), crc in zip(members, crcs, strict=True):
        length = _header_length(name, offset)
        extra = length - LOCAL_HEADER.size - len(name)
        fields = (ZIP_VERSION, 0, 0, 0, DATE_1980_01_01, crc, len(data), len(data))
        header = LOCAL_HEADER.pack(LOCAL_MAGIC, *fields, len(name), extra)
        padding = struct.pack("<HH", PADDING_ID, extra - 4) + bytes(extra - 4)
        headers.append(header + name.encode("ascii") + padding)
        offset += length + len(data)
    return headers


def _directory(members: Sequence[Member], crcs: Sequence[int]) -> bytes:
    """Central directory and end record."""
    entries = []
    offset = 0
    for (name, data), crc in zip(members, crcs, strict=True):
        fields = (ZIP_VERSION, ZIP_VERSION, 0, 0, 0, DATE_1980_01_01, crc)
        sizes = (len(data), len(data), len(name), 0, 0, 0, 0, 0)
        entry = CENTRAL_HEADER.pack(CENTRAL_MAGIC, *fields, *sizes, offset)
        entries.append(entry + name.encode("ascii"))
        offset += _header_length(name, offset) + len(data)
    directory = b"".join(entries)
    counts = (len(members), len(members), len(directory), offset)
    return directory + END_RECORD.pack(END_MAGIC, 0, 0, *counts, 0)
