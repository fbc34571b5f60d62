"""The data classes: complete after decoding, equal after pickling, quick to import."""

import os
import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

import formats
from formats.errors import MemoryError
from tests.formats.programs import tiny_profile, tiny_program

ROOT = Path(__file__).parents[2]


def python(code: str, *words: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_program_survives_plain_pickle(protocol):
    program = tiny_program()
    assert pickle.loads(pickle.dumps(program, protocol)) == program
    assert deepcopy(program) == program


def test_a_mapped_program_is_pickled_and_unpickled_where_its_file_is_gone(tmp_path):
    path = tmp_path / "tiny.kpu"
    formats.save(tiny_program(), path)
    with (tmp_path / "program.pickle").open("wb") as file:
        pickle.dump(formats.load_program(path), file)
    path.unlink()
    code = (
        "import formats, pickle\n"
        "program = pickle.load(open('program.pickle', 'rb'))\n"
        "assert program.validate() == []\n"
        "assert type(program.weights_blob) is bytes\n"
        "print(formats.weights(program)['bias'].tolist(), program.ops[0].attributes['strides'])\n"
    )
    assert python(code, folder=tmp_path) == "[0.5, -0.25, 0.125, 1.0] (1, 1)\n"


def test_a_profile_and_an_error_survive_pickle():
    profile = pickle.loads(pickle.dumps(tiny_profile()))
    np.testing.assert_array_equal(profile.events["power.watts"], [0.5, 1.5])
    assert str(pickle.loads(pickle.dumps(MemoryError(2048, 1024, "SRAM")))) == (
        "SRAM memory exceeded: 2KB required, 1KB available"
    )


def test_nothing_of_a_program_can_be_reassigned():
    with pytest.raises(FrozenInstanceError):
        tiny_program().name = "other"


def test_importing_the_package_brings_neither_numpy_nor_the_decoder(tmp_path):
    code = (
        "import sys, formats\n"
        "print([name for name in ('numpy', 'msgspec', 'typer', 'torch') if name in sys.modules])\n"
        "formats.load, formats.load_config, formats.dump\n"
        "print('torch' in sys.modules)\n"
    )
    assert python(code, folder=tmp_path) == "[]\nFalse\n"


def test_every_public_name_is_there():
    for name in formats.__all__:
        assert getattr(formats, name) is not None
    with pytest.raises(AttributeError, match="lod"):
        _ = formats.lod
