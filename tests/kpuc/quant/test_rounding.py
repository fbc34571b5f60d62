import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from formats.precision import DType
from kpuc.quant.rounding import columns_of, rounded
from tests.kpuc.passes.draft import Draft, node_of


def correlated(seed: int, products: int, positions: int) -> torch.Tensor:
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(products, products)) @ random.normal(size=(products, positions))
    return torch.from_numpy(mixed.astype(np.float32))[None]


def total_error(weights, found, columns) -> float:
    centred = columns - columns.mean(dim=2, keepdim=True)
    return float(((found - weights) @ centred).square().sum())


@given(st.integers(0, 50))
def test_results_are_nearer_than_with_the_nearest_weights(seed):
    columns = correlated(seed, 24, 400)
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 16, 24)))
    weights = weights.float()
    scales = weights.abs().amax(dim=2, keepdim=True) / 7
    nearest = (weights / scales).round() * scales
    found = rounded(weights, scales, columns, columns, DType.INT4)
    assert total_error(weights, found, columns) < total_error(weights, nearest, columns)


@given(st.integers(0, 50))
def test_results_on_inexact_inputs_come_near_those_on_exact_ones(seed):
    exact = correlated(seed, 8, 400)
    coded = exact * 0.9  # as where a range clips
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 4, 8))).float()
    scales = weights.abs().amax(dim=2, keepdim=True) / 100
    found = rounded(weights, scales, coded, exact, DType.INT8)
    assert total_error(weights / 0.9, found, coded) < 0.1 * total_error(
        weights, weights * 0.9, exact
    )


def test_all_weights_are_on_the_grid():
    weights = torch.linspace(-3, 3, 300).reshape(1, 2, 150)  # more than one block of columns
    scales = torch.tensor([0.02, 0.01]).reshape(1, 2, 1)
    columns = correlated(0, 150, 200)
    codes = rounded(weights, scales, columns, columns, DType.INT8) / scales
    assert torch.allclose(codes, codes.round(), atol=1e-3)
    assert codes.abs().max() <= 127 + 1e-3


def test_products_that_no_sample_shows_are_rounded_to_the_nearest():
    weights = torch.tensor([[[0.26, -0.74]]])
    columns = torch.zeros(1, 2, 8)
    found = rounded(weights, torch.tensor([[[0.5]]]), columns, columns, DType.INT8)
    assert found.tolist() == [[[0.5, -0.5]]]


def test_columns_times_the_weight_are_the_convolution():
    draft = Draft()
    x = draft.input("x", 2, 4, 7, 6)
    graph = draft.graph(
        draft.conv("y", x, 6, pads=(1, 0, 2, 1), strides=(2, 1), dilations=(1, 2), group=2)
    )
    node = node_of(graph, "y")
    array = np.random.default_rng(0).normal(size=(2, 4, 7, 6)).astype(np.float32)
    columns = columns_of(graph, node, array, 10_000, np.random.default_rng(0))
    weight = graph.constants["y.weight"]
    made = np.matmul(weight.reshape(2, 3, -1), columns).reshape(6, 2, -1).transpose(1, 0, 2)
    padded = torch.nn.functional.pad(torch.from_numpy(array), (0, 1, 1, 2))
    expected = torch.nn.functional.conv2d(
        padded, torch.from_numpy(weight), stride=(2, 1), dilation=(1, 2), groups=2
    )
    np.testing.assert_allclose(made, expected.reshape(2, 6, -1), rtol=1e-4, atol=1e-5)


def test_no_more_positions_are_drawn_than_asked_for():
    draft = Draft()
    graph = draft.graph(draft.conv("y", draft.input("x", 1, 2, 9, 9), 3))
    array = np.ones((1, 2, 9, 9), np.float32)
    columns = columns_of(graph, node_of(graph, "y"), array, 20, np.random.default_rng(0))
    assert columns.shape == (1, 18, 20)
