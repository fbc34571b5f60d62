"""`kpuprof trace` as a user meets it: files and pipes, formats, and every mistake."""

import io
import json
import sys
from dataclasses import replace

import pytest

from formats.console import run
from formats.container import load_profile, save
from formats.profile import SimulationMode
from kpuprof.cli import app
from kpuprof.trace import trace_of
from kpuprof.trace_chrome import chrome_text
from kpuprof.trace_perfetto import perfetto_bytes
from tests.kpuprof.simulated import played


@pytest.fixture
def path(tmp_path):
    save(played(), tmp_path / "run.kprof")
    return str(tmp_path / "run.kprof")


def trace(*words):
    return run(app, "kpuprof", ["trace", *map(str, words)])


@pytest.mark.parametrize("name", ["trace.pftrace", "trace.perfetto-trace", "trace", "json"])
def test_a_file_of_any_name_is_in_the_native_format(path, tmp_path, name):
    assert trace(path, "-o", tmp_path / name) == 0
    assert (tmp_path / name).read_bytes() == perfetto_bytes(trace_of(load_profile(path)))


@pytest.mark.parametrize("name", ["trace.json", "trace.JSON"])
def test_a_file_named_json_is_in_the_format_of_chrome(path, tmp_path, name):
    assert trace(path, "-o", tmp_path / name) == 0
    assert (tmp_path / name).read_text() == chrome_text(trace_of(load_profile(path)))


def test_a_format_that_is_asked_for_goes_before_the_name(path, tmp_path):
    assert trace(path, "-o", tmp_path / "trace.json", "--format", "perfetto") == 0
    assert (tmp_path / "trace.json").read_bytes() == perfetto_bytes(trace_of(load_profile(path)))


def test_stdout_gets_the_native_format(path, capsysbinary):
    assert trace(path, "-o", "-") == 0
    assert capsysbinary.readouterr().out == perfetto_bytes(trace_of(load_profile(path)))


def test_stdout_gets_events_of_chrome_when_asked(path, capsysbinary):
    assert trace(path, "-o", "-", "--format", "chrome") == 0
    assert json.loads(capsysbinary.readouterr().out)["traceEvents"]


def test_a_profile_comes_from_stdin(path, tmp_path, monkeypatch):
    with open(path, "rb") as file:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        assert trace("-", "-o", tmp_path / "trace.pftrace") == 0
    assert (tmp_path / "trace.pftrace").read_bytes() == perfetto_bytes(trace_of(load_profile(path)))


def test_a_whole_profile_is_traced_in_silence(path, tmp_path, capsys):
    trace(path, "-o", tmp_path / "trace.pftrace")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("mode", "rows", "said"),
    [
        (SimulationMode.FUNCTIONAL, 10**6, ["only ops are shown"]),
        (SimulationMode.CYCLE_ACCURATE, 10**6, ["no power over time"]),
        (SimulationMode.POWER_TRACE, 20, ["commands", "the last"]),
    ],
)
def test_what_a_profile_lacks_is_said_on_stderr(tmp_path, capsys, mode, rows, said):
    save(played(mode, rows), tmp_path / "run.kprof")
    assert trace(tmp_path / "run.kprof", "-o", tmp_path / "trace.pftrace") == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert line.startswith("kpuprof: note: ")
        assert words in line


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b'{"traceEvents": []}', b"PK\x03\x04"],
    ids=["empty", "image", "trace", "cut"],
)
def test_a_file_that_is_no_profile_is_refused_and_nothing_is_written(tmp_path, capsys, content):
    (tmp_path / "run.kprof").write_bytes(content)
    assert trace(tmp_path / "run.kprof", "-o", tmp_path / "trace.pftrace") == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["run.kprof"]


def test_a_program_is_no_profile(path, tmp_path, capsys):
    program = replace(load_profile(path).program, ops=(), tensors={}, buffers=())
    save(replace(program, input_ids=(), output_ids=()), tmp_path / "model.kpu")
    assert trace(tmp_path / "model.kpu", "-o", tmp_path / "trace.pftrace") == 3
    assert not (tmp_path / "trace.pftrace").exists()


def test_a_profile_with_commands_of_another_run_is_refused(path, tmp_path, capsys):
    profile = load_profile(path)
    events = {**profile.events, "command.end_cycle": profile.events["command.end_cycle"] * 2}
    save(replace(profile, events=events), tmp_path / "other.kprof")
    assert trace(tmp_path / "other.kprof", "-o", tmp_path / "trace.pftrace") == 3
    assert "outside the run" in capsys.readouterr().err
    assert not (tmp_path / "trace.pftrace").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--output"),
        (["-o", "trace.pftrace", "--format", "perfeto"], "did you mean perfetto?"),
        (["-o", "trace.pftrace", "--cycles"], "--cycles"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(path, capsys, words, message):
    assert trace(path, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_trace_does_not_replace_its_profile(path, capsys):
    assert trace(path, "-o", path) == 2
    assert load_profile(path)
