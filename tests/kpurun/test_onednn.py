"""oneDNN's convolutions through its C interface: what is asked for is what is computed."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import pytest
import torch
from torch.nn import functional

from kpurun.engine.arithmetic import one_at_a_time
from kpurun.engine.onednn import library, trials
from kpurun.engine.onednn.convolution import ELTWISE, Convolution, Factors, Finish, Geometry
from kpurun.engine.onednn.library import UnimplementedError
from kpurun.engine.onednn.trials import are_integer_kernels_exact, convolves_exactly

pytestmark = pytest.mark.skipif(
    not are_integer_kernels_exact(), reason="oneDNN's integer kernels are not exact here"
)

# Unequal in everything that could be mixed up: axes, ends, channels and filters.
SKEWED = Geometry(
    maps=(2, 6, 9, 12), weight=(4, 3, 3, 2), strides=(2, 1), begins=(1, 0), ends=(2, 1),
    dilations=(1, 2), groups=2, is_shifted=True,
)  # fmt: skip
ACTIVATIONS = {
    "relu": functional.relu,
    "swish": functional.silu,
    "hardtanh": lambda x: x.clamp(-3.0, 6.0),
    "hardswish": functional.hardswish,
}
X_SCALE, X_ZERO_POINT = 0.01, 7


def drawn(geometry):
    """(codes, weight, scales of the weight, bias)"""
    random = torch.Generator().manual_seed(1)
    x = torch.randint(0, 256, geometry.maps, dtype=torch.uint8, generator=random)
    weight = torch.randint(-127, 128, geometry.weight, dtype=torch.int8, generator=random)
    scales = torch.rand(geometry.weight[0], generator=random) * 0.01
    bias = torch.randn(geometry.weight[0], generator=random)
    return x.contiguous(memory_format=torch.channels_last), weight, scales, bias


def expected(geometry, x, weight, scales, bias):
    """In double precision, before any activation."""
    (top, left), (bottom, right) = geometry.begins, geometry.ends
    padded = functional.pad(x.double() - X_ZERO_POINT, (left, right, top, bottom))
    sums = functional.conv2d(
        padded, weight.double(), None, geometry.strides, 0, geometry.dilations, geometry.groups
    )
    per_filter = (-1, 1, 1)
    return sums * X_SCALE * scales.double().view(per_filter) + bias.double().view(per_filter)


def convolution(geometry, weight, scales, **finish):
    return Convolution(geometry, weight, Factors(X_SCALE, X_ZERO_POINT, scales), Finish(**finish))


def test_the_result_has_the_shape_that_the_geometry_says():
    # height: (9 + 1 + 2 - 2 - 1) // 2 + 1 = 5; width: (12 + 0 + 1 - 2·1 - 1) // 1 + 1 = 11
    assert SKEWED.result == (2, 4, 5, 11)


@pytest.mark.parametrize("name", sorted(ELTWISE))
def test_bias_and_activation_follow_the_sum(name):
    x, weight, scales, bias = drawn(SKEWED)
    parameters = (-3.0, 6.0) if name == "hardtanh" else ()
    found = convolution(SKEWED, weight, scales, bias=bias, activation=(name, parameters))(x)
    right = ACTIVATIONS[name](expected(SKEWED, x, weight, scales, bias))
    torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-5)


def test_codes_are_rounded_once_after_codes_are_added():
    x, weight, scales, bias = drawn(SKEWED)
    other = torch.randint(0, 256, SKEWED.result, dtype=torch.uint8)
    other = other.contiguous(memory_format=torch.channels_last)
    added_reals = (other.double() - 9) * 0.05
    convolve = convolution(
        SKEWED, weight, scales, bias=bias, added=(0.05, 9), scale=0.07, zero_point=100,
        dtype=torch.uint8,
    )  # fmt: skip
    codes = (expected(SKEWED, x, weight, scales, bias) + added_reals) / 0.07 + 100
    right = codes.round().clamp(0, 255)
    assert (convolve(x, other).double() - right).abs().max() <= 1
    assert (other.double() != right).double().mean() < 0.01  # in place, and seldom another code


def test_calls_from_many_threads_do_not_meet():
    x, weight, scales, bias = drawn(SKEWED)
    convolve = convolution(SKEWED, weight, scales, bias=bias)
    alone = convolve(x)
    halves = [x, (x // 2).contiguous(memory_format=torch.channels_last)] * 50
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(convolve, halves))
    assert all(torch.equal(result, alone) for result in found[::2])
    assert not any(torch.equal(result, alone) for result in found[1::2])


def test_windows_within_the_padding_are_not_tried():
    assert not convolves_exactly(SKEWED._replace(begins=(3, 0)))


def test_without_the_package_there_are_no_integer_kernels(monkeypatch):
    def missing(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "files", missing)
    monkeypatch.setattr(library, "_load", library._load.__wrapped__)
    assert not trials.are_integer_kernels_exact.__wrapped__()
    with pytest.raises(UnimplementedError, match="onednn-cpu-gomp is not installed"):
        library.loaded_library()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_does_not_wait_for_a_call_of_its_parent():
    """As after a fork while another thread was in a call."""
    is_held, may_go = threading.Event(), threading.Event()

    def call() -> None:
        with one_at_a_time():
            is_held.set()
            may_go.wait()

    caller = threading.Thread(target=call)
    caller.start()
    is_held.wait()
    child = os.fork()
    if child == 0:
        os._exit(int(not one_at_a_time().acquire(blocking=False)))
    _, status = os.waitpid(child, 0)
    may_go.set()
    caller.join()
    assert os.waitstatus_to_exitcode(status) == 0
