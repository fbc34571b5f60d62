"""Calibration at its limits: ranges and sums beyond the usual, kernels that cannot be codes."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import kpuc
import kpurun
from formats.errors import CompilationError, UsageError
from formats.precision import DType
from kpuc.quant.difference import Difference
from kpuc.quant.quantize import QuantOptions
from kpuc.quant.rounding import MOST_PRODUCTS

CONVOLUTIONS = nn.Sequential(
    nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 4, 1, bias=False)
).eval()


def calibrated(module, shape, scale=1.0, **options):
    """The module in INT8, with random samples."""
    samples = np.random.default_rng(0).standard_normal((100, *shape)).astype(np.float32)
    return kpuc.compile(
        module,
        (torch.zeros(1, *shape),),
        precision="int8",
        calibration=samples * np.float32(scale),
        quantization=QuantOptions(**options),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "mse"}, "'mse' is no RangeMethod"),
        ({"refinements": {}}, "{} is no Refinements"),
        ({"keep_fp16": "fc"}, "a tuple of patterns, not 'fc'"),
        ({"max_difference": -1}, "max_difference -1: give a positive number"),
        ({"max_difference": float("nan")}, "max_difference nan: give a number"),
        ({"min_sqnr_db": float("inf")}, "min_sqnr_db inf: give a number"),
        ({"min_sqnr_db": "40"}, "min_sqnr_db '40': give a number"),
    ],
)
def test_options_that_mean_nothing_are_refused_at_once(options, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        QuantOptions(**options)


@pytest.mark.parametrize("scale", [1e-20, 1e-12, 1e12, 1e17])
def test_the_size_of_the_inputs_does_not_matter(scale):
    (usual,) = calibrated(CONVOLUTIONS, (3, 7, 7)).quantization.sqnr_db.values()
    (scaled,) = calibrated(CONVOLUTIONS, (3, 7, 7), scale).quantization.sqnr_db.values()
    assert scaled == pytest.approx(usual, abs=3)


def test_a_sum_too_long_for_second_order_is_rounded_to_the_nearest():
    torch.manual_seed(0)
    program = calibrated(nn.Linear(MOST_PRODUCTS + 1, 3).eval(), (MOST_PRODUCTS + 1,))
    (db,) = program.quantization.sqnr_db.values()
    assert db > 25


def test_macs_of_a_sum_too_long_for_codes_are_not_counted_as_codes():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(70_000, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    program = calibrated(module, (70_000,))
    # 8·3 of 70,000·8 + 8·3
    assert program.quantization.mac_share == pytest.approx(24 / 560_024)


def of_batches(batch, samples, **options):
    """A linear layer for a batch in INT8, calibrated on `samples`."""
    torch.manual_seed(0)
    module = nn.Linear(8, 4).eval()
    example = (torch.zeros(batch, 8),)
    return kpuc.compile(module, example, precision="int8", calibration=samples, **options)


def test_samples_are_counted_and_not_batches():
    samples = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    found = of_batches(16, samples).quantization
    # a batch is held out, 84 are left: 5 batches of 16
    assert (found.samples, found.held_out) == (80, 16)


def test_samples_of_a_loaded_calibration_are_counted_too(tmp_path):
    samples = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    of_batches(16, samples, save_calibration=tmp_path / "x.cal")
    found = of_batches(16, None, load_calibration=tmp_path / "x.cal").quantization
    assert (found.samples, found.held_out) == (80, 16)


def test_every_place_of_a_whole_sample_is_calibrated_and_held_out():
    """The first row of each sample is 50 times as large; held out are whole samples, so the figure
    is that of fresh ones."""
    samples = np.random.default_rng(0).standard_normal((150, 10, 8)).astype(np.float32)
    samples[:, 0] *= 50
    program = of_batches(10, samples[:104])
    runtime = kpurun.KPURuntime()
    runtime.load_program(program)
    torch.manual_seed(0)
    module = nn.Linear(8, 4).eval()
    signal = noise = 0.0
    for sample in samples[104:]:
        exact = module(torch.from_numpy(sample)).detach().numpy()
        (made,) = runtime.run({program.get_input_tensors()[0].name: sample}).outputs.values()
        signal += float((exact**2).sum())
        noise += float(((made - exact) ** 2).sum())
    (db,) = program.quantization.sqnr_db.values()
    assert db == pytest.approx(10 * np.log10(signal / noise), abs=2)
    assert (program.quantization.samples, program.quantization.held_out) == (930, 110)


def with_a_large_weight():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    with torch.no_grad():
        module[0].weight[0, 0] = 1e5  # beyond the 65,504 of FP16
    return module


@pytest.mark.parametrize("options", [{}, {"keep_fp16": ("2",)}, {"min_sqnr_db": 30}])
def test_a_weight_that_only_codes_can_hold_is_codes(options):
    program = calibrated(with_a_large_weight(), (8,), scale=0.1, **options)
    (weight,) = (t for t in program.tensors.values() if t.name == "0.weight")
    assert weight.dtype is DType.INT8


def test_a_weight_that_stays_in_fp16_is_refused_if_that_cannot_hold_it():
    with pytest.raises(CompilationError, match=re.escape("0.weight holds 1e+05, which fp16")):
        calibrated(with_a_large_weight(), (8,), keep_fp16=("0",))


def test_an_activation_that_overflows_in_a_kept_kernel_is_refused():
    with pytest.raises(CompilationError, match="an activation overflows FP16"):
        calibrated(with_a_large_weight(), (8,), keep_fp16=("2",))


def test_an_output_that_is_no_number_is_infinitely_far():
    found = Difference()
    found.add(np.ones(2, np.float32), np.array([1, np.nan], np.float32))
    assert (found.worst, found.sqnr_db) == (np.inf, -200)
