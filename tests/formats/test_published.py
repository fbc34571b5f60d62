"""The published JSON Schemas: current, true of real files, and never changed within a version."""

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

import formats
from formats import container, load_config, presets
from formats.published import schemas, text
from tests.formats.programs import tiny_profile, tiny_program

FOLDER = files("formats") / "schema"
DIGESTS = Path(__file__).parents[1] / "golden" / "schema-digests.json"
CONTENT = {"program": tiny_program(), "profile": tiny_profile()}


def member(content: object, name: str) -> dict:
    return json.loads(bytes(container.read(formats.to_bytes(content)).members[name]))


def digest(schema: object) -> str:
    """Of what the schema demands: the words that explain it may change."""
    return hashlib.sha256(json.dumps(_bare(schema), sort_keys=True).encode()).hexdigest()


def _bare(schema: object) -> object:
    if isinstance(schema, dict):
        words = ("description", "title", "default")
        return {k: _bare(v) for k, v in schema.items() if k not in words or isinstance(v, dict)}
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("name", schemas())
def test_a_published_schema_is_that_of_the_classes(name):
    current = (FOLDER / name).read_text(encoding="utf-8") == text(schemas()[name])
    assert current, "run python -m formats.published, and raise the version if one was released"


def test_nothing_else_is_published():
    old = {name for name in json.loads(DIGESTS.read_text()) if name not in schemas()}
    assert {entry.name for entry in FOLDER.iterdir()} == schemas().keys() | old


@pytest.mark.parametrize("name", [name for name in schemas() if name != "config.json"])
def test_a_schema_does_not_change_within_a_version(name):
    """A changed class needs a new minor version, whose digest is added beside the old ones."""
    assert json.loads(DIGESTS.read_text())[name] == digest(schemas()[name])


@pytest.mark.parametrize("kind", CONTENT)
def test_files_are_as_their_schema_says(kind):
    for name in (kind, "manifest"):
        schema = schemas()[f"{name}-{container.VERSION}.json"]
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(member(CONTENT[kind], f"{name}.json"), schema)


def test_the_schema_refuses_what_the_reader_refuses():
    schema = schemas()[f"program-{container.VERSION}.json"]
    sound = member(tiny_program(), "program.json")
    lacking = {key: value for key, value in sound.items() if key != "preprocess"}
    for wrong in ({**sound, "more": 1}, lacking, {**sound, "precision": "fp61"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize("name", presets())
def test_presets_are_as_the_schema_of_configurations_says(name):
    preset = (files("formats") / "presets" / f"{name}.toml").read_text()
    jsonschema.validate(formats.schema.tomllib.loads(preset), schemas()["config.json"])
    assert load_config(name)
