"""`.kpu` and `.kprof`: round trip, equal bytes, versions, limits, files that never half exist."""

import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import formats
from formats import archive, container, document, files, tensors
from formats.errors import FileError, LimitError
from tests.formats.forge import archived, document_of, forged, members_of
from tests.formats.programs import CONV_WEIGHT, tiny_profile, tiny_program

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


def refusal(data: bytes) -> str:
    with pytest.raises(FileError) as caught:
        formats.load(data)
    return str(caught.value)


def test_a_program_comes_back():
    program = tiny_program()
    assert formats.load(formats.to_bytes(program)) == program


def test_a_program_without_weights_comes_back():
    program = tiny_program()
    ops = (replace(program.ops[0], input_ids=("image", "image", "residual"), operand_count=2),)
    stages = (replace(ops[0].epilogue[0], operand=2),)
    ops = (replace(ops[0], epilogue=stages), *program.ops[1:])
    kept = {name: t for name, t in program.tensors.items() if not t.is_weight}
    program = replace(program, ops=ops, tensors=kept, weights_blob=None)
    assert formats.load(formats.to_bytes(program)) == program


def test_a_profile_comes_back():
    profile = tiny_profile()
    loaded = formats.load_profile(formats.to_bytes(profile))
    assert replace(loaded, events={}) == replace(profile, events={})
    assert loaded.events.keys() == profile.events.keys()
    for name, column in profile.events.items():
        assert loaded.events[name].dtype == column.dtype
        np.testing.assert_array_equal(loaded.events[name], column)


def test_a_profile_leaves_the_weights_of_its_program_out():
    assert formats.to_bytes(tiny_profile(program=tiny_program())) == formats.to_bytes(
        tiny_profile()
    )


def test_writing_what_was_read_gives_the_same_bytes():
    for content in (tiny_program(), tiny_profile()):
        data = formats.to_bytes(content)
        assert formats.to_bytes(formats.load(data)) == data


def test_bytes_depend_on_nothing_but_the_content(tmp_path):
    code = (
        "import formats\n"
        "from tests.formats.programs import tiny_program\n"
        f"formats.save(tiny_program(), {str(tmp_path / 'other.kpu')!r})\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONHASHSEED": "4711",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
    }
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "other.kpu").read_bytes() == formats.to_bytes(tiny_program())


def test_a_whole_number_in_a_float_field_is_written_as_a_float():
    whole = tiny_program(estimated_total_energy_uj=2)
    assert formats.to_bytes(whole) == formats.to_bytes(tiny_program(estimated_total_energy_uj=2.0))
    assert formats.load(formats.to_bytes(whole)) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"estimated_total_cycles": np.int64(3)},
        {"estimated_total_cycles": 3.5},
        {"estimated_total_energy_uj": float("inf")},
        {"options": {"when": object()}},
        {"options": {"raw": b"bytes"}},
        {"source_model": "\ud800"},
    ],
)
def test_what_is_not_of_its_type_is_not_written(changes, tmp_path):
    with pytest.raises(ValueError, match=r"."):
        formats.save(tiny_program(**changes), tmp_path / "wrong.kpu")
    assert not list(tmp_path.iterdir())


def test_weights_that_a_reader_would_refuse_are_not_written(tmp_path):
    with pytest.raises(FileError, match="tensor file"):
        formats.save(tiny_program(weights_blob=b"weights"), tmp_path / "wrong.kpu")
    assert not list(tmp_path.iterdir())


def test_ordinary_tools_can_open_the_file():
    data = formats.to_bytes(tiny_program())
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["manifest.json", "program.json", "weights.safetensors"]
        assert opened.read("weights.safetensors") == tiny_program().weights_blob
        assert all(item.compress_type == zipfile.ZIP_STORED for item in opened.infolist())


def test_weights_are_mapped_from_the_file_and_aligned(tmp_path):
    formats.save(tiny_program(), tmp_path / "tiny.kpu")
    program = formats.load_program(tmp_path / "tiny.kpu")
    weight = formats.weights(program)["weight"]
    np.testing.assert_array_equal(weight, CONV_WEIGHT)
    assert not weight.flags.owndata
    assert isinstance(program.weights_blob, memoryview)
    data = (tmp_path / "tiny.kpu").read_bytes()
    assert data.index(bytes(program.weights_blob)) % 64 == 0
    assert tensors.read_header(program.weights_blob)[1] % 64 == 0


def test_the_mapping_survives_a_new_version_of_the_file(tmp_path):
    path = tmp_path / "tiny.kpu"
    formats.save(tiny_program(), path)
    program = formats.load_program(path)
    other = tensors.pack({"weight": CONV_WEIGHT * 0, "bias": np.zeros(4, np.float32)})
    formats.save(tiny_program(weights_blob=other), path)
    np.testing.assert_array_equal(formats.weights(program)["weight"], CONV_WEIGHT)


class TestVersions:
    def test_another_major_is_refused_naming_both(self):
        said = refusal(forged(version="2.0"))
        assert "2.0" in said
        assert "1.x" in said

    def test_another_major_is_recognised_whatever_else_it_changed(self):
        odd = forged(version="3.1", manifest={"members": "elsewhere"})
        assert "3.1" in refusal(odd[:-50])

    def test_a_newer_minor_is_read_and_what_it_added_is_left_out(self):
        newer = forged(
            version="1.7",
            manifest={"built_on": "a later machine"},
            extra={"debug.json": b"{}"},
            content={"remarks": ["something new"]},
        )
        assert formats.load(newer) == tiny_program()

    def test_a_feature_that_a_reader_must_know_is_refused_by_name(self):
        assert "sparse-weights" in refusal(forged(version="1.7", features=["sparse-weights"]))

    def test_our_own_version_has_no_unknown_fields_or_members(self):
        assert "unknown fields" in refusal(forged(content={"remarks": ["something new"]}))
        assert "unknown fields" in refusal(forged(manifest={"built_on": "here"}))
        assert "debug.json" in refusal(forged(extra={"debug.json": b"{}"}))

    def test_our_own_version_lacks_no_field(self):
        plain = document_of(formats.to_bytes(tiny_program()))
        del plain["preprocess"]
        raw = document.canonical(plain)
        with pytest.raises(FileError):
            document.decode(raw, document.program_document(), "program.json", exact=True)
        older = document.decode(raw, document.program_document(), "program.json", exact=False)
        assert older.preprocess == "none"

    @pytest.mark.parametrize(
        "version", ["", "1", "1.", ".0", "1.0.0", "01.0", "1.00", "1.-1", "one.two", "1.٣", "9" * 9]
    )
    def test_a_version_that_is_none_is_refused(self, version):
        assert "version" in refusal(forged(version=version))

    def test_codes_are_a_feature_that_a_reader_must_know(self):
        for content in (tiny_program(), tiny_profile()):
            manifest = container.read(formats.to_bytes(content)).manifest
            assert manifest.required_features == ("quantization",)

    def test_a_program_without_codes_needs_no_feature(self):
        floats = formats.load(GOLDEN / "program-1.0.kpu")
        assert container.read(formats.to_bytes(floats)).manifest.required_features == ()

    def test_our_own_version_claims_the_features_that_it_uses(self):
        said = refusal(forged(manifest={"required_features": []}))
        assert "requires the features [], not ['quantization']" in said

    def test_upgrade_writes_our_version(self, tmp_path):
        formats.save(tiny_program(), tmp_path / "old.kpu")
        formats.upgrade(tmp_path / "old.kpu", tmp_path / "new.kpu")
        assert (tmp_path / "new.kpu").read_bytes() == (tmp_path / "old.kpu").read_bytes()

    def test_upgrade_reads_a_pipe_once(self, tmp_path, monkeypatch):
        data = formats.to_bytes(tiny_program())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        formats.upgrade("-", tmp_path / "new.kpu")
        assert (tmp_path / "new.kpu").read_bytes() == data

    def test_upgrade_does_not_drop_what_a_newer_version_added(self, tmp_path):
        with pytest.raises(FileError, match=r"1\.7 is newer"):
            formats.upgrade(forged(version="1.7"), tmp_path / "new.kpu")
        assert not list(tmp_path.iterdir())


class TestMalformed:
    def test_the_wrong_kind_of_file_says_which_it_is(self):
        with pytest.raises(FileError, match="a profile, where a program"):
            formats.load_program(formats.to_bytes(tiny_profile()))
        with pytest.raises(FileError, match="a program, where a profile"):
            formats.load_profile(formats.to_bytes(tiny_program()))
        assert "kpu-model" in refusal(forged(kind="kpu-model"))
        assert "members" in refusal(forged(kind="kpu-profile"))

    def test_members_in_another_order_are_refused(self):
        found = members_of(formats.to_bytes(tiny_program()))
        moved = {name: found[name] for name in ("manifest.json", "weights.safetensors")}
        assert "members" in refusal(archived({**moved, "program.json": found["program.json"]}))

    def test_a_zip_of_another_tool_is_refused(self):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as other:
            for name, data in members_of(formats.to_bytes(tiny_program())).items():
                other.writestr(name, data)
        refusal(buffer.getvalue())

    @pytest.mark.parametrize(
        "name", ["../evil.json", "a/b.json", ".hidden", "UPPER.json", "x" * 99]
    )
    def test_a_member_that_would_unpack_elsewhere_is_refused(self, name):
        assert "unexpected member" in refusal(forged(version="1.7", extra={name: b""}))

    def test_an_empty_file_and_a_file_of_another_kind_say_so(self):
        assert "empty" in refusal(b"")
        assert "not a KPU file" in refusal(b"GIF89a")
        assert "not a KPU file" in refusal(archived({"hello.txt": b"hello"}))

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"null",
            b"[]",
            b'{"name":"a","name":"b"}',
            b'{"name": "a"}',
            b'{"name":"a","estimated_total_energy_uj":1e0}',
            b'{"name":"a","estimated_total_energy_uj":NaN}',
            b'{"name":"a","estimated_total_energy_uj":1e999}',
            b'{"name":"\xff"}',
            b'{"name":"\\ud800"}',
            b'{"name":"\\u0061"}',
            b'{"version":"1","name":"a"}',
            b'{"name":"a"}\n',
            b'\xef\xbb\xbf{"name":"a"}',
            b'{"name":1}',
            b'{"name":"a","precision":"fp61"}',
            b'{"name":"a","peak_sram_bytes":1.5}',
            b'{"name":"a","options":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"name":"a","options":{"a":' + b"[" * 200 + b"]" * 200 + b"}}",
            b'{"name":"a","peak_sram_bytes":' + b"9" * 5000 + b"}",
            b'{"name":"a","peak_sram_bytes":9223372036854775808}',
        ],
    )
    def test_json_that_is_malformed_or_not_canonical_is_refused(self, text):
        """As a newer minor would be read: missing fields alone are no reason."""

        def read() -> None:
            content = document.decode(text, document.program_document(), "it", exact=False)
            document.frozen(content.options, "it")

        with pytest.raises(FileError):
            read()

    def test_nesting_is_limited_where_content_is_free(self):
        deep = "bottom"
        for _ in range(document.MAX_NESTING + 1):
            deep = [deep]
        assert "nested" in refusal(forged(content={"options": {"a": deep}}))

    def test_a_program_that_is_not_well_formed_is_refused_with_its_name(self, tmp_path):
        wrong = tiny_program(output_ids=("nothing",))
        formats.save(wrong, tmp_path / "wrong.kpu")
        with pytest.raises(FileError, match=r"wrong.kpu: tiny: .*'nothing'"):
            formats.load(tmp_path / "wrong.kpu")


class TestFiles:
    def test_a_missing_file_a_folder_and_a_forbidden_name_are_one_sentence(self, tmp_path):
        for source in (tmp_path / "no.kpu", tmp_path, "a\0b"):
            with pytest.raises(FileError) as caught:
                formats.load(source)
            assert "\n" not in str(caught.value)

    def test_an_empty_file_is_refused_by_name(self, tmp_path):
        (tmp_path / "empty.kpu").touch()
        with pytest.raises(FileError, match=r"empty.kpu: empty file"):
            formats.load(tmp_path / "empty.kpu")

    def test_a_target_that_cannot_be_written_is_one_sentence(self, tmp_path):
        for target in (tmp_path / "no" / "folder.kpu", tmp_path):
            with pytest.raises(FileError, match=str(tmp_path)):
                formats.save(tiny_program(), target)
        assert not list(tmp_path.iterdir())

    def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        path = tmp_path / "model.kpu"
        path.write_bytes(b"old")

        def interrupted(descriptor: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            formats.save(tiny_program(), path)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_link_stays_a_link_and_the_mode_follows_the_umask(self, tmp_path):
        (tmp_path / "link.kpu").symlink_to(tmp_path / "real.kpu")
        before = os.umask(0o027)
        try:
            formats.save(tiny_program(), tmp_path / "link.kpu")
        finally:
            os.umask(before)
        assert (tmp_path / "link.kpu").is_symlink()
        assert (tmp_path / "real.kpu").stat().st_mode & 0o777 == 0o640

    def test_a_pipe_is_read_and_written(self, tmp_path):
        code = (
            "import formats, sys\n"
            "formats.save(formats.load('/dev/stdin'), '/dev/stdout')\n"
            "formats.save(formats.load(sys.argv[1]), '-')\n"
        )
        data = formats.to_bytes(tiny_program())
        (tmp_path / "a.kpu").write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a.kpu"],
            input=data,
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        assert done.stdout == data * 2

    def test_stdin_is_named_when_it_is_malformed(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"PK")))
        with pytest.raises(FileError, match=r"^stdin: truncated$"):
            formats.load("-")

    def test_more_than_4_gib_is_refused_before_it_is_written(self, monkeypatch, tmp_path):
        monkeypatch.setattr(archive, "MAX_FILE_BYTES", 2048)
        with pytest.raises(LimitError, match="4 GiB"):
            formats.save(tiny_program(), tmp_path / "large.kpu")
        assert not list(tmp_path.iterdir())

    def test_more_than_4_gib_is_refused_before_it_is_read(self, tmp_path):
        path = tmp_path / "large.kpu"
        data = formats.to_bytes(tiny_program())
        with path.open("wb") as file:
            file.write(data)
            file.truncate(files.MAX_FILE_BYTES + 1)
        with pytest.raises(FileError, match="4 GiB"):
            formats.load(path)
