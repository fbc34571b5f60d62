"""Mutants of `.kpu` and `.kprof` files. Most are sealed again, so that the checks behind the
checksums see them; the others try framing and checksums themselves."""

import hashlib
import json
from random import Random

from formats import archive, container, document
from tests.fuzz.trees import mutated

MANIFEST = container.MANIFEST
VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4", "1.99999", "2.0", "0.9", "", "1.03")
TELLING_BYTES = (0, 1, 0x7F, 0x80, 0x7C, 0xFC, 0xFF)  # signs, infinities and NaN of many formats


def members_of(data: bytes) -> dict[str, bytes]:
    """Every member's content, of a sound file."""
    return {name: bytes(member) for name, member in container.read(data).members.items()}


def sealed(members: dict[str, bytes], **claims: object) -> bytes:
    """The file of these members: sizes, hashes and framing are right. claims: of the manifest."""
    others = {name: data for name, data in members.items() if name != MANIFEST}
    manifest = {
        **json.loads(members[MANIFEST]),
        "members": [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in others.items()
        ],
        **claims,
    }
    return framed({MANIFEST: document.canonical(manifest), **others})


def framed(members: dict[str, bytes]) -> bytes:
    """The archive of these members as they are."""
    return b"".join(archive.pack(list(members.items())))


def mutant(data: bytes, random: Random) -> bytes:
    """Another file, mostly of content that no writer of ours would give it."""
    kind = random.randrange(20)
    if kind == 0:
        return damaged(data, random)
    members = members_of(data)
    if kind == 1:
        manifest = mutated(json.loads(members[MANIFEST]), random)
        return framed({**members, MANIFEST: document.canonical(manifest)})
    if kind == 2:
        name = random.choice(list(members))
        members[name] = damaged(members[name], random)
        return framed(members) if name == MANIFEST else sealed(members)
    _, description, arrays = members
    if kind < 8:
        members[arrays] = other_arrays(members[arrays], random)
    if kind > 5:
        content = mutated(json.loads(members[description]), random)
        members[description] = document.canonical(content)
    claims: dict[str, object] = {}
    if random.random() < 0.1:
        claims["version"] = random.choice(VERSIONS)
    if random.random() < 0.1:
        claims["required_features"] = []
    return sealed(members, **claims)


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes changed, lost, added or moved."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        place = random.randrange(len(changed) + 1)
        other = random.randrange(len(changed) + 1)
        kind = random.randrange(5)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            changed[place:place] = random.randbytes(random.randrange(1, 9))
        elif kind == 3:
            del changed[place : place + random.randrange(1, 65)]
        else:
            changed[place:place] = changed[other : other + random.randrange(1, 257)]
    return bytes(changed)


def other_arrays(data: bytes, random: Random) -> bytes:
    """A safetensors member with another header, or with other numbers under the same one."""
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if random.random() < 0.6 and body:
        changed = bytearray(body)
        for _ in range(random.choice((1, 4, 32))):
            changed[random.randrange(len(changed))] = random.choice(TELLING_BYTES)
        return data[: 8 + length] + bytes(changed)
    return tensor_header(mutated(header, random)) + body


def tensor_header(entries: object) -> bytes:
    """A safetensors header as `formats.tensors` writes it, of whatever is in it."""
    text = json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()
    padding = -(8 + len(text)) % archive.ALIGNMENT_BYTES
    return (len(text) + padding).to_bytes(8, "little") + text + b" " * padding
