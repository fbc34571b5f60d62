"""Memory of convolutions' results: the same in every run, never that of a value still needed."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from formats.precision import DType
from formats.program import EpilogueStage, KPUOp, KPUTensor
from kpurun.engine import reference
from kpurun.engine.fast import FastEngine
from kpurun.engine.onednn.trials import are_integer_kernels_exact
from kpurun.engine.places import Places
from tests.kpurun.coded_programs import coded
from tests.kpurun.programs import ProgramBuilder

SHAPE = (1, 8, 6, 6)
RANDOM = np.random.default_rng(11)
IMAGES = [RANDOM.standard_normal(SHAPE).astype(np.float32) for _ in range(16)]

needs_integer_kernels = pytest.mark.skipif(
    not are_integer_kernels_exact(), reason="this processor has no exact integer convolutions"
)


def tensors(*sizes):
    """Maps of so many channels, named a, b, c …"""
    return {
        name: KPUTensor(name, name, (1, size, 2, 2), DType.UINT8, scale=0.1)
        for name, size in zip("abcdef", sizes, strict=False)
    }


def op(result, *operands, adds=None):
    epilogue = (EpilogueStage("Add", {}, operands.index(adds)),) if adds else ()
    return KPUOp(result, "Conv", operands, (result,), epilogue=epilogue, operand_count=1)


def address(place):
    return place.untyped_storage().data_ptr()


def test_values_needed_at_once_lie_apart():
    places, known = Places(), tensors(4, 4)
    a = places.take(op("a", "x"), known, frozenset())
    b = places.take(op("b", "a"), known, frozenset())
    assert address(a) != address(b)


def test_memory_of_a_released_value_is_taken_again():
    places, known = Places(), tensors(8, 4)
    a = places.take(op("a", "x"), known, frozenset())
    places.release(["a"])
    b = places.take(op("b", "x"), known, frozenset())
    assert (address(a), b.shape) == (address(b), (1, 4, 2, 2))


def test_memory_too_small_is_left_alone():
    places, known = Places(), tensors(4, 8)
    a = places.take(op("a", "x"), known, frozenset())
    places.release(["a"])
    assert address(places.take(op("b", "x"), known, frozenset())) != address(a)


def test_the_result_of_an_addition_takes_the_place_of_what_it_overwrites():
    places, known = Places(), tensors(4, 4, 4)
    a = places.take(op("a", "x"), known, frozenset())
    places.take(op("b", "a"), known, frozenset())
    c = places.take(op("c", "b", "a", adds="a"), known, frozenset({1}))
    assert address(c) == address(a)


def test_an_addend_of_another_shape_is_not_overwritten():
    places, known = Places(), tensors(1, 4, 4)
    a = places.take(op("a", "x"), known, frozenset())
    places.take(op("b", "a"), known, frozenset())
    assert address(places.take(op("c", "b", "a", adds="a"), known, frozenset({1}))) != address(a)


def residual_network():
    """Blocks of two convolutions and an addition, as ResNet has them; some values are read late."""
    builder = ProgramBuilder()
    kernels = [
        builder.constant(f"w{index}", RANDOM.standard_normal((8, 8, 3, 3)) / 8)
        for index in range(8)
    ]
    pads = {"pads": (1, 1, 1, 1)}
    trunk = first = builder.op("Conv", builder.input("x", SHAPE), kernels[0], **pads)
    for one, other in pairwise(kernels[1:]):
        inner = builder.op("Conv", trunk, one, epilogue=[("Relu", {})], **pads)
        trunk = builder.op("Conv", inner, other, epilogue=[("Add", trunk), ("Relu", {})], **pads)
    last = builder.op("Conv", trunk, kernels[0], epilogue=[("Add", first)], **pads)
    program = builder.program(last, trunk)
    return coded(program, {"x": IMAGES[0]})


@needs_integer_kernels
def test_runs_one_after_another_are_those_of_the_reference():
    program = residual_network()
    engine = FastEngine(program, integer_kernels=True)
    for image in IMAGES[:4]:
        expected = reference.execute(program, {"x": image}).outputs
        for tensor_id, got in engine.run({"x": image}).items():
            # an operation's neighbour code moves those behind it
            assert np.abs(got - expected[tensor_id]).max() <= 3 * program.tensors[tensor_id].scale


@needs_integer_kernels
def test_outputs_are_not_touched_by_the_next_run():
    engine = FastEngine(residual_network(), integer_kernels=True)
    outputs = engine.run({"x": IMAGES[0]})
    kept = {tensor_id: value.copy() for tensor_id, value in outputs.items()}
    engine.run({"x": IMAGES[1]})
    for tensor_id, value in outputs.items():
        np.testing.assert_array_equal(value, kept[tensor_id])


@needs_integer_kernels
def test_runs_of_many_threads_are_those_of_one():
    engine = FastEngine(residual_network(), integer_kernels=True)
    alone = [engine.run({"x": image}) for image in IMAGES]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: engine.run({"x": image}), IMAGES * 4))
    for got, expected in zip(together, alone * 4, strict=True):
        for tensor_id, value in got.items():
            np.testing.assert_array_equal(value, expected[tensor_id])
