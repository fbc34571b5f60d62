"""Configurations: presets, files, `--set`; unknown keys and impossible values are named."""

import json
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest

import formats
from formats import KPUConfig, KPUPrecision, load_config, override, presets
from formats.errors import ConfigurationError, FileError, UsageError

PRESETS = Path(formats.__file__).parent / "presets"


def keys_of(record: object, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for field in fields(record):
        value = getattr(record, field.name)
        name = prefix + field.name
        found |= keys_of(value, f"{name}.") if is_dataclass(value) else {name}
    return found


def flat(document: dict, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in document.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_default_machine_is_the_preset_that_the_document_names():
    assert load_config("swkpu-v1") == KPUConfig()


@pytest.mark.parametrize("name", presets())
def test_a_preset_spells_out_every_field_under_its_own_name(name):
    document = formats.schema.tomllib.loads((PRESETS / f"{name}.toml").read_text())
    assert flat(document) == keys_of(KPUConfig())
    assert load_config(name).name == name
    assert load_config(name).validate() == []


def test_toml_and_json_say_the_same(tmp_path):
    whole = json.loads(json.dumps(asdict(KPUConfig(name="mine", max_batch_size=4))))
    as_json = written(tmp_path, "mine.json", json.dumps(whole))
    as_toml = written(tmp_path, "mine.toml", 'name = "mine"\nmax_batch_size = 4')
    assert (
        load_config(as_json)
        == load_config(str(as_toml))
        == replace(KPUConfig(), name="mine", max_batch_size=4)
    )


def test_what_a_file_does_not_say_keeps_its_default(tmp_path):
    path = written(tmp_path, "small.toml", "[memory]\nsram_l2_bytes = 524_288\n")
    assert load_config(path).memory == replace(KPUConfig().memory, sram_l2_bytes=524_288)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "[memory]\nsram_l2_byte = 1", "'memory.sram_l2_byte'; did you mean sram_l2_by"),
        ("a.toml", "[timing.dram]\nbank = 1", "'timing.dram.bank'; did you mean banks"),
        ("a.toml", "qqq = 1", "unknown key 'qqq'$"),
        ("a.toml", "memory = 3", "object"),
        ("a.toml", "[memory]\nsram_l2_bytes = '4MiB'", "Expected `int`.*sram_l2_bytes"),
        ("a.toml", "[compute]\nclock_mhz = true", "clock_mhz"),
        ("a.toml", "supported_precisions = ['fp61']", "fp61"),
        ("a.toml", "[memory\n", "line 1"),
        ("a.toml", "[memory]\n[memory]\n", "twice|declare"),
        ("a.json", "{", "a.json"),
        ("a.json", "[]", "not a JSON object"),
        ("a.json", '{"name": "a", "name": "b"}', "'name' is there twice"),
        ("a.json", "[" * 100_000, "recursion|depth"),
        ("a.json", " " * (2 << 20), "larger than"),
    ],
)
def test_a_malformed_file_says_where_and_what(tmp_path, name, text, message):
    path = written(tmp_path, name, text)
    with pytest.raises(FileError, match=message) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b"name = '\xff'")
    with pytest.raises(FileError, match=r"a\.toml"):
        load_config(path)
    with pytest.raises(FileError, match="No such file"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[memory]\nsram_l2_bytes = 1024", "at least as large as L1"),
        ("[memory]\nl1_associativity = 0", "L1 associativity must be positive"),
        ("[compute]\nclock_mhz = 0", "Clock frequency must be positive"),
        ("[compute]\nclock_mhz = nan", "Clock frequency must be positive"),
        ("[compute]\nclock_mhz = inf", "Clock frequency must be positive"),
        ("[compute]\nidle_watts = 9", "Idle power"),
        ("[energy]\nmac_int8_pj = -1", "energy.mac_int8_pj must lie between"),
        ("[timing.dram]\nprecharge_ns = nan", "timing.dram.precharge_ns"),
        ("[compute]\nclock_mhz = 1e300", "compute.clock_mhz must lie between"),
        ("supported_precisions = []", "At least one precision"),
    ],
)
def test_an_impossible_machine_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=message):
        load_config(written(tmp_path, "a.toml", text))


def test_a_whole_number_of_more_than_64_bits_is_refused_by_its_key(tmp_path):
    path = written(tmp_path, "a.toml", f"[compute]\nsystolic_rows = {10**400}")
    with pytest.raises(FileError, match=r"compute\.systolic_rows: whole numbers must lie"):
        load_config(path)


def test_a_name_that_is_no_preset_lists_those_there_are():
    with pytest.raises(UsageError, match=r"'swkpu-v9'.*swkpu-v1.*did you mean swkpu-v"):
        load_config("swkpu-v9")


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("memory.sram_l2_bytes=4MiB", "memory.sram_l2_bytes", 4 * 2**20),
        ("memory.sram_l2_bytes = 2.5 MiB", "memory.sram_l2_bytes", 2621440),
        ("memory.sram_l1_bytes=128KiB", "memory.sram_l1_bytes", 131072),
        ("memory.dram_bytes=2GiB", "memory.dram_bytes", 2**31),
        ("memory.dram_bytes=8_589_934_592", "memory.dram_bytes", 2**33),
        ("memory.dram_bandwidth_gbps=51.2", "memory.dram_bandwidth_gbps", 51.2),
        ("compute.clock_mhz=1e3", "compute.clock_mhz", 1000.0),
        ("timing.dram.banks=16", "timing.dram.banks", 16),
        ("timing.overlap_folds=False", "timing.overlap_folds", False),
        ("name=mine", "name", "mine"),
        ("native_ops=Conv, Relu", "native_ops", ("Conv", "Relu")),
        (
            "supported_precisions=fp16,bf16",
            "supported_precisions",
            (KPUPrecision.FP16, KPUPrecision.BF16),
        ),
    ],
)
def test_set_changes_one_field(assignment, path, value):
    changed = override(KPUConfig(), assignment)
    found = changed
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)
    assert {key for key in keys_of(changed) if _at(changed, key) != _at(KPUConfig(), key)} == {path}


def _at(record: object, path: str) -> object:
    for name in path.split("."):
        record = getattr(record, name)
    return record


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("memory.sram_l2_byte=4MiB", "'memory.sram_l2_byte'; did you mean sram_l2_bytes"),
        ("memroy.sram_l2_bytes=4MiB", "did you mean memory"),
        ("memory=4MiB", "'memory' is a group; name one of sram_l1_bytes"),
        ("name.first=x", "'name' in 'name.first' is a value"),
        ("memory.sram_l2_bytes", "not of the form key=value"),
        ("", "not of the form key=value"),
        ("memory.sram_l2_bytes=4MB", "'4MB' is not a whole number, or one of KiB"),
        ("memory.sram_l2_bytes=0.3", "'0.3' is not a whole number"),
        ("memory.sram_l2_bytes=1e30", "'1e30' is not a whole number"),
        ("memory.sram_l2_bytes=1e999999999", "is not a whole number"),
        ("memory.sram_l2_bytes=", "'' is not a whole number"),
        ("compute.clock_mhz=fast", "'fast' is not a number"),
        ("compute.clock_mhz=1GiB", "'1GiB' is not a number"),
        ("timing.overlap_folds=1", "neither true nor false"),
        ("supported_precisions=fp61", "fp61"),
    ],
)
def test_a_mistake_in_set_is_a_usage_error_that_names_it(assignment, message):
    with pytest.raises(UsageError, match=message):
        override(KPUConfig(), assignment)


@pytest.mark.parametrize("assignment", ["memory.sram_l2_bytes=1KiB", "compute.clock_mhz=1e999"])
def test_set_cannot_make_an_impossible_machine(assignment):
    with pytest.raises(ConfigurationError, match="--set"):
        override(KPUConfig(), assignment)
