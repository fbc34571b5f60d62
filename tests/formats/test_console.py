"""The commands' shared conduct: exit codes, one line per mistake, what goes where."""

import builtins
import errno
import io
import json
import sys

import pytest
import typer

from formats import console
from formats.errors import (
    CheckError,
    CompilationError,
    ConfigurationError,
    FileError,
    InputError,
    LimitError,
    MemoryError,
    TrustError,
    UnsupportedOpError,
    UsageError,
    shape_mismatch,
    too_few_calibration_samples,
)


def app_raising(error: BaseException | None) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def command(traceback: console.TracebackOption = False, precision: str = "fp16") -> None:
        if error is not None:
            raise error

    return app


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (CheckError("a gate failed"), 1),
        (UsageError("wrong option"), 2),
        (InputError("wrong input"), 2),
        (FileError("model.kpu: not a program"), 3),
        (FileNotFoundError(2, "No such file or directory", "model.pt"), 3),
        (CompilationError("cannot compile"), 4),
        (ConfigurationError("cannot do"), 4),
        (UnsupportedOpError(["GroupNorm"]), 4),
        (MemoryError(1, 0, "SRAM"), 5),
        (LimitError("too many"), 5),
        (TrustError("needs trust"), 6),
        (OSError(28, "No space left on device"), 3),
        (builtins.MemoryError(), 5),
        (ZeroDivisionError("division by zero"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error, code):
    assert console.run(app_raising(error), "kpuc", []) == code


def test_a_mistake_is_one_line_without_a_traceback(capsys):
    console.run(app_raising(FileError("model.kpu: truncated")), "kpurun", [])
    assert capsys.readouterr().err == "kpurun: error: model.kpu: truncated\n"


def test_traceback_is_shown_on_request(capsys):
    console.run(app_raising(FileError("model.kpu: truncated")), "kpurun", ["--traceback"])
    assert "Traceback" in capsys.readouterr().err


def test_a_misspelt_option_is_one_line_that_suggests_the_right_one(capsys):
    code = console.run(app_raising(None), "kpuc", ["--precison", "fp16"])
    err = capsys.readouterr().err
    assert code == 2
    assert err.count("\n") == 1
    assert "--precision" in err


@pytest.mark.parametrize("number", [0, errno.EPIPE])
def test_a_closed_pipe_is_silent(number, capsys, monkeypatch):
    monkeypatch.setattr(console, "_leave_closed_pipe", lambda: None)
    assert console.run(app_raising(BrokenPipeError(number, "closed")), "kpuprof", []) == 0
    assert capsys.readouterr().err == ""


def test_a_sign_that_the_locale_lacks_is_replaced(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(lambda: print("1 µs"))
    assert console.run(app, "kpuprof", []) == 0
    assert stdout.buffer.getvalue() == b"1 ?s\n"


def test_an_unknown_value_lists_the_allowed_ones_and_the_nearest():
    with pytest.raises(UsageError, match="'fp61' is not one of fp16, bf16; did you mean fp16"):
        console.one_of("fp61", ["fp16", "bf16"], "--precision")


def test_binary_data_is_refused_on_a_terminal(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(UsageError, match="refusing to write binary data to a terminal"):
        console.write_stdout(b"\0")


def test_json_carries_a_schema_version(capsys):
    console.print_json("kpurun", {"cycles": 3})
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema_version": "1.0", "command": "kpurun", "cycles": 3}


def test_writing_over_the_input_is_refused(tmp_path):
    path = tmp_path / "model.kpu"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match="would overwrite"):
        console.require_different(str(path), str(tmp_path / "." / "model.kpu"))


def test_the_documents_messages_are_produced_to_the_letter():
    assert str(UnsupportedOpError(["InstanceNorm", "GroupNorm"])) == (
        "Unsupported operators: InstanceNorm, GroupNorm"
    )
    assert str(MemoryError(512 * 1024, 256 * 1024, "SRAM")) == (
        "SRAM memory exceeded: 512KB required, 256KB available"
    )
    assert str(shape_mismatch((1, 3, 224, 224), (1, 3, 640, 640))) == (
        "Input shape mismatch: expected (1,3,224,224), got (1,3,640,640)"
    )
    assert str(too_few_calibration_samples()) == "INT8 calibration requires at least 100 samples"


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(900, "900 B"), (12_800, "12.5 KiB"), (3_250_585, "3.1 MiB")]
)
def test_sizes_are_written_for_people(size_bytes, text):
    assert console.size_text(size_bytes) == text
