"""The JSON Schema of every document, made from the data classes: `python -m formats.published`.

One file per document and minor version in `formats/schema/`; a test fails when the classes change
without them, and when they change without a new version.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from formats import document
from formats.config import KPUConfig
from formats.container import VERSION, Manifest

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """File name in `formats/schema/` -> schema."""
    kinds: dict[str, type[Any]] = {
        "manifest": Manifest,
        "program": document.program_document(),
        "profile": document.profile_document(),
    }
    named = {f"{name}-{VERSION}.json": _complete(_schema(kind)) for name, kind in kinds.items()}
    return {**named, "config.json": _schema(KPUConfig)}


def text(schema: dict[str, Any]) -> str:
    """A schema as its file has it."""
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _schema(kind: type[Any]) -> dict[str, Any]:
    """No key but those of the class: readers refuse every other."""
    schema = msgspec.json.schema(kind)
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return {"$schema": DIALECT, **schema}


def _complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Files have every field; only a configuration that a person writes may leave some out."""
    for definition in schema["$defs"].values():
        if "properties" in definition:
            definition["required"] = sorted(definition["properties"])
    return schema


def main() -> None:
    """Rewrite the published schemas."""
    folder = Path(str(files("formats"))) / "schema"
    for name, schema in schemas().items():
        (folder / name).write_text(text(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
