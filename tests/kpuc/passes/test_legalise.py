"""Legalisation turns lone activations into stages and names everything that the machine lacks."""

from dataclasses import replace

import pytest

from formats.config import KPUConfig
from formats.errors import LimitError, UnsupportedOpError
from formats.precision import DType
from kpuc.passes.fuse import fuse
from kpuc.passes.legalise import legalise
from tests.kpuc.passes.draft import Draft, assert_same_meaning, op_types, stage_types

CONFIG = KPUConfig()


@pytest.mark.parametrize("op_type", ["Swish", "HardSwish", "HardSigmoid", "LeakyRelu"])
def test_an_activation_that_is_no_op_is_the_stage_of_an_identity(op_type):
    draft = Draft()
    graph = draft.graph(draft.op("y", op_type, draft.input("x", 2, 3)))

    legal = legalise(graph, CONFIG)

    assert op_types(legal) == ["Identity"]
    assert stage_types(legal.nodes[0]) == [op_type]
    assert_same_meaning(graph, legal)


def test_its_stage_comes_before_those_it_carries():
    draft = Draft()
    x = draft.input("x", 2, 3)
    total = draft.op("y", "Add", draft.op("s", "Swish", x), draft.constant("one", 1.0))
    graph = fuse(draft.graph(draft.op("z", "Tanh", total)), CONFIG)

    legal = legalise(graph, CONFIG)

    assert stage_types(legal.nodes[0]) == ["Swish", "Add", "Tanh"]
    assert_same_meaning(graph, legal)


@pytest.mark.parametrize("op_type", ["Relu", "Clip", "Sigmoid", "Tanh"])
def test_an_activation_that_is_an_op_stays_one(op_type):
    draft = Draft()
    graph = draft.graph(draft.op("y", op_type, draft.input("x", 2, 3)))

    assert legalise(graph, CONFIG) == graph


def test_everything_that_is_missing_is_named_at_once_with_its_source_line():
    plain = replace(
        CONFIG,
        name="tiny",
        native_ops=("Conv", "Add", "Identity"),
        native_activations=("Relu", "Swish"),
    )
    draft = Draft()
    x = draft.input("x", 1, 2, 4, 4)
    relu = draft.op("relu", "Relu", draft.conv("conv", x, 2))
    tanh = draft.op("tanh", "Tanh", relu)
    soft = draft.op("soft", "Softmax", tanh)
    graph = draft.graph(draft.op("again", "Tanh", soft))

    with pytest.raises(UnsupportedOpError) as error:
        legalise(fuse(graph, plain), plain)

    assert error.value.ops == ["Tanh", "Softmax"]
    assert str(error.value).splitlines() == [
        "Unsupported operators: Tanh, Softmax",
        "  Tanh: tiny does not execute it · model.tanh · m.py:1",
        "  Softmax: tiny does not execute it · model.soft · m.py:1",
        "  Tanh: tiny does not execute it · model.again · m.py:1",
    ]


def test_a_stage_that_the_machine_lacks_is_named_too():
    draft = Draft()
    x = draft.input("x", 1, 2, 4, 4)
    scaled = draft.op("scaled", "Mul", draft.op("p", "Swish", draft.conv("conv", x, 2)), x)
    graph = fuse(draft.graph(scaled), CONFIG)
    plain = replace(CONFIG, native_ops=("Conv",), native_activations=("Relu",))

    with pytest.raises(UnsupportedOpError) as error:
        legalise(graph, plain)

    assert error.value.ops == ["Swish", "Mul"]


def test_too_many_dimensions_are_refused_by_name():
    draft = Draft()
    x = draft.input("x", 2, 64)
    graph = draft.graph(draft.op("y", "Reshape", x, shape=(2,) * 7))

    with pytest.raises(LimitError, match=r"model\.y \(m\.py:1\) has 7 dimensions .* at most 6"):
        legalise(graph, CONFIG)


def test_a_batch_that_is_too_large_is_refused():
    draft = Draft()
    graph = draft.graph(draft.op("y", "Relu", draft.input("x", 17, 3, 8, 8)))

    with pytest.raises(LimitError, match=r"input 'x' \[17, 3, 8, 8\] is a batch of 17; .* 16"):
        legalise(graph, CONFIG)


def test_a_long_vector_and_an_unbatched_image_are_no_batches():
    draft = Draft()
    tokens = draft.op("t", "Add", draft.input("tokens", 100, dtype=DType.INT64), "tokens")
    image = draft.op("u", "Unsqueeze", draft.input("image", 32, 8, 8), axes=(0,))
    graph = draft.graph(tokens, draft.conv("c", image, 2))

    assert legalise(graph, CONFIG) == graph
