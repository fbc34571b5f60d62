"""What a report needs is in every profile that is read, or the profile is refused by name."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import formats
from formats import Profile
from formats.errors import FileError
from formats.profile import OP_COLUMNS, OP_FIGURES
from formats.verify_profile import profile_problems
from tests.formats.programs import tiny_profile

Defect = Callable[[Profile], Profile]


def metrics(**changes) -> Defect:
    return lambda sound: replace(sound, metrics=replace(sound.metrics, **changes))


def figure(op_id: str, **changes) -> Defect:
    def plant(sound: Profile) -> Profile:
        table = sound.metrics.op_metrics
        return metrics(op_metrics={**table, op_id: {**table.get(op_id, {}), **changes}})(sound)

    return plant


def without_figure(op_id: str, *names: str) -> Defect:
    def plant(sound: Profile) -> Profile:
        table = sound.metrics.op_metrics
        row = {name: value for name, value in table[op_id].items() if name not in names}
        return metrics(op_metrics={**table, op_id: row})(sound)

    return plant


def without_op(op_id: str) -> Defect:
    def plant(sound: Profile) -> Profile:
        table = sound.metrics.op_metrics
        return metrics(op_metrics={k: table[k] for k in table.keys() - {op_id}})(sound)

    return plant


def event(name: str, column: np.ndarray) -> Defect:
    return lambda sound: replace(sound, events={**sound.events, name: column})


def without_event(name: str) -> Defect:
    return lambda sound: replace(
        sound, events={key: column for key, column in sound.events.items() if key != name}
    )


DEFECTS: dict[str, tuple[Defect, str]] = {
    "sum": (metrics(total_cycles=1301), r"\(1200, 60, 40\) are not 1301"),
    "negative part": (metrics(compute_cycles=1400, other_cycles=-160), "are not 1300"),
    "op without figures": (without_op("flatten"), "no figures for op 'flatten'"),
    "figures without op": (figure("ghost", cycles=1.0), "'ghost', which is no op"),
    "missing figures": (without_figure("mean", "macs", "time_us"), "'mean' lacks time_us, macs"),
    "negative figure": (figure("mean", energy_pj=-1.0), "'mean' has energy_pj -1.0"),
    "bound by what": (figure("mean", bound_by=99.0), "bound_by 99.0"),
    "column without table": (event("cycle", np.zeros(1, np.int64)), "'cycle' is not a column"),
    "single precision": (event("op.x", np.zeros(3, np.float32)), "'op.x' is not a column"),
    "matrix": (event("op.x", np.zeros((3, 1))), "'op.x' is not a column"),
    "uneven": (event("power.joules", np.zeros(3)), "'power' differ in length"),
    "negative cycle": (event("op.end_cycle", np.full(3, -1)), "'op.end_cycle' holds what is no"),
    "fractional cycle": (event("op.end_cycle", np.zeros(3)), "'op.end_cycle' holds what is no"),
    "short table": (
        lambda sound: replace(sound, events={name: np.zeros(2, np.int64) for name in OP_COLUMNS}),
        "'op.start_cycle' with a row per op",
    ),
    **{name: (without_event(name), f"no event column '{name}'") for name in OP_COLUMNS},
}


def test_the_profile_without_a_defect_is_whole():
    assert list(profile_problems(tiny_profile())) == []
    assert set(tiny_profile().metrics.op_metrics["conv"]) == set(OP_FIGURES)


@pytest.mark.parametrize(("defect", "message"), DEFECTS.values(), ids=DEFECTS)
def test_a_planted_defect_is_refused_by_name(defect, message):
    with pytest.raises(FileError, match=message):
        formats.load(formats.to_bytes(defect(tiny_profile())))


def test_the_program_of_a_profile_is_verified_too():
    profile = tiny_profile()
    wrong = replace(profile, program=replace(profile.program, output_ids=("ghost",)))
    with pytest.raises(FileError, match="'ghost'"):
        formats.load(formats.to_bytes(wrong))
