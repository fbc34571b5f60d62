"""A sweep that is killed or interrupted: the next one computes what is missing, and no more."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
POINTS = 60


@pytest.fixture
def command(folder):
    (folder / "space.toml").write_text(
        f"vary.memory.dram_bandwidth_gbps = {{ from = 1, to = {POINTS}, step = 1 }}"
    )
    words = [str(folder / "space.toml"), "--model", str(folder / "net.kpu")]
    out = ["-o", str(folder / "results.csv"), "--workers", "2"]
    return [sys.executable, "-m", "kpuprof.cli", "sweep", *words, *out]


def started(command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True
    )


def keys(folder):
    path = folder / "results.jsonl"
    text = path.read_bytes().decode() if path.exists() else ""
    return [json.loads(line)["key"] for line in text.splitlines(True) if line.endswith("\n")]


def wait_for(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def live_processes(session):
    """Processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_sweep_killed_again_and_again_loses_and_doubles_nothing(command, folder):
    chance = random.Random(0)
    before = 0
    for _ in range(4):
        process = started(command)
        wanted = before + chance.randint(1, 10)
        wait_for(lambda wanted=wanted: len(keys(folder)) >= wanted)
        process.kill()
        process.communicate()
        wait_for(lambda session=process.pid: not live_processes(session))
        before = len(keys(folder))
        assert before < POINTS
    killed = keys(folder)
    finished = started(command)
    _, message = finished.communicate()
    assert finished.returncode == 0, message
    assert f"{POINTS - before} results computed, {before} there already" in message.decode()
    assert keys(folder)[:before] == killed
    assert len(set(keys(folder))) == len(keys(folder)) == POINTS
    assert len((folder / "results.csv").read_text().splitlines()) == 1 + POINTS


def test_an_interrupt_leaves_what_is_done_and_no_process(command, folder):
    process = started(command)
    wait_for(lambda: len(keys(folder)) >= 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "results computed" in message.decode()
    assert "Traceback" not in message.decode()
    assert 3 <= len(keys(folder)) < POINTS
    assert not (folder / "results.csv").exists()
    wait_for(lambda: not live_processes(process.pid))
