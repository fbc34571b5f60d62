"""What the plan decides about memory: what is overwritten, in which order results lie, and that a
second inference needs no more than the first."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from formats.precision import DType
from kpurun.engine import reference
from kpurun.engine.fast import FastEngine
from kpurun.engine.onednn.trials import are_integer_kernels_exact
from tests.kpurun.coded_programs import coded
from tests.kpurun.programs import ProgramBuilder

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(7).standard_normal((1, 8, 6, 6)).astype(np.float32) * 3

# The peak of a process of its own, in KiB, after the second and after the twelfth inference.
PEAKS = """
import resource
import numpy as np
from kpurun.engine.fast import FastEngine
from tests.kpurun.test_engine_plan import chain
program, inputs = chain(np.ones((1, 8, 512, 512), np.float32))
engine = FastEngine(program)
for count in (2, 10):
    for _ in range(count):
        engine.run(inputs)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

# What oneDNN executes in an inference, after a line of our own.
PRIMITIVES = """
import numpy as np
from kpurun.engine.fast import FastEngine
from tests.kpurun.test_engine_plan import chain
program, inputs = chain(np.ones((1, 8, 16, 16), np.float32))
engine = FastEngine(program, integer_kernels=True)
print("loaded", flush=True)
engine.run(inputs)
"""


def convolved(builder, x, *epilogue):
    """A convolution of 8 channels."""
    name = f"w_{len(epilogue)}_{x}"
    weight = builder.constant(name, np.random.default_rng(len(name)).standard_normal((8, 8, 1, 1)))
    return builder.op("Conv", x, weight, name=f"conv_{name}", epilogue=epilogue)


def chain(x):
    """(program, inputs) of residual blocks on codes."""
    builder = ProgramBuilder()
    value = convolved(builder, builder.input("x", x.shape), ("Relu", {}))
    for _ in range(3):
        inner = convolved(builder, value, ("Relu", {}))
        value = convolved(builder, inner, ("Add", value), ("Relu", {}))
    program = builder.program(builder.op("GlobalAveragePool", value))
    return coded(program, {"x": x}), {"x": x}


def read_again(builder, x):
    first = convolved(builder, x)
    second = convolved(builder, first, ("Add", first))
    return convolved(builder, second, ("Add", first))


def both_factor_and_residual(builder, x):
    first = convolved(builder, x)
    return convolved(builder, first, ("Add", first))


def an_input(builder, x):
    return convolved(builder, convolved(builder, x), ("Add", x))


def with_a_view(builder, x):
    first = convolved(builder, x)
    view = builder.op("Slice", first, axes=[1], starts=[0], ends=[4])
    second = convolved(builder, convolved(builder, first), ("Add", first))
    return builder.op("Concat", view, second, axis=1)


def a_view(builder, x):
    first = convolved(builder, x)
    view = builder.op("Identity", first)
    second = convolved(builder, convolved(builder, view), ("Add", view))
    return builder.op("Concat", first, second, axis=1)


RESIDUALS = [read_again, both_factor_and_residual, an_input, with_a_view, a_view]


@pytest.mark.parametrize("residual", RESIDUALS, ids=lambda build: build.__name__)
def test_a_residual_is_overwritten_only_after_its_last_use(residual):
    builder = ProgramBuilder()
    result = residual(builder, builder.input("x", X.shape))
    assert_all_is_right(coded(builder.program(result), {"x": X}), {"x": X})


def test_residual_blocks():
    assert_all_is_right(*chain(X))


def assert_all_is_right(program, inputs):
    """The outputs, twice, and all values where all are kept: within the few codes that convolutions
    behind each other may differ by."""
    values = tuple(i for i, tensor in program.tensors.items() if not tensor.is_weight)
    all_kept = replace(program, output_ids=values)
    expected = reference.run(all_kept, inputs)
    engine = FastEngine(program)
    for found in (FastEngine(all_kept).run(inputs), engine.run(inputs), engine.run(inputs)):
        for tensor_id, value in found.items():
            scale = program.tensors[tensor_id].scale
            assert np.abs(value - expected[tensor_id]).max() <= 4 * scale


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_joined_maps_that_are_an_output_and_read(axis):
    builder = ProgramBuilder()
    x = builder.input("x", X.shape)
    joined = builder.op(
        "Concat", convolved(builder, x), convolved(builder, x, ("Relu", {})), axis=axis
    )
    program = builder.program(joined, builder.op("Identity", joined))
    assert program.tensors[joined].dtype is DType.FP32
    expected = reference.run(program, {"x": X})
    for tensor_id, value in FastEngine(program).run({"x": X}).items():
        np.testing.assert_allclose(value, expected[tensor_id], rtol=2**-10, atol=1e-5)


def test_further_inferences_need_no_more_memory():
    """A map of codes is 2 MiB, one of floats 8."""
    second, last = map(int, lines_of(PEAKS))
    assert last - second < 1024


@pytest.mark.skipif(not are_integer_kernels_exact(), reason="oneDNN's integer kernels are not used")
def test_an_inference_is_one_primitive_for_each_convolution_and_no_packing():
    lines = lines_of(PRIMITIVES, ONEDNN_VERBOSE="1")
    executed = [line for line in lines[lines.index("loaded") :] if ",exec," in line]
    assert sum(",convolution," in line for line in executed) == 7
    assert len(executed) == 7


def lines_of(script, **environment):
    """What a process of its own prints."""
    words = [sys.executable, "-c", script]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, check=True, env=os.environ | environment
    )
    return done.stdout.splitlines()
