"""What is done with a file of each kind: read whole, then used as the commands use it.

A target catches nothing. What a reader may raise is `tests.fuzz.judge`'s to say.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

import formats
from formats.errors import InputError
from formats.program import KPUProgram
from formats.schema import load_config
from kpuprof.budgets import budgets
from kpuprof.memory import memory_use
from kpuprof.rows import op_rows
from kpuprof.summary import summarise, summarise_quantization
from kpuprof.sweep.space import read_space
from kpuprof.text import render
from kpurun import KPURuntime
from kpurun.engine import reference
from kpurun.engine.storage import EngineResult
from kpurun.feed import checked_inputs
from kpurun.inputs import random_inputs
from kpurun.sim.timeline import simulate, simulated_metrics
from kpurun.wellformed import require_wellformed

MOST_RUN_BYTES = 1 << 20  # of all tensors of a program that is executed
UNITS = {"fp16": 2.0**-10}  # in the last place; the others are no finer than bf16
COARSEST_UNIT = 2.0**-7
WIDTH = 80


def program(data: bytes) -> None:
    """Read, listed, written again and, if it is small, executed by both engines."""
    found = formats.load_program(data)
    assert "\x1b" not in formats.dump(found)
    assert found.validate() == []
    assert formats.load(formats.to_bytes(found)) == found
    if sum(tensor.size_bytes for tensor in found.tensors.values()) > MOST_RUN_BYTES:
        require_wellformed(found)
        simulated_metrics(simulate(found))
        return
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _execute(found)


def _execute(found: KPUProgram) -> None:
    runtime = KPURuntime()
    runtime.load_program(found)
    try:
        inputs = checked_inputs(found, random_inputs(found, seed=0))
    except InputError:  # random numbers that the mutant's inputs cannot hold
        return
    runtime.run(inputs)
    assert runtime._execute is not None
    _assert_agree(found, reference.execute(found, inputs), runtime._execute(inputs))


def _assert_agree(found: KPUProgram, right: EngineResult, got: EngineResult) -> None:
    """The definition's numbers, unless both say that numbers overflow."""
    assert (right.overflowed is None) == (got.overflowed is None), "one engine finds an overflow"
    if right.overflowed is not None:
        return
    unit = UNITS.get(found.precision.value, COARSEST_UNIT)
    for tensor_id, expected in right.outputs.items():
        value = got.outputs[tensor_id]
        assert value.dtype == expected.dtype
        assert value.shape == expected.shape
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(value[~finite], expected[~finite])
        scale = float(np.abs(expected[finite]).max(initial=0))
        np.testing.assert_allclose(value[finite], expected[finite], rtol=unit, atol=unit * scale)


def profile(data: bytes) -> None:
    """Read, written again and shown."""
    found = formats.load_profile(data)
    again = formats.to_bytes(found)
    assert formats.to_bytes(formats.load_profile(again)) == again
    rows = op_rows(found)
    summary = summarise(found, rows)
    quantization = summarise_quantization(found.program)
    shown = render(summary, quantization, rows, memory_use(found), 0, WIDTH)
    with Path(os.devnull).open("w") as nowhere:
        Console(file=nowhere, width=WIDTH).print(shown)


def config(data: bytes) -> None:
    """A machine's description, as `--config` reads it."""
    _named(data, "machine.toml", load_config)


def budget_file(data: bytes) -> None:
    """Budgets, as `kpuprof check` reads them."""
    _named(data, "budgets.toml", lambda path: budgets([], path))


def space(data: bytes) -> None:
    """The space of a sweep, with the machines at its ends."""
    _named(data, "space.toml", lambda path: read_space(path).size)


def _named(data: bytes, name: str, read: Callable[[str], Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        read(str(path))
