"""Channels brought to alike ranges: where that may be done, and that it changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from formats.precision import DType, KPUPrecision
from formats.program import EpilogueStage
from kpuc.graph import Graph
from kpuc.quant.equalize import equalized, tied_values
from kpuc.quant.network import Network, exact_storage
from kpuc.quant.quantize import QuantOptions, observed, quantizer
from kpuc.quant.refine import Refinements
from tests.kpuc.passes.draft import Draft
from tests.kpuc.quant.networks import residual_network, samples_of

INT8 = DType.INT8
SPREAD = np.float32(2.0) ** np.array([0, -4, 0, -5, -3, 0, -4, 0], np.float32)


def uneven_network() -> Graph:
    """The residual network with channels of unequal ranges, as if it had been trained so."""
    graph = residual_network()
    constants = dict(graph.constants)
    for name in ("stem", "second"):  # what they make is tied, and multiplied by first and head
        constants[f"{name}.weight"] = constants[f"{name}.weight"] * SPREAD[:, None, None, None]
        constants[f"{name}.bias"] = constants[f"{name}.bias"] * SPREAD
    constants["first.weight"] = constants["first.weight"] / SPREAD[None, :, None, None]
    constants["head.weight"] = constants["head.weight"] / SPREAD
    return replace(graph, constants=constants)


def chain(*, group: int = 1, activation: str = "Relu") -> Graph:
    """Three convolutions with an activation behind each; the middle one has groups."""
    draft = Draft()
    x = draft.conv("one", draft.input("x", 1, 3, 8, 8), 8)
    x = draft.conv("two", x, 8, group=group)
    graph = draft.graph(draft.conv("three", x, 4))
    weights = graph.constants["one.weight"] * SPREAD[:, None, None, None]
    stage = (EpilogueStage(activation),)
    nodes = tuple(replace(node, operand_count=3, epilogue=stage) for node in graph.nodes)
    return replace(graph, nodes=nodes, constants={**graph.constants, "one.weight": weights})


def outputs_of(graph: Graph, samples) -> list[np.ndarray]:
    network = Network(graph, exact_storage(graph))
    return [network.run(sample)[graph.outputs[0]].numpy() for sample in samples]


def test_a_shortcut_ties_what_it_adds_and_what_pools_make_of_it():
    first, second = tied_values(residual_network())
    assert first.values == ("stem", "pool", "second", "mean", "flat")
    assert [node.id for node in first.makers] == ["stem", "second"]
    assert [node.id for node in first.readers] == ["first", "head"]
    assert second.values == ("first",)


@pytest.mark.parametrize("activation", ["Sigmoid", "Tanh", "HardSwish"])
def test_nothing_is_tied_through_a_function_of_the_range(activation):
    assert tied_values(chain(activation=activation)) == []


def test_inputs_and_outputs_keep_their_ranges():
    values = {value for group in tied_values(chain()) for value in group.values}
    assert values == {"one", "two"}


def test_a_constant_that_is_added_ties_nothing():
    draft = Draft()
    x = draft.conv("one", draft.input("x", 1, 3, 8, 8), 8)
    x = draft.op("sum", "Add", x, draft.weights("offset", 1, 8, 1, 1))
    assert tied_values(draft.graph(draft.conv("two", x, 4))) == []


@pytest.mark.parametrize(
    "graph",
    [uneven_network(), chain(), chain(group=8), chain(group=2)],
    ids=["residual", "plain", "depthwise", "grouped"],
)
def test_the_network_stays_the_same_bit_for_bit(graph):
    samples = samples_of(graph, 4)
    found = equalized(graph, samples, INT8).graph
    assert any((found.constants[v] != graph.constants[v]).any() for v in graph.constants)
    for before, after in zip(outputs_of(graph, samples), outputs_of(found, samples), strict=True):
        np.testing.assert_array_equal(after, before)


def test_channels_of_small_values_get_as_many_codes_as_others():
    graph = uneven_network()
    samples = samples_of(graph, 4)
    found = equalized(graph, samples, INT8)
    values = [
        Network(each, exact_storage(each)).run(samples[0], kept=["pool"])["pool"].numpy()
        for each in (graph, found.graph)
    ]
    before, after = (array.max(axis=(0, 2, 3)) for array in values)
    assert after.max() / after.min() < before.max() / before.min() / 4
    assert found.gain_db > 3


def test_channels_that_are_alike_are_left_alone():
    graph = residual_network()
    alike = {name: np.ones_like(a) if "stem" in name else a for name, a in graph.constants.items()}
    graph = replace(graph, constants=alike)
    found = equalized(graph, samples_of(graph, 4), INT8).graph
    np.testing.assert_array_equal(found.constants["stem.weight"], graph.constants["stem.weight"])


def test_a_network_without_pairs_gains_nothing():
    graph = chain(activation="Sigmoid")
    found = equalized(graph, samples_of(graph, 2), INT8)
    assert (found.graph, found.gain_db) == (graph, 0.0)


def test_the_coded_network_is_nearer_with_it_than_without():
    graph = uneven_network()
    without, with_it = (
        quantizer(
            graph,
            KPUPrecision.INT8,
            QuantOptions(refinements=Refinements(equalisation=wanted, rounding=False)),
            observed(samples_of(graph, 40), samples_of(graph, 8, seed=1)),
        )
        for wanted in (False, True)
    )
    assert with_it.trial(()).sqnr_db > without.trial(()).sqnr_db + 3
    assert without.calibration.equalized.gain_db is None
