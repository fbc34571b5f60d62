"""`.kpu` and `.kprof` files: programs and profiles in and out of the canonical archive.

Members: manifest.json, program.json or profile.json, weights.safetensors or events.safetensors.
The weights of a loaded program stay in the mapped file; nothing is copied.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from formats import archive, document, tensors
from formats.archive import Bytes, Member
from formats.errors import FileError
from formats.files import Source, Target, read_file, write_file
from formats.profile import Profile
from formats.program import KPUProgram
from formats.verify import verify
from formats.verify_profile import verify_profile

__all__ = [
    "Container",
    "Manifest",
    "load",
    "load_profile",
    "load_program",
    "read",
    "save",
    "to_bytes",
    "upgrade",
    "write_file",
]

MAJOR, MINOR = 1, 4
VERSION = f"{MAJOR}.{MINOR}"
QUANTIZATION = "quantization"  # codes of real numbers, ops of different precisions: since 1.1
PREFETCH = "prefetch"  # L2 buffers filled ahead of their op, or more tiles ahead than L1: since 1.2
PARTS = "parts"  # tensors that are boxes of others: since 1.3
KNOWN_FEATURES = frozenset({QUANTIZATION, PREFETCH, PARTS})
MANIFEST = "manifest.json"
PROGRAM, PROFILE = "kpu-program", "kpu-profile"
MEMBERS = {
    PROGRAM: ("program.json", "weights.safetensors"),
    PROFILE: ("profile.json", "events.safetensors"),
}


@dataclass(frozen=True, slots=True)
class MemberSeal:
    """Name, size in bytes and SHA-256 of one member."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the file is: its kind, version, features a reader must know, and its members."""

    format: str
    version: str
    producer: str
    required_features: tuple[str, ...]
    members: tuple[MemberSeal, ...]


@dataclass(frozen=True, slots=True)
class _Claim:
    """The part of a manifest that every version has, read before anything else is believed."""

    format: str
    version: str
    required_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A file whose framing and checksums hold; `is_current`: of exactly our version."""

    manifest: Manifest
    members: Mapping[str, memoryview]

    @property
    def is_current(self) -> bool:
        return self.manifest.version == VERSION


def save(content: KPUProgram | Profile, target: Target) -> None:
    """Write a program or a profile, the whole file or none; `-` is stdout.

    ValueError if the content is not of its types, LimitError from 4 GiB on, FileError if the
    weights are not what `tensors.pack` makes or the target cannot be written.
    """
    write_file(_pieces(content), target)


def to_bytes(content: KPUProgram | Profile) -> bytes:
    """The file's bytes: equal content gives equal bytes."""
    return b"".join(_pieces(content))


def load(source: Source) -> KPUProgram | Profile:
    """A program or a profile from a path, `-` (stdin) or the file's bytes.

    FileError when it is unreadable, damaged, of another version or not well formed.
    """
    return _decoded(source, read(source))


def load_program(source: Source) -> KPUProgram:
    """As `load`; FileError when the file is a profile."""
    return load_versioned(source)[0]


def load_versioned(source: Source) -> tuple[KPUProgram, str]:
    """The program, and the format version of its file; raises as `load_program`."""
    container = read(source)
    content = _decoded(source, container)
    if not isinstance(content, KPUProgram):
        raise FileError(f"{_name(source)}: a profile, where a program (.kpu) is needed")
    return content, container.manifest.version


def load_profile(source: Source) -> Profile:
    """As `load`; FileError when the file is a program."""
    content = load(source)
    if not isinstance(content, Profile):
        raise FileError(f"{_name(source)}: a program, where a profile (.kprof) is needed")
    return content


def read(source: Source) -> Container:
    """The members of a file, checked but not decoded."""
    try:
        return _unpacked(read_file(source))
    except FileError as error:
        raise _located(source, error) from error


def upgrade(source: Source, target: Target) -> None:
    """Rewrite a file of an older minor version in ours; FileError for a newer one."""
    container = read(source)
    manifest = container.manifest
    if _version(manifest.version) > (MAJOR, MINOR):
        raise FileError(
            f"{_name(source)}: format version {manifest.version} is newer than {VERSION}, "
            "the newest that this toolchain writes; what it adds would be lost"
        )
    save(_decoded(source, container), target)


def _decoded(source: Source, container: Container) -> KPUProgram | Profile:
    try:
        return _program(container) if container.manifest.format == PROGRAM else _profile(container)
    except FileError as error:
        raise _located(source, error) from error


def _located(source: Source, error: FileError) -> FileError:
    where = f"{_name(source)}: "
    text = str(error)
    return error if text.startswith(where) else FileError(where + text)


def _name(source: Source) -> str:
    return "stdin" if isinstance(source, bytes) or str(source) == "-" else str(source)


def _pieces(content: KPUProgram | Profile) -> list[Bytes]:
    if isinstance(content, KPUProgram):
        weights = tensors.pack({}) if content.weights_blob is None else content.weights_blob
        tensors.read_header(weights)  # refused here rather than by whoever reads the file
        description = document.encode(content, document.program_document())
        return _sealed(PROGRAM, _features(content), description, weights)
    graph = replace(content.program, weights_blob=None)
    profile = document.encode(replace(content, program=graph), document.profile_document())
    return _sealed(PROFILE, _features(graph), profile, tensors.pack(content.events))


def _features(program: KPUProgram) -> tuple[str, ...]:
    """What a reader must know to understand the program rightly."""
    is_quantized = any(tensor.is_quantized for tensor in program.tensors.values())
    is_mixed = any(op.precision is not None for op in program.ops)
    distances = (op.tiling.l2_prefetch_distance for op in program.ops if op.tiling is not None)
    is_ahead = any(buffer.prefetch_ops for buffer in program.buffers) or any(
        distance > 1 for distance in distances
    )
    has_parts = any(tensor.starts for tensor in program.tensors.values())
    needed = {QUANTIZATION: is_quantized or is_mixed, PREFETCH: is_ahead, PARTS: has_parts}
    return tuple(sorted(feature for feature, is_needed in needed.items() if is_needed))


def _sealed(kind: str, features: tuple[str, ...], description: bytes, data: Bytes) -> list[Bytes]:
    from formats.console import toolchain_version  # brings the command-line library

    members: list[Member] = list(zip(MEMBERS[kind], (description, data), strict=True))
    manifest = Manifest(
        format=kind,
        version=VERSION,
        producer=f"kpu-toolchain {toolchain_version()}",
        required_features=features,
        members=tuple(_seal(name, member) for name, member in members),
    )
    return archive.pack([(MANIFEST, document.encode(manifest, Manifest)), *members])


def _seal(name: str, data: Bytes) -> MemberSeal:
    return MemberSeal(name, len(data), hashlib.sha256(data).hexdigest())


def _unpacked(view: memoryview) -> Container:
    """Version first, because everything else may differ in another one."""
    name, data = archive.first_member(view)
    if name != MANIFEST:
        raise FileError("not a KPU file (a zip archive without a manifest)")
    claim = document.decode(data, _Claim, MANIFEST, exact=False)
    _require_readable(claim)
    is_current = claim.version == VERSION
    manifest = document.decode(data, Manifest, MANIFEST, exact=is_current)
    members = archive.unpack(view)
    expected = (MANIFEST, *MEMBERS[manifest.format])
    if tuple(members)[: len(expected)] != expected:
        raise FileError(f"the members are not those of a {manifest.format}")
    if is_current and len(members) > len(expected):
        raise FileError(f"unexpected member {list(members)[len(expected)]}")
    if manifest.members != tuple(_seal(name, members[name]) for name in list(members)[1:]):
        raise FileError("damaged: a member does not have the checksum that the manifest gives")
    return Container(manifest, members)


def _require_readable(claim: _Claim) -> None:
    if claim.format not in MEMBERS:
        raise FileError(f"unknown format {claim.format!r}")
    major, _ = _version(claim.version)
    if major != MAJOR:
        raise FileError(
            f"format version {claim.version} cannot be read by this toolchain, "
            f"which reads {MAJOR}.x and writes {VERSION}"
        )
    unknown = sorted(set(claim.required_features) - KNOWN_FEATURES)
    if unknown:
        raise FileError(
            f"format version {claim.version} needs {', '.join(unknown)}, "
            f"which this toolchain ({VERSION}) does not know"
        )


def _version(text: str) -> tuple[int, int]:
    major, dot, minor = text.partition(".")
    parts = (major, minor)
    canonical = all(p.isascii() and p.isdigit() and len(p) < 6 and p == str(int(p)) for p in parts)
    if not dot or not canonical:
        raise FileError(f"malformed format version {text!r}")
    return int(major), int(minor)


def _program(container: Container) -> KPUProgram:
    member, data_member = MEMBERS[PROGRAM]
    weights = container.members[data_member]
    stored, _ = tensors.read_header(weights)
    content = document.decode(
        container.members[member], document.program_document(), member, container.is_current
    )
    program = _program_of(content, weights if stored else None)
    _require_features(container, program)
    verify(program)
    return program


def _profile(container: Container) -> Profile:
    member, data_member = MEMBERS[PROFILE]
    content = document.decode(
        container.members[member], document.profile_document(), member, container.is_current
    )
    events = tensors.unpack(container.members[data_member])
    known = _fields(content)
    known["program"] = _program_of(content.program, None)
    known["options"] = document.frozen(content.options, member)
    profile = Profile(**known, events=events)
    _require_features(container, profile.program)
    verify_profile(profile)
    return profile


def _require_features(container: Container, program: KPUProgram) -> None:
    """A file of our version claims the features of its content, no other."""
    claimed, used = container.manifest.required_features, _features(program)
    if container.is_current and claimed != used:
        raise FileError(f"the manifest requires the features {list(claimed)}, not {list(used)}")


def _program_of(content: Any, weights: memoryview | None) -> KPUProgram:
    for op in content.ops:
        for step in (op, *op.epilogue):  # fresh from the decoder: nobody else has these dicts
            step.attributes.update(document.frozen(step.attributes, f"op {op.id!r}"))
    known = _fields(content)
    known["options"] = document.frozen(content.options, "options")
    return KPUProgram(**known, weights_blob=weights)


def _fields(content: Any) -> dict[str, Any]:
    return {entry.name: getattr(content, entry.name) for entry in fields(content)}
