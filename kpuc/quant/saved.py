"""A calibration kept in a file: the next compilation needs no data and rounds no weight twice.

The file is a canonical .safetensors: equal calibrations give equal bytes. It names the graph that
it belongs to, and is read as untrusted. Its arrays: "head" (JSON), "sha256" (of all others), those
of `saved_statistics` and `saved_samples`, and "rounded/<key>/<weight>", int8 codes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from formats.errors import FileError
from formats.files import Source, Target, read_file, write_file
from formats.tensors import pack, unpack
from kpuc.graph import Graph, graph_hash
from kpuc.quant.calibration import (
    Calibration,
    Codes,
    Equalise,
    are_codes,
    constant_factors,
    weight_dtype,
)
from kpuc.quant.saved_samples import packed_samples, taken_samples
from kpuc.quant.saved_statistics import (
    MOST_VALUES,
    Arrays,
    packed_histograms,
    packed_means,
    taken,
    taken_histograms,
    taken_means,
)
from kpuc.quant.statistics import Statistics

VERSION = 2


@dataclass(frozen=True)
class Head:
    """graph, equalized: their `graph_hash`; preprocess: of images; samples, held_out_samples: how
    many were observed and held out; refining, held_out: how many batches of each are kept; tensors:
    the names of the histograms."""

    graph: str
    equalized: str
    preprocess: str
    samples: int
    refining: int
    held_out: int
    held_out_samples: int
    tensors: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        fields = {**vars(self), "version": VERSION}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def save(calibration: Calibration, target: Target) -> None:
    """Write all or nothing; FileError when that cannot be done."""
    write_file(to_bytes(calibration), target)


def load(source: Source, graph: Graph, equalise: Equalise) -> Calibration:
    """The calibration of `graph`, which is prepared as it was when the calibration was saved.

    FileError for a file that is missing, malformed, of another version, of another graph, or of
    channels that were equalised otherwise.
    """
    label = "calibration" if isinstance(source, bytes) else str(source)
    data = read_file(source)
    try:
        head, arrays = _opened(data)
        if head.graph == graph_hash(graph):
            return _calibration(head, arrays, graph, equalise)
    except FileError as error:
        raise FileError(f"{label}: not a saved calibration: {error}") from error
    raise FileError(
        f"{label}: calibration of another model, or of this one with other weights, shapes or "
        "passes: calibrate again"
    )


def to_bytes(calibration: Calibration) -> bytes:
    """The file's content."""
    statistics = calibration.statistics
    head = Head(
        graph_hash(calibration.graph),
        graph_hash(calibration.equalized.graph),
        calibration.preprocess,
        statistics.samples,
        len(statistics.refining),
        len(calibration.held_out),
        calibration.held_out_count,
        tuple(sorted(statistics.histograms)),
    )
    arrays = {
        "head": np.frombuffer(head.to_bytes(), np.uint8),
        **packed_histograms(statistics.histograms),
        **packed_means(statistics.means),
        **packed_samples(calibration.graph.inputs, statistics.refining, calibration.held_out),
    }
    for key, codes in calibration.rounded.items():
        arrays |= {f"rounded/{key}/{name}": array for name, array in codes.items()}
    return pack({**arrays, "sha256": _checksum(arrays)})


def _opened(data: memoryview) -> tuple[Head, Arrays]:
    """The head, and the arrays that are neither head nor checksum: as they were written."""
    arrays = dict(unpack(data))
    head = arrays.get("head")
    if head is None:
        raise FileError("it has no head")
    found = _head(head.tobytes())
    if not np.array_equal(arrays.pop("sha256", np.array(())), _checksum(arrays)):
        raise FileError("it is damaged: its checksum is that of other content")
    del arrays["head"]
    return found, arrays


def _calibration(head: Head, arrays: Arrays, graph: Graph, equalise: Equalise) -> Calibration:
    histograms = taken_histograms(arrays, graph, head.tensors)
    means = taken_means(arrays, graph)
    refining, held_out = taken_samples(arrays, graph, head.refining, head.held_out)
    rounded = _taken_rounded(arrays, graph)
    if arrays:
        raise FileError(f"it has an array that does not belong there: {min(arrays)!r}")
    statistics = Statistics(histograms, means, refining, head.samples)
    equalized = equalise(graph, refining)
    if graph_hash(equalized.graph) != head.equalized:
        raise FileError(
            "its channels were equalised otherwise: calibrate again, or give the precision and "
            "--no-equalisation as they were"
        )
    return Calibration(
        graph, equalized, statistics, held_out, head.held_out_samples, head.preprocess, rounded
    )


def _taken_rounded(arrays: Arrays, graph: Graph) -> dict[str, Codes]:
    """By key, codes of every constant that a kernel multiplies by."""
    keys = sorted({name.split("/")[1] for name in arrays if name.startswith("rounded/")})
    weights = constant_factors(graph)
    rounded: dict[str, Codes] = {}
    for key in keys:
        dtype = weight_dtype(key)
        if dtype is None:
            raise FileError(f"{key!r} names no rounded weights")
        codes = {
            name: taken(arrays, f"rounded/{key}/{name}", graph.types[name].shape, np.int8)
            for name in weights
        }
        for name, array in codes.items():
            if not are_codes(array, dtype):
                raise FileError(f"rounded/{key}/{name}: a code beyond those of {dtype.value}")
        rounded[key] = codes
    return rounded


def _head(data: bytes) -> Head:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError("the head is not JSON") from error
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise FileError(f"not of version {VERSION}")
    samples, refining, held_out, held_out_samples = (
        _count(fields.get(name)) for name in ("samples", "refining", "held_out", "held_out_samples")
    )
    graph, equalized, preprocess = (
        _text(fields.get(name)) for name in ("graph", "equalized", "preprocess")
    )
    tensors = fields.get("tensors")
    if not isinstance(tensors, list) or not all(isinstance(name, str) for name in tensors):
        raise FileError("malformed list of tensors")
    head = Head(
        graph,
        equalized,
        preprocess,
        samples,
        refining,
        held_out,
        held_out_samples,
        tuple(tensors),
    )
    if head.to_bytes() != data:
        raise FileError("the head is not in canonical form")
    if refining > samples:
        raise FileError("it keeps more samples than were observed")
    if held_out > held_out_samples:
        raise FileError("it keeps more samples than were held out")
    return head


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise FileError("malformed head")
    return value


def _count(value: object) -> int:
    if type(value) is not int or not 0 < value <= MOST_VALUES:
        raise FileError("malformed head")
    return value


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """SHA-256 of names, types and contents, uint8 [32]."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return np.frombuffer(digest.digest(), np.uint8)
