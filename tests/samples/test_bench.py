"""The benchmark's yardsticks are themselves checked: a wrong one would pass anything."""

import io
from itertools import islice

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from samples.bench.bars import at_most, print_bars
from samples.bench.crops import Crops, calibration_crops, held_out_crops
from samples.bench.difference import by_output, difference, holds_bar
from samples.bench.emulation import eager, ideal_fp16
from samples.bench.peer import INPUT, Reader, stride
from samples.bench.quantisation import margin_bar
from samples.bench.subjects import Subject


class ConvNormRelu(nn.Module):
    """One fused op of the machine, three operations of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


@pytest.fixture
def conv_norm_relu() -> nn.Module:
    torch.manual_seed(0)
    model = ConvNormRelu().eval()
    model.norm.running_mean.normal_()
    return model


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)


def as_half(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().float()


def test_ideal_fp16_rounds_every_operand_and_every_result(conv_norm_relu, image):
    conv, norm = conv_norm_relu.conv, conv_norm_relu.norm
    parameters = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    with torch.no_grad():
        rounded = as_half(
            nn.functional.conv2d(as_half(torch.from_numpy(image)), as_half(conv.weight))
        )
        normed = as_half(nn.functional.batch_norm(rounded, *map(as_half, parameters), eps=norm.eps))
    (actual,) = ideal_fp16(conv_norm_relu, image)(image)
    assert np.array_equal(actual, torch.relu(normed).numpy())


def test_fused_ideal_fp16_leaves_the_accumulator_unrounded(conv_norm_relu, image):
    conv, norm = conv_norm_relu.conv, conv_norm_relu.norm
    with torch.no_grad():
        products = nn.functional.conv2d(as_half(torch.from_numpy(image)), as_half(conv.weight))
        expected = torch.relu(norm(products))
    (actual,) = ideal_fp16(conv_norm_relu, image, fused=True)(image)
    assert np.array_equal(actual, expected.numpy())


def test_fused_ideal_fp16_stores_the_operand_of_an_addition_that_comes_first(image):
    class TwoBranches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.silu(x) + nn.functional.silu(x * 2)

    x = as_half(torch.from_numpy(image))
    expected = as_half(nn.functional.silu(x)) + nn.functional.silu(x * 2)
    (actual,) = ideal_fp16(TwoBranches(), image, fused=True)(image)
    assert np.array_equal(actual, expected.numpy())


def test_eager_gives_nested_outputs_flat_and_in_order(image):
    model = lambda x: {"a": x, "b": [x + 1, (x + 2,)]}  # noqa: E731  a module would say less
    assert [round(float((out - image).mean())) for out in eager(model)(image)] == [0, 1, 2]


def test_difference_reports_the_worst_image_and_the_energy_of_all():
    baseline = [np.array([[4.0, 0.0]]), np.array([[0.0, 2.0]])]
    outputs = [np.array([[4.0, 0.4]]), np.array([[0.1, 2.0]])]
    figures = difference(baseline, outputs)
    assert figures.max_abs == pytest.approx(0.4)
    assert figures.share_of_range == pytest.approx(0.1)  # 0.4 of 4
    assert figures.median_share == pytest.approx((0.1 + 0.05) / 2)
    assert figures.sqnr_db == pytest.approx(10 * np.log10(20 / 0.17))
    assert figures.top1_agreement == 1.0


def test_outputs_without_a_difference_have_an_infinite_ratio():
    same = [np.ones((1, 3))]
    assert difference(same, same).sqnr_db == float("inf")


def test_top1_agreement_counts_images_whose_class_changed():
    baseline = [np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])]
    outputs = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    assert difference(baseline, outputs).top1_agreement == 0.5


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.0005, True), (0.0100, True), (0.0105, True), (0.0120, False)]
)
def test_the_bar_is_a_thousandth_of_the_range_or_half_a_decibel_below_ideal(error, verdict):
    baseline = [np.array([[1.0, 0.0]])]
    ideal = difference(baseline, [np.array([[1.01, 0.0]])])
    ours = difference(baseline, [np.array([[1.0 + error, 0.0]])])
    assert holds_bar(ours, ideal) is verdict


def test_images_of_each_output_are_collected():
    assert by_output([["a1", "b1"], ["a2", "b2"]]) == [["a1", "a2"], ["b1", "b2"]]


def test_failed_bars_are_printed_last():
    console = Console(file=io.StringIO(), width=100)
    print_bars(console, [at_most("slow", 2.0, 1.5, "×"), at_most("quick", 1.0, 1.5, "×")])
    printed = console.file.getvalue()
    assert printed.index("quick") < printed.index("slow") < printed.index("FAIL")


def test_int8_has_to_beat_the_best_calibrator_by_its_margin():
    baseline = [np.array([[4.0, 0.0, 2.0]])]
    noisy, fine, finer = (
        difference(baseline, [baseline[0] + np.array([[0.0, noise, 0.0]])])
        for noise in (0.4, 0.2, 0.12)
    )
    assert margin_bar("logits", finer, [noisy, fine]).holds  # 4.4 dB better
    assert not margin_bar("logits", fine, [noisy, finer]).holds
    assert margin_bar("logits", finer, [noisy]).holds


def test_the_samples_of_both_are_the_same_and_come_in_ranges():
    crops = Crops(("astronaut", "coffee"), 5, is_detector=False)
    every = list(crops)
    reader = Reader(crops)

    read = []
    for start in range(0, len(crops), stride(len(crops))):
        reader.set_range(start, start + stride(len(crops)))
        while (sample := reader.get_next()) is not None:
            read.append(sample[INPUT])

    assert {image.shape for image in every} == {(1, 3, 224, 224)}
    assert len(every) == len(crops) == len(read)
    assert all(map(np.array_equal, read, every))


@pytest.mark.parametrize(("count", "size"), [(100, 5), (9, 3), (7, 1), (4, 4)])
def test_as_many_images_at_once_as_divide_their_number(count, size):
    assert stride(count) == size


def test_held_out_crops_are_others_than_those_of_calibration():
    subject = Subject("yolov8n")
    held_out, calibration = held_out_crops(subject), calibration_crops(subject)
    assert (len(calibration), len(held_out)) == (100, 40)
    assert next(iter(held_out)).shape == (1, 3, 640, 640)
    seen = {image.tobytes() for image in islice(calibration, 12)}  # all of the first photo
    assert all(image.tobytes() not in seen for image in islice(held_out, 5))
