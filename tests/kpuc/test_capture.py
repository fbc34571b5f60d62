"""Capture keeps the model's interface, leaves the user's module alone and explains refusals."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from formats.errors import CompilationError, UnsupportedOpError, UsageError
from kpuc.capture import capture
from kpuc.graph import Graph
from kpuc.lower import lower
from tests.kpuc.module_case import Function
from tests.kpuc.test_lower import interpret

SHAPE = (1, 3, 4, 4)
Pair = namedtuple("Pair", "boxes scores")


class Block(nn.Module):
    """A convolution with normalisation and an activation that writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(x)))


class Nested(nn.Module):
    """Blocks within a Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), nn.SiLU())

    def forward(self, image: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return self.blocks(image) * scale


class Anchored(nn.Module):
    """Prepares its anchors in its first call, as YOLO does."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors = torch.empty(0)
        self.shape: torch.Size | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.shape != x.shape:
            self.anchors = torch.from_numpy(np.arange(4, dtype=np.float32))
            self.shape = x.shape
        return x + self.anchors


class Counting(nn.Module):
    """Keeps state in a buffer and in attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.calls = 0
        self.history: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.history.append(1)
        return x * 2


def graph_of(function: object, *inputs: object) -> Graph:
    module = function if isinstance(function, nn.Module) else Function(function)
    return lower(capture(module, inputs or (SHAPE,)))


def output_names(graph: Graph) -> list[str]:
    return [graph.names[output] for output in graph.outputs]


def test_ops_are_named_by_module_path_and_user_line():
    graph = graph_of(Nested())

    first = graph.nodes[0]
    assert (first.op_type, first.name) == ("Conv", "blocks.0.conv")
    assert first.source.startswith("tests/kpuc/test_capture.py:")
    assert first.source.endswith("return self.act(self.norm(self.conv(x)))")
    assert "blocks.0.conv.weight" in graph.constants
    silu = next(node for node in graph.nodes if node.op_type == "Swish")
    assert silu.name == "blocks.1"
    assert silu.source.endswith("return self.blocks(image) * scale")


def test_inputs_have_the_names_of_the_arguments():
    assert graph_of(Nested()).inputs == ("image",)
    by_name = lower(capture(Nested(), {"image": SHAPE, "scale": 3.0}))
    assert by_name.inputs == ("image",)


def test_inputs_in_lists_and_dicts_are_flattened():
    graph = graph_of(lambda x, more: x + more["a"] * more["b"][0], (2,), {"a": (2,), "b": [(2,)]})

    assert graph.inputs == ("arguments_0", "arguments_1_a", "arguments_1_b_0")


def test_an_unused_input_stays_an_input():
    class Model(nn.Module):
        def forward(self, x: torch.Tensor, unused: torch.Tensor) -> torch.Tensor:
            return x + 1

    graph = lower(capture(Model(), (SHAPE, (7,))))

    assert graph.inputs == ("x", "unused")
    assert graph.types["unused"].shape == (7,)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x: x + 1, ["output"]),
        (lambda x: (x + 1, x * 2), ["output_0", "output_1"]),
        (lambda x: [x + 1], ["output_0"]),
        (lambda x: {"boxes": x + 1, "scores": [x, x * 2]}, ["boxes", "scores_0", "scores_1"]),
        (lambda x: OrderedDict(b=x + 1, a=x * 2), ["b", "a"]),
        (lambda x: Pair(x + 1, (x * 2,)), ["boxes", "scores_0"]),
        (lambda x: (x + 1, None, {"aux": x * 2}), ["output_0", "output_2_aux"]),
        (lambda x: {"a": {"b": x + 1}, "a_b": x * 2}, ["a_b_2", "a_b"]),
    ],
)
def test_outputs_are_named_by_their_place(function, names):
    assert sorted(output_names(graph_of(function))) == sorted(names)


def test_outputs_keep_the_models_order():
    graph = graph_of(lambda x: {"z": x + 1, "a": x * 2, "m": x - 3})

    assert output_names(graph) == ["z", "a", "m"]


def test_input_constant_and_repeated_tensor_are_outputs_of_their_own():
    constant = torch.arange(3.0)
    graph = graph_of(lambda x: (x, constant, (y := x + 1), y, x), (3,))
    x = np.array([1, 2, 3], np.float32)

    outputs = interpret(graph, {graph.inputs[0]: x})

    assert len(set(graph.outputs)) == 5
    assert not set(graph.outputs) & {*graph.inputs, *graph.constants}
    for got, wanted in zip(outputs, (x, constant.numpy(), x + 1, x + 1, x), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_an_input_overwritten_and_returned_has_its_new_value():
    graph = graph_of(lambda x: x.relu_(), (3,))

    (output,) = interpret(graph, {graph.inputs[0]: np.array([-1, 0, 2], np.float32)})

    assert output.tolist() == [0, 0, 2]


def test_the_same_input_given_twice_stays_two_inputs():
    x = torch.ones(3)

    assert len(graph_of(lambda a, b: a + b, x, x).inputs) == 2


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(Counting(), nn.Dropout(0.5), nn.BatchNorm2d(3)).train()
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    capture(module, (SHAPE,))

    assert [part.training for part in module] == [True, True, False]
    assert (module[0].calls, module[0].history) == (0, [])
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_module_that_prepares_itself_is_captured_whole_and_left_unprepared():
    module = Anchored()

    graph = graph_of(module)

    assert [node.op_type for node in graph.nodes] == ["Add"]
    assert module.shape is None


def test_capture_is_repeatable_beyond_dynamos_limit():
    module = Block()
    graphs = [graph_of(module, (1, 3, size, size)) for size in range(2, 14)]

    assert [graph.types[graph.inputs[0]].shape[-1] for graph in graphs] == list(range(2, 14))


def test_a_tensor_attribute_becomes_a_constant_under_its_path():
    module = Function(lambda x: x)
    module.inner = Anchored()
    module.inner.anchors, module.inner.shape = torch.ones(4), torch.Size(SHAPE)
    module.function = lambda x: module.inner(x)

    assert set(graph_of(module).constants) == {"inner.anchors"}


def branch(x):
    if x.sum() > 0:
        return x + 1
    return x


def show(x):
    print(x.shape)
    return x + 1


@pytest.mark.parametrize(
    ("function", "words", "line"),
    [
        (branch, "depends on the values of a tensor", "if x.sum() > 0:"),
        (show, "remove it from forward", "print(x.shape)"),
        (lambda x: x[x > 0], "the shape of a result depends on the values", "x[x > 0]"),
        (lambda x: x.new_zeros(int(x.sum())), "depends on the values", "int(x.sum())"),
        (lambda x: x @ x[:, :, :2], "the model fails on its example input", "x @ x[:, :, :2]"),
        (lambda x: {"count": 3, "x": x}, "output 'count' is of type int", ""),
        (lambda x: None, "returns no tensor", ""),
    ],
)
def test_what_cannot_be_captured_is_explained_with_its_line(capfd, function, words, line):
    with pytest.raises(CompilationError) as error:
        graph_of(function)

    assert words in str(error.value)
    assert line in str(error.value)


def test_state_that_is_overwritten_is_refused_by_name():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.cache += x.sum()
            return x + self.cache

    module = Model()

    with pytest.raises(CompilationError, match=r"overwrites its own state 'cache'"):
        capture(module, (SHAPE,))
    assert module.cache.item() == 0


def test_control_flow_and_autocast_are_refused_by_name():
    def choose(x):
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))

    def mixed(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return x @ x

    with pytest.raises(UnsupportedOpError, match=r"If: torch\.cond"):
        graph_of(choose)
    with pytest.raises(UnsupportedOpError, match="autocast: leave it out"):
        graph_of(mixed)


def test_all_unsupported_ops_are_reported_at_once():
    module = nn.Sequential(nn.InstanceNorm2d(3), nn.GroupNorm(1, 3), nn.ELU(), nn.GroupNorm(3, 3))

    with pytest.raises(UnsupportedOpError) as error:
        graph_of(module)

    assert str(error.value).startswith("Unsupported operators: InstanceNorm, GroupNorm, Elu\n")


def test_inputs_that_forward_does_not_take_are_a_usage_error():
    with pytest.raises(UsageError, match="does not take these inputs"):
        capture(Nested(), {"picture": SHAPE})
    with pytest.raises(UsageError, match="positive"):
        capture(Nested(), ((1, 0, 2, 2),))


def test_an_input_of_a_type_the_machine_lacks_is_named():
    with pytest.raises(CompilationError, match=r"input 'arguments_0': complex64"):
        graph_of(lambda x: x.real, torch.ones(3, dtype=torch.complex64))


def test_recurrent_layers_are_refused_with_the_others():
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 4)
            self.norm = nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.rnn(x.relu_())[0])

    with pytest.raises(UnsupportedOpError) as error:
        graph_of(Recurrent(), (3, 2, 4))

    assert error.value.ops == ["LSTM", "LayerNorm"]
    assert error.value.details[1].startswith("LayerNorm · norm · tests/kpuc/test_capture.py:")
