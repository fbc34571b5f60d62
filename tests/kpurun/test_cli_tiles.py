"""`kpurun --check-tiles` as a user meets it."""

import json
import os

import numpy as np
import pytest

from formats.console import run
from formats.container import save
from kpurun.cli import app
from kpurun.slots import Slots
from tests.kpurun.tiled_programs import residual_block


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a program in tiles."""
    monkeypatch.chdir(tmp_path)
    save(residual_block(), "model.kpu")
    return tmp_path


def kpurun(*words: str) -> int:
    return run(app, "kpurun", ["model.kpu", "--random", "0", *words])


def test_tiles_that_are_right_are_one_line_behind_the_metrics(capsys):
    assert kpurun("--check-tiles") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "tiles: 5 ops in 16 tiles" in said.err
    assert "equal to the reference" in said.err


def test_without_the_option_nothing_is_said_of_tiles(capsys):
    assert kpurun() == 0
    assert "tiles:" not in capsys.readouterr().err


def test_json_says_what_was_executed_and_moved(capsys):
    assert kpurun("--check-tiles", "--json") == 0
    checked = json.loads(capsys.readouterr().out)["check_tiles"]
    assert (checked["ops"], checked["views"], checked["tiles"]) == (5, 0, 16)
    assert checked["moved_bytes"]["sram_l2 to sram_l1"] > 0


def test_outputs_are_written_as_without_the_option():
    assert kpurun("-o", "alone.npy") == 0
    assert kpurun("-o", "checked.npy", "--check-tiles") == 0
    assert np.array_equal(np.load("alone.npy"), np.load("checked.npy"))


def test_a_tile_that_is_overwritten_too_early_ends_with_1_names_itself_and_leaves_no_file(
    monkeypatch, capsys
):
    monkeypatch.setattr(Slots, "address_of", lambda slots, fill: slots.address)
    assert kpurun("--check-tiles", "-o", "out.npy", "--profile", "run.kprof") == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "op 'pool' (MaxPool), tile 0 (OH 0:4): element" in said[0]
    assert "was overwritten before it was read, by op 'pool' (MaxPool), tile 1 (OH 4:8)" in said[0]
    assert os.listdir() == ["model.kpu"]
