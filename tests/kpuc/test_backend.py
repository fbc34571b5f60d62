"""torch.compile(module, backend="kpu") gives eager's results, from the machine."""

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

from formats.config import KPUConfig
from kpuc import backend
from kpuc.quant.quantize import QuantOptions

TOLERANCE = 4e-3  # fp16 on values around 1
SAMPLES = torch.randn(100, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Net(nn.Module):
    """A convolution with normalisation, an in-place activation and two kinds of output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.norm(self.conv(x)).relu_()
        return {"logits": self.head(features.mean((2, 3))), "features": features, "input": x}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (1, 3, 8, 8), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_results_are_those_of_eager(net):
    x = image()
    expected = net(x)

    got = torch.compile(net, backend="kpu", fullgraph=True)(x)

    assert list(got) == ["logits", "features", "input"]
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        torch.testing.assert_close(got[name], tensor, atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_options_choose_precision_and_machine(net):
    expected = net(image())["logits"]
    options = {"precision": "bf16", "config": "swkpu-v2", "mode": "functional"}
    coarse = torch.compile(net, backend="kpu", options=options)(image())["logits"]
    torch.compiler.reset()
    fine = torch.compile(net, backend="kpu", options={"config": KPUConfig()})(image())["logits"]

    assert (fine - expected).abs().max() < (coarse - expected).abs().max() < 0.05


@torch.no_grad()
@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 2).double(),
        lambda x: x.half() + 1,
        lambda x: x.to(torch.bfloat16) * 2,
        lambda x: (x * 4).to(torch.int64),
        lambda x: torch.arange(4) + x.shape[0],
        lambda x: (x, None, [x * 2, 3]),
    ],
)
def test_dtypes_and_structure_are_those_of_eager(function):
    x = torch.tensor([[1.0, -2.5, 3.25, 0.5]])

    got = torch.compile(function, backend="kpu")(x)

    torch.testing.assert_close(got, function(x), atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_another_input_shape_compiles_another_program(net):
    compiled = torch.compile(net, backend="kpu")

    for batch, size in ((1, 8), (2, 8), (2, 6), (1, 8)):
        x = image(batch, 3, size, size)
        got = compiled(x)["logits"]
        torch.testing.assert_close(got, net(x)["logits"], atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.head.weight.mul_(2),
        lambda net: net.head.weight.data.mul_(2),
        lambda net: net.norm.running_mean.add_(1),
        lambda net: net.load_state_dict(Net().state_dict()),
        lambda net: setattr(net, "head", nn.Linear(8, 4)),
    ],
)
def test_changed_weights_are_never_stale(net, change):
    compiled = torch.compile(net, backend="kpu")
    before = compiled(image())["logits"]

    change(net)
    after = compiled(image())["logits"]

    assert not torch.equal(before, after)
    torch.testing.assert_close(after, net(image())["logits"], atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_unchanged_weights_are_compiled_once(net, monkeypatch):
    compilations = []
    compile_graph = backend.compile_graph
    monkeypatch.setattr(
        backend,
        "compile_graph",
        lambda *arguments, **named: compilations.append(1) or compile_graph(*arguments, **named),
    )
    net.head.weight[0, 0] = float("nan")  # equals itself, for once
    compiled = torch.compile(net, backend="kpu")

    for _ in range(3):
        compiled(image())

    assert len(compilations) == 1


@torch.no_grad()
def test_two_instances_of_a_class_keep_their_own_weights():
    first, second = Net().eval(), Net().eval()

    for net in (first, second, first):
        got = torch.compile(net, backend="kpu")(image())["logits"]
        torch.testing.assert_close(got, net(image())["logits"], atol=TOLERANCE, rtol=TOLERANCE)


@torch.no_grad()
def test_an_input_that_the_model_overwrites_is_overwritten():
    x = torch.tensor([-1.0, 2.0])

    got = torch.compile(lambda x: x.mul_(2) + 1, backend="kpu")(x)

    assert x.tolist() == [-2, 4]
    assert got.tolist() == [-1, 5]


@torch.no_grad()
def test_a_graph_break_leaves_two_programs():
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        torch._dynamo.graph_break()
        return y + 1

    assert torch.compile(function, backend="kpu")(torch.ones(3)).tolist() == [3, 3, 3]


@torch.no_grad()
@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (lambda x: torch.erf(x), {}, "Unsupported operators: Erf"),
        (lambda x: x + 1, {"speed": 3}, "no option 'speed'"),
        (lambda x: x + 1, {"precision": "fp17"}, "'fp17' is not one of"),
        (lambda x: x + 1, {"precision": "int8"}, "at least 100 samples: give .*calibration"),
        (
            lambda x: x + 1,
            {"precision": "int8", "calibration": torch.zeros(99, 3)},
            "at least 100 samples; there are 99",
        ),
        (
            lambda x: x + 1,
            {"precision": "int8", "calibration": torch.zeros(100, 3), "load_calibration": "a.cal"},
            "samples or load_calibration, not both",
        ),
        (lambda x: x + 1, {"save_calibration": "a.cal"}, "save_calibration: fp16 needs no"),
        (
            lambda x: x + 1,
            {"precision": "int8", "load_calibration": "gone.cal"},
            "gone.cal: No such file",
        ),
        (lambda x: x + 1, {"calibration": SAMPLES}, "calibration: fp16 takes nothing"),
        (lambda x: x + 1, {"quantization": QuantOptions()}, "quantization: fp16 has no codes"),
        (lambda x: x + 1, {"preprocess": "imagenet"}, "preprocess: it is for images of a calibr"),
        (
            lambda x: x + 1,
            {"precision": "int8", "calibration": SAMPLES, "preprocess": "foo"},
            "preprocess 'foo' is not one of imagenet",
        ),
        (lambda x: x + 1, {"mode": "cycle"}, "mode 'cycle' is not one of functional"),
        (lambda x: x + 1, {"config": "swkpu-v9"}, "swkpu-v9"),
    ],
)
def test_what_does_not_compile_says_why(function, options, words):
    with pytest.raises(BackendCompilerFailed, match=words):
        torch.compile(function, backend="kpu", options=options)(torch.ones(3))


def test_an_input_without_elements_is_refused():
    with pytest.raises(
        BackendCompilerFailed, match=r"input 'input' is empty: its shape is \[0, 3\]"
    ):
        torch.compile(lambda x: x + 1, backend="kpu")(torch.ones(0, 3))


@pytest.mark.parametrize("mode", ["cycle_accurate", "power_trace"])
def test_a_simulated_function_gives_the_same_numbers(mode):
    compiled = torch.compile(lambda x: x + 1, backend="kpu", options={"mode": mode})
    torch.testing.assert_close(compiled(torch.ones(3)), torch.full((3,), 2.0))


@torch.no_grad()
def test_state_written_in_forward_is_refused():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return x + self.seen

    with pytest.raises(BackendCompilerFailed, match="overwrites its own state 'seen'"):
        torch.compile(Counting(), backend="kpu")(torch.ones(1))


CODES = 0.06  # a few steps of codes on values around 1


@torch.no_grad()
@pytest.mark.parametrize(
    "calibration",
    [lambda: SAMPLES, lambda: list(SAMPLES), lambda: iter(SAMPLES), lambda: (x for x in SAMPLES)],
)
def test_codes_come_near_eager(net, calibration):
    options = {"precision": "int8", "calibration": calibration()}

    got = torch.compile(net, backend="kpu", fullgraph=True, options=options)(image())

    for name, tensor in net(image()).items():
        torch.testing.assert_close(got[name], tensor, atol=CODES, rtol=CODES)
    assert not torch.equal(got["logits"], net(image())["logits"])


@torch.no_grad()
def test_a_folder_or_a_file_calibrates_too(net, tmp_path):
    np.save(tmp_path / "samples.npy", SAMPLES.numpy())
    options = {"precision": "int8", "calibration": tmp_path / "samples.npy"}

    got = torch.compile(net, backend="kpu", options=options)(image())["logits"]

    torch.testing.assert_close(got, net(image())["logits"], atol=CODES, rtol=CODES)


@torch.no_grad()
def test_every_program_is_calibrated_on_an_iterator_that_gives_its_samples_once(net):
    options = {"precision": "int8", "calibration": iter(SAMPLES)}
    compiled = torch.compile(net, backend="kpu", options=options)

    for batch in (1, 2, 3):  # the second makes sizes symbolic, the third is a program of that graph
        x = image(batch, 3, 8, 8)
        torch.testing.assert_close(compiled(x)["logits"], net(x)["logits"], atol=CODES, rtol=CODES)
    net.head.weight.mul_(2)
    torch.testing.assert_close(
        compiled(image())["logits"], net(image())["logits"], atol=2 * CODES, rtol=CODES
    )


@torch.no_grad()
def test_a_saved_calibration_gives_the_same_codes(net, tmp_path):
    saved = tmp_path / "net.cal"
    options = {"precision": "int8", "calibration": SAMPLES, "save_calibration": saved}
    first = torch.compile(net, backend="kpu", options=options)(image())["logits"]
    torch.compiler.reset()
    options = {"precision": "int8", "load_calibration": saved}

    got = torch.compile(net, backend="kpu", options=options)(image())["logits"]

    assert torch.equal(got, first)


@torch.no_grad()
def test_how_codes_are_made_can_be_chosen(net):
    quantization = QuantOptions(keep_fp16=("*",))
    options = {"precision": "int8", "calibration": SAMPLES, "quantization": quantization}

    got = torch.compile(net, backend="kpu", options=options)(image())["logits"]

    torch.testing.assert_close(got, net(image())["logits"], atol=TOLERANCE, rtol=TOLERANCE)
