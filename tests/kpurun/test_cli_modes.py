"""`kpurun --mode`: what a simulation adds to the profile, and how much of it."""

import numpy as np
import pytest

from formats.container import load_profile
from tests.kpurun.programs import IMAGE, classifier
from tests.kpurun.test_cli import kpurun


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    import formats

    monkeypatch.chdir(tmp_path)
    formats.save(classifier(), "model.kpu")
    np.save("in.npy", IMAGE)


def profile_of(*words):
    """The profile of a run, which succeeds."""
    assert kpurun("model.kpu", "-i", "in.npy", "--profile", "run.kprof", "-q", *words) == 0
    return load_profile("run.kprof")


def tables(profile):
    return {name.partition(".")[0] for name in profile.events}


def test_a_functional_run_records_ops_alone():
    assert tables(profile_of()) == {"op"}


def test_a_cycle_accurate_run_records_commands():
    profile = profile_of("--mode", "cycle_accurate")
    assert tables(profile) == {"op", "command"}
    assert int(profile.events["command.end_cycle"].max()) == profile.metrics.total_cycles


def test_a_power_trace_integrates_to_the_energy():
    profile = profile_of("--mode", "power_trace")
    starts, watts = profile.events["power.start_cycle"], profile.events["power.watts"]
    lasting = np.diff(starts, append=profile.metrics.total_cycles)
    energy_uj = float(watts @ lasting) / profile.program.target_config.compute.clock_mhz
    assert energy_uj == pytest.approx(profile.metrics.total_energy_uj)


def test_events_beyond_the_limit_are_left_out_and_counted(capsys):
    all_of_them = len(profile_of("--mode", "power_trace").events["command.op"])
    profile = profile_of("--mode", "power_trace", "--max-events", "3")
    assert len(profile.events["command.op"]) == len(profile.events["power.watts"]) == 3
    assert profile.options["left_out"]["command"] == all_of_them - 3
    assert "--max-events" in capsys.readouterr().err
