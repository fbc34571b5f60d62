"""Units of posits: where they are chosen from, and that they bring a program nearer."""

import numpy as np
import pytest

from formats.codec import round_to
from formats.errors import UsageError
from formats.precision import DType, KPUPrecision
from formats.schema import load_config
from kpuc.compiler import compile_graph
from kpuc.precision import float_storage, posit_scale
from kpuc.quant.observers import Observer
from kpuc.quant.posits import nearest_scale
from kpuc.quant.prepare import quantiser
from kpurun.engine import reference
from kpurun.engine.fast import FastEngine
from tests.kpuc.quant.networks import residual_network, samples_of

POSITS = [KPUPrecision.POSIT8, KPUPrecision.POSIT16]


def compiled(precision, count=110):
    graph, machine = residual_network(), load_config("swkpu-v2")
    data = [sample["x"] for sample in samples_of(graph, count)]
    quantise = quantiser(data, machine, precision) if count else None
    return compile_graph(graph, machine, precision, quantise=quantise)


def error_in_units_of(values, scale):
    scaled = round_to(values / np.float32(scale), DType.POSIT8) * scale
    return float(np.square(scaled - values).sum())


@pytest.mark.parametrize("magnitude", [1e-3, 0.05, 1.0, 300.0])
def test_a_weight_is_nearest_in_its_unit(magnitude):
    values = (np.random.default_rng(1).normal(size=500) * magnitude).astype(np.float32)
    scale = posit_scale(values, DType.POSIT8)
    assert np.frexp(scale)[0] == 0.5  # a power of two
    errors = [error_in_units_of(values, scale * octave) for octave in (0.5, 1, 2)]
    assert min(errors) == errors[1]


@pytest.mark.parametrize("values", [np.zeros(4), np.array([np.inf, 1.0])])
def test_what_has_no_magnitude_has_unit_one(values):
    assert posit_scale(values, DType.POSIT8) == 1.0


def test_a_histogram_gives_the_unit_of_its_values():
    values = (np.random.default_rng(2).normal(size=20_000) * 40).astype(np.float32)
    observer = Observer("x")
    observer.update(values)
    scale = nearest_scale(observer.histogram, DType.POSIT8)
    errors = {octave: error_in_units_of(values, scale * octave) for octave in (0.25, 0.5, 1, 2, 4)}
    assert errors[1] <= min(errors.values()) * 1.02


def test_a_tensor_of_zeros_has_unit_one():
    observer = Observer("x")
    observer.update(np.zeros(8, np.float32))
    assert nearest_scale(observer.histogram, DType.POSIT16) == 1.0


@pytest.mark.parametrize("precision", POSITS)
def test_weights_have_units_without_calibration_and_activations_with_it(precision):
    plain, calibrated = compiled(precision, 0), compiled(precision)
    assert plain.tensors["first.weight"].scale is not None
    assert plain.tensors["first"].scale is None
    assert calibrated.tensors["first"].scale is not None
    assert calibrated.tensors["pool"].scale == calibrated.tensors["stem"].scale  # handed on
    assert calibrated.quantization.samples > 90


@pytest.mark.parametrize("precision", POSITS)
def test_both_engines_agree_on_units(precision):
    program = compiled(precision)
    (sample,) = samples_of(residual_network(), 1, seed=5)
    fed = {program.input_ids[0]: sample["x"]}
    (expected,) = reference.run(program, fed).values()
    (found,) = FastEngine(program).run(fed).values()
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


def test_biases_and_outputs_stay_fp32():
    graph = residual_network()
    storage = float_storage(graph, KPUPrecision.POSIT8)
    assert storage.dtypes["first.bias"] is DType.FP32
    assert "first.bias" not in storage.params
    assert graph.outputs[0] not in storage.params


def test_too_few_samples_are_refused():
    with pytest.raises(UsageError, match="at least 100 samples"):
        compiled(KPUPrecision.POSIT8, 20)
