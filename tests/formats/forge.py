"""Canonical files with content that no writer of ours would give them."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import formats
from formats import archive, container, document
from tests.formats.programs import tiny_program

JSON_MEMBER = "program.json"


def members_of(data: bytes) -> dict[str, bytes]:
    return {name: bytes(member) for name, member in container.read(data).members.items()}


def document_of(data: bytes, member: str = JSON_MEMBER) -> dict[str, Any]:
    return json.loads(members_of(data)[member])


def archived(members: Mapping[str, bytes]) -> bytes:
    return b"".join(archive.pack(list(members.items())))


def forged(
    *,
    kind: str = "kpu-program",
    version: str = container.VERSION,
    features: Iterable[str] = (),
    extra: Mapping[str, bytes] | None = None,
    manifest: Mapping[str, Any] | None = None,
    content: Mapping[str, Any] | None = None,
) -> bytes:
    """The tiny program with other JSON fields (`content`), further members (`extra`) or another
    manifest; its framing and checksums are right."""
    found = members_of(formats.to_bytes(tiny_program()))
    own = json.loads(found.pop("manifest.json"))
    plain = {**json.loads(found[JSON_MEMBER]), **(content or {})}
    found = {**found, JSON_MEMBER: document.canonical(plain), **(extra or {})}
    claim = {
        "format": kind,
        "version": version,
        "producer": "a test",
        "required_features": [*own["required_features"], *features],
        "members": [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in found.items()
        ],
        **(manifest or {}),
    }
    return archived({"manifest.json": document.canonical(claim), **found})
