"""A calibration kept in a file: the same comes back, and nothing else is taken for it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.errors import EXIT_BAD_FILE, FileError, UsageError
from formats.precision import KPUPrecision
from formats.schema import load_config
from formats.tensors import pack, unpack
from kpuc.graph import graph_hash
from kpuc.quant import saved
from kpuc.quant.calibration import codes_of, rounding_key
from kpuc.quant.coding import Granularity
from kpuc.quant.equalize import Equalized
from kpuc.quant.prepare import quantiser
from kpuc.quant.quantize import QuantOptions, observed, quantizer
from kpuc.quant.refine import Refinements, with_own_constants
from kpuc.quant.saved import load, save, to_bytes
from kpuc.quant.statistics import RangeMethod
from tests.kpuc.quant.networks import residual_network, samples_of

INT8, INT4 = KPUPrecision.INT8, KPUPrecision.INT4
UNEQUALISED = Refinements(equalisation=False)
PLAIN = QuantOptions(refinements=UNEQUALISED)


def photos_of(graph, count):
    """Samples of eight bits, normalised to other numbers in each channel."""
    random = np.random.default_rng(3)
    shift = np.array([0.5, 0.4, 0.3], np.float32).reshape(1, 3, 1, 1)
    for _ in range(count):
        pixels = random.integers(0, 256, (1, 3, 12, 12)).astype(np.float32)
        yield {graph.inputs[0]: pixels / 255 - shift}


def calibrated(samples=samples_of):
    """The calibration of a small network, with weights that were rounded."""
    graph = residual_network()
    every = list(samples(graph, 20))
    maker = quantizer(graph, INT8, PLAIN, observed(every[:16], every[16:]))
    assert maker.weights
    return replace(maker.calibration, rounded=maker.rounded)


def as_it_is(graph, _):
    """The graph, not equalised."""
    return Equalized(graph, None)


CALIBRATION = calibrated()
GRAPH = CALIBRATION.graph
DATA = to_bytes(CALIBRATION)
NO_WEIGHTS = "int8-" + "0" * 64


def assert_equal(one, other):
    """Every number of two calibrations, by its bits."""
    assert one.statistics.samples == other.statistics.samples
    assert one.held_out_count == other.held_out_count
    for name, histogram in one.statistics.histograms.items():
        back = other.statistics.histograms[name]
        assert (back.low, back.high, back.zeros) == (histogram.low, histogram.high, histogram.zeros)
        assert (back.counts == histogram.counts).all()
    for samples in ("refining", "held_out"):
        pairs = zip(*(_samples(each, samples) for each in (one, other)), strict=True)
        assert all(
            mine[name].tobytes() == back[name].tobytes() for mine, back in pairs for name in mine
        )
    for name, mean in one.statistics.means.items():
        assert mean.tobytes() == other.statistics.means[name].tobytes()
    for key, codes in one.rounded.items():
        assert all((codes[name] == other.rounded[key][name]).all() for name in codes)


def _samples(calibration, name):
    return calibration.held_out if name == "held_out" else calibration.statistics.refining


@pytest.mark.parametrize("samples", [samples_of, photos_of])
def test_what_was_saved_is_loaded_bit_for_bit(samples):
    calibration = calibrated(samples)

    loaded = load(to_bytes(calibration), calibration.graph, as_it_is)

    assert_equal(calibration, loaded)


def test_photos_take_a_byte_for_each_number():
    arrays = unpack(to_bytes(calibrated(photos_of)))

    assert arrays["pixels/x"].nbytes == 20 * 3 * 12 * 12
    assert "samples/x" not in arrays


def test_negative_zero_stays_what_it_is():
    photos = list(photos_of(GRAPH, 20))
    photos[0]["x"][0, 0, 0, :2] = (-0.0, 0.0)
    statistics = _without_samples()
    calibration = replace(
        CALIBRATION, held_out=photos, held_out_count=len(photos), statistics=statistics
    )

    loaded = load(to_bytes(calibration), GRAPH, as_it_is)

    assert loaded.held_out[0]["x"].tobytes() == photos[0]["x"].tobytes()


def _without_samples():
    return replace(CALIBRATION.statistics, refining=list(photos_of(GRAPH, 1)))


def test_equal_calibrations_are_equal_bytes():
    statistics = CALIBRATION.statistics
    turned = replace(
        statistics,
        histograms=dict(reversed(statistics.histograms.items())),
        means=dict(reversed(statistics.means.items())),
    )

    assert to_bytes(replace(CALIBRATION, statistics=turned)) == DATA


def test_a_file_comes_back(tmp_path):
    save(CALIBRATION, tmp_path / "net.calibration")

    loaded = load(tmp_path / "net.calibration", GRAPH, as_it_is)

    assert to_bytes(loaded) == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["net.calibration"]


def test_loaded_weights_are_those_that_rounding_made(monkeypatch):
    loaded = load(DATA, GRAPH, as_it_is)
    monkeypatch.setattr("kpuc.quant.quantize.refined", None)  # nothing is rounded again

    maker = quantizer(residual_network(), INT8, PLAIN, lambda graph, equalise: loaded)

    assert codes_of(maker.weights).keys() == CALIBRATION.rounded[_key()].keys()
    for name, codes in CALIBRATION.rounded[_key()].items():
        assert (codes_of(maker.weights)[name] == codes).all()


def test_weights_of_other_options_are_rounded_and_kept_beside():
    options = replace(PLAIN, method=RangeMethod("minmax"))
    maker = quantizer(residual_network(), INT8, options, loading(DATA))

    assert maker.weights

    assert set(maker.rounded) == {_key(), _key(method=RangeMethod("minmax"))}


def test_a_calibration_of_equalised_channels_is_loaded_with_equalisation():
    calibration, data = equalised()
    maker = quantizer(residual_network(), INT8, QuantOptions(), loading(data))
    assert_equal(calibration, maker.calibration)
    assert maker.calibration.equalized.gain_db == calibration.equalized.gain_db > 0


def test_a_calibration_of_equalised_channels_is_refused_without():
    _, data = equalised()
    with pytest.raises(FileError, match="equalised otherwise"):
        quantizer(residual_network(), INT8, PLAIN, loading(data))


def test_samples_of_another_recipe_are_refused():
    data = to_bytes(replace(CALIBRATION, preprocess="imagenet"))
    quantise = quantiser(None, load_config("swkpu-v1"), INT8, PLAIN, "yolo", load_calibration=data)
    with pytest.raises(UsageError, match="give --preprocess imagenet"):
        quantise(residual_network())


def equalised():
    """A calibration whose statistics are of other channels than the network has."""
    every = samples_of(residual_network(), 20)
    maker = quantizer(residual_network(), INT8, QuantOptions(), observed(every[:16], every[16:]))
    assert maker.weights
    calibration = replace(maker.calibration, rounded=maker.rounded)
    return calibration, to_bytes(calibration)


def loading(data):
    """What takes the calibration from a file."""
    return lambda graph, equalise: load(data, graph, equalise)


def _key(precision=INT8, floats=frozenset(), **options):
    chosen = replace(PLAIN, **options)
    return rounding_key(precision, chosen.method, chosen.granularity, chosen.refinements, floats)


@pytest.mark.parametrize(
    "other",
    [
        _key(INT4),
        _key(method=RangeMethod("entropy")),
        _key(method=RangeMethod("percentile", 99.9)),
        _key(granularity=Granularity(per_channel=False)),
        _key(granularity=Granularity(group_size=32)),
        _key(refinements=replace(UNEQUALISED, bias=False)),
        _key(floats=frozenset({"first"})),
    ],
)
def test_whatever_changes_rounded_weights_changes_their_key(other):
    assert other != _key()


def test_what_does_not_change_rounded_weights_keeps_their_key():
    assert _key(keep_fp16=("head",), max_difference=0.1) == _key()


def test_another_version_of_the_rounding_has_other_keys(monkeypatch):
    before = _key()
    monkeypatch.setattr("kpuc.quant.calibration.ROUNDING_VERSION", 0)

    assert _key() != before


def changed_graph(**changes):
    constants = dict(GRAPH.constants)
    constants["first.weight"] = constants["first.weight"] * np.float32(1.5)
    return replace(GRAPH, constants=constants, **changes)


def test_other_weights_are_refused(tmp_path):
    save(CALIBRATION, tmp_path / "net.calibration")

    with pytest.raises(
        FileError, match=r"net\.calibration: calibration of another model, or .* other weights"
    ) as caught:
        load(tmp_path / "net.calibration", changed_graph(), as_it_is)

    assert caught.value.exit_code == EXIT_BAD_FILE


def test_a_missing_file_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="nowhere: No such file"):
        load(tmp_path / "nowhere", GRAPH, as_it_is)


def test_a_graph_is_known_by_what_it_computes():
    assert graph_hash(GRAPH) == graph_hash(with_own_constants(residual_network()))
    assert graph_hash(GRAPH) == graph_hash(replace(GRAPH, name="other", names={"x": "photo"}))
    assert graph_hash(GRAPH) != graph_hash(changed_graph())
    assert graph_hash(GRAPH) != graph_hash(replace(GRAPH, nodes=GRAPH.nodes[::-1]))


def sealed(**changes):
    """The file with other arrays (None: without it) under a checksum that holds."""
    arrays = {**unpack(DATA), **changes}
    del arrays["sha256"]
    kept = {name: array for name, array in arrays.items() if array is not None}
    return pack({**kept, "sha256": saved._checksum(kept)})


def head(**changes):
    fields = json.loads(unpack(DATA)["head"].tobytes())
    text = json.dumps(fields | changes, sort_keys=True, separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8)


def edited(name, place, value):
    array = unpack(DATA)[name].copy()
    array[place] = value
    return array


TENSORS = sorted(CALIBRATION.statistics.histograms)
COUNTS = unpack(DATA)["counts"]
CODES = f"rounded/{_key()}/first.weight"


@pytest.mark.parametrize(
    ("name", "array", "why"),
    [
        ("counts", COUNTS[:, :-1], r"counts is not int64 of shape"),
        ("counts", COUNTS.astype(np.int32), "counts is not int64"),
        ("counts", np.zeros_like(COUNTS), "none at them"),
        ("counts", np.full_like(COUNTS, -1), "counts below zero"),
        ("counts", np.full_like(COUNTS, 2**62), "too large"),
        ("counts", np.roll(COUNTS, 1, axis=1), "where its extremes allow none"),
        ("extremes", edited("extremes", (0, 0), np.nan), "extremes are not finite"),
        ("extremes", edited("extremes", (0, 1), np.inf), "extremes are not finite"),
        ("extremes", edited("extremes", (0, 1), 1e308), "extremes are not finite"),
        ("extremes", edited("extremes", 0, (1.0, -1.0)), "not in order"),
        ("zeros", edited("zeros", 0, 2**50), "more zeros than values"),
        ("zeros", edited("zeros", 0, -1), "more zeros than values"),
        ("mean/x", None, "mean/x is missing"),
        ("mean/x", np.zeros((1, 3, 12, 12), np.float32), "mean/x is not float64"),
        ("mean/x", edited("mean/x", 0, np.nan), "mean/x: NaN, infinite"),
        ("samples/x", None, "samples/x is missing"),
        ("samples/x", np.zeros((19, 1, 3, 12, 12), np.float32), "samples/x is not float32"),
        ("samples/x", np.zeros((20, 1, 3, 12, 13), np.float32), "samples/x is not float32"),
        ("samples/x", np.zeros((20, 1, 3, 12, 12), np.int64), "samples/x is not float32"),
        ("samples/x", edited("samples/x", 0, np.nan), "samples of x: NaN or infinite"),
        ("samples/x", edited("samples/x", 0, np.inf), "samples of x: NaN or infinite"),
        ("pixels/x", np.zeros((3, 20 * 144), np.uint8), "palette/x is missing"),
        ("palette/x", np.zeros((3, 256), np.float32), "'palette/x'"),
        (CODES, None, "first.weight is missing"),
        (CODES, np.zeros((8, 8, 3, 2), np.int8), "first.weight is not int8 of shape"),
        (CODES, np.zeros((8, 8, 3, 3), np.float32), "first.weight is not int8"),
        (CODES, edited(CODES, 0, -128), "a code beyond those of int8"),
        (f"rounded/{NO_WEIGHTS}/x", np.zeros(1, np.int8), "weight is missing"),
        ("rounded/int2-0/x", np.zeros(1, np.int8), "names no rounded weights"),
        ("rounded/", np.zeros(1, np.int8), "names no rounded weights"),
        ("head", None, "it has no head"),
        ("head", np.frombuffer(b"{", np.uint8), "not JSON"),
        ("head", np.frombuffer(b"[" * 100_000, np.uint8), "not JSON"),
        ("head", np.frombuffer(b"\xff", np.uint8), "not JSON"),
        ("head", head(version=1), "not of version 2"),
        ("head", head(samples=True), "malformed head"),
        ("head", head(samples=0), "malformed head"),
        ("head", head(samples=15), "more samples than were observed"),
        ("head", head(held_out=0), "malformed head"),
        ("head", head(refining=-1), "malformed head"),
        ("head", head(held_out=5), "more samples than were held out"),
        ("head", head(held_out_samples=0), "malformed head"),
        ("head", head(held_out=2**40, held_out_samples=2**40), "samples/x is not float32"),
        ("head", head(graph=None), "malformed head"),
        ("head", head(tensors=["a", 3]), "malformed list"),
        ("head", head(tensors=[*TENSORS, TENSORS[0]]), "not those that are observed"),
        ("head", head(tensors=TENSORS[::-1]), "not those that are observed"),
        ("head", head(tensors=TENSORS[1:]), "not those that are observed"),
        ("head", head(more=1), "not in canonical form"),
        ("more", np.zeros(1), "does not belong there: 'more'"),
    ],
)
def test_what_calibration_cannot_have_seen_is_refused(name, array, why):
    data = sealed(**{name: array})

    with pytest.raises(FileError, match=f"not a saved calibration: .*{why}"):
        load(data, GRAPH, as_it_is)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_changed_byte_is_a_file_error(place, change):
    data = bytearray(DATA)
    data[place] ^= change

    with pytest.raises(FileError):
        load(bytes(data), GRAPH, as_it_is)


@given(st.integers(0, len(DATA) - 1))
def test_a_truncated_file_is_a_file_error(length):
    with pytest.raises(FileError):
        load(DATA[:length], GRAPH, as_it_is)


def test_a_tensor_that_is_there_twice_is_a_file_error():
    size = int.from_bytes(DATA[:8], "little")
    header = DATA[8 : 8 + size].decode().rstrip()
    entry = header[header.index('"zeros"') : -1]
    doubled = f"{header[:-1]},{entry}}}".encode()

    with pytest.raises(FileError, match="canonical form"):
        load(len(doubled).to_bytes(8, "little") + doubled + DATA[8 + size :], GRAPH, as_it_is)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_file_error(data):
    with pytest.raises(FileError):
        load(data, GRAPH, as_it_is)
