"""Statistics kept in a file: the same come back, and nothing else is taken for them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.errors import EXIT_BAD_FILE, FileError
from formats.precision import DType
from formats.tensors import pack, unpack
from kpuc.graph import Graph, Node
from kpuc.quant.observers import Observer
from kpuc.quant.saved import Statistics, from_bytes, graph_hash, load, save, to_bytes
from kpurun.ops.types import TensorType

GRAPH = "0" * 64
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32).map(lambda x: 0.0 if abs(x) < 2**-60 else x)
TENSORS = st.dictionaries(st.text(max_size=4), st.lists(FLOATS, min_size=1, max_size=9), max_size=3)


def statistics_of(tensors: dict[str, list[float]]) -> Statistics:
    histograms = {}
    for name, values in tensors.items():
        observer = Observer(name)
        observer.update(np.array(values, np.float32))
        histograms[name] = observer.histogram
    return Statistics(GRAPH, 100, histograms)


STATISTICS = statistics_of({"conv1": [-1.0, 0.0, 2.0], "relu": [0.0, 0.0, 6.0]})


def relu_graph(weight: float = 1.0, name: str = "net", op: str = "Relu") -> Graph:
    type_ = TensorType((1, 2), DType.FP32)
    constants = {"w": np.array([[0, 0, 0, 0, 0, 0, weight]], np.float32)}
    return Graph(
        name,
        ("x",),
        ("y",),
        (Node("n", op, ("x",), ("y",)),),
        {"x": type_, "y": type_, "w": TensorType((1, 7), DType.FP32)},
        constants,
    )


@given(TENSORS)
def test_what_was_saved_is_loaded(tensors):
    statistics = statistics_of(tensors)

    loaded = from_bytes(to_bytes(statistics))

    assert (loaded.graph, loaded.samples) == (GRAPH, 100)
    assert set(loaded.histograms) == set(tensors)
    for name, histogram in statistics.histograms.items():
        other = loaded.histograms[name]
        assert (other.low, other.high, other.zeros) == (
            histogram.low,
            histogram.high,
            histogram.zeros,
        )
        assert (other.counts == histogram.counts).all()


def test_equal_statistics_are_equal_bytes():
    reversed_order = dict(reversed(STATISTICS.histograms.items()))

    assert to_bytes(STATISTICS) == to_bytes(Statistics(GRAPH, 100, reversed_order))


def test_a_file_comes_back(tmp_path):
    save(STATISTICS, tmp_path / "net.calibration")

    loaded = load(tmp_path / "net.calibration", GRAPH)

    assert list(loaded.histograms) == ["conv1", "relu"]
    assert [path.name for path in tmp_path.iterdir()] == ["net.calibration"]


def test_another_graph_is_refused(tmp_path):
    save(STATISTICS, tmp_path / "net.calibration")

    with pytest.raises(
        FileError, match=r"net\.calibration: calibration of another model"
    ) as caught:
        load(tmp_path / "net.calibration", "1" * 64)

    assert caught.value.exit_code == EXIT_BAD_FILE


def test_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="nowhere: No such file"):
        load(tmp_path / "nowhere", GRAPH)


def test_a_graph_is_known_by_what_it_computes():
    assert graph_hash(relu_graph()) == graph_hash(relu_graph(name="other"))
    assert graph_hash(relu_graph()) != graph_hash(relu_graph(weight=1.5))
    assert graph_hash(relu_graph()) != graph_hash(relu_graph(op="Sigmoid"))


def head(**changes: object) -> np.ndarray:
    fields = {"graph": GRAPH, "samples": 100, "tensors": ["conv1", "relu"], "version": 1}
    text = json.dumps(fields | changes, separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8)


def moved_counts() -> np.ndarray:
    return np.roll(unpack(to_bytes(STATISTICS))["counts"], 1, axis=1)


@pytest.mark.parametrize(
    ("name", "array", "why"),
    [
        ("counts", np.zeros((2, 2047), np.int64), r"counts is not int64 of shape \(2, 2048\)"),
        ("counts", np.zeros((2, 2048), np.int32), "counts is not int64"),
        ("counts", np.zeros((2, 2048), np.int64), "none at them"),
        ("counts", np.full((2, 2048), -1), "counts below zero"),
        ("counts", np.full((2, 2048), 2**62), "too large"),
        ("counts", moved_counts(), "where its extremes allow none"),
        ("extremes", np.array([[np.nan, 1], [0, 1]]), "extremes are not finite"),
        ("extremes", np.array([[-1, np.inf], [0, 1]]), "extremes are not finite"),
        ("extremes", np.array([[1.0, -1], [0, 1]]), "not in order"),
        ("extremes", np.array([[0, 1e308], [0, 1]]), "extremes are not finite"),
        ("zeros", np.array([0, 3]), "more zeros than values"),
        ("zeros", np.array([-1, 0]), "more zeros than values"),
        ("head", np.frombuffer(b"{", np.uint8), "not JSON"),
        ("head", np.frombuffer(b"[" * 100_000, np.uint8), "not JSON"),
        ("head", np.frombuffer(b"\xff", np.uint8), "not JSON"),
        ("head", head(version=2), "not of version 1"),
        ("head", head(samples=True), "malformed head"),
        ("head", head(samples=0), "malformed head"),
        ("head", head(graph=None), "malformed head"),
        ("head", head(tensors=["a", 3]), "malformed list"),
        ("head", head(tensors=["a", "a"]), "named twice"),
        ("head", head(tensors=["relu", "conv1"]), "out of order"),
        ("head", head(more=1), "not in canonical form"),
        ("more", np.zeros(1), "not the arrays that belong there"),
    ],
)
def test_what_observers_cannot_have_seen_is_refused(name, array, why):
    arrays = unpack(to_bytes(STATISTICS)) | {name: array}

    with pytest.raises(FileError, match=f"not calibration statistics: .*{why}"):
        load(pack(arrays), GRAPH)


@given(st.integers(0, len(to_bytes(STATISTICS)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_a_file_error_or_harmless(place, change):
    data = bytearray(to_bytes(STATISTICS))
    data[place] ^= change

    try:
        loaded = load(bytes(data), GRAPH)
    except FileError:
        return
    assert to_bytes(loaded) == bytes(data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_file_error(data):
    with pytest.raises(FileError):
        load(data, GRAPH)
