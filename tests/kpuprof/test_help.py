"""`kpuprof --help` at 80 columns: every command with a whole sentence."""

from formats.console import run
from kpuprof.cli import app


def test_the_list_of_commands_cuts_no_sentence(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(app, "kpuprof", ["--help"])
    listed = capsys.readouterr().out.split("Commands:")[1].splitlines()
    assert len([line for line in listed if line.strip()]) == 10
    assert not [line for line in listed if line.endswith("...")]
