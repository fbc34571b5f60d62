"""What calibration has seen, kept in a file, so that the next compilation need not see it again.

The file is a canonical .safetensors: equal statistics give equal bytes. It names the graph that it
belongs to, and is read as untrusted.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from formats.errors import FileError
from formats.files import Source, Target, read_file, write_file
from formats.tensors import pack, unpack
from kpuc.graph import Graph
from kpuc.quant.observers import BINS, Histogram, grid
from kpuc.text import dump

VERSION = 1
MOST_VALUES = 2**53  # of one tensor, so that no sum overflows
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Statistics:
    """Histograms by value of the graph, and of how many samples.

    graph: what `graph_hash` gives for the graph that was calibrated.
    """

    graph: str
    samples: int
    histograms: Mapping[str, Histogram]


def graph_hash(graph: Graph) -> str:
    """SHA-256 of all that decides what a graph computes, in hexadecimal; not of its own name."""
    digest = hashlib.sha256(dump(replace(graph, name="")).encode())
    for name, array in sorted(graph.constants.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save(statistics: Statistics, target: Target) -> None:
    """Write all or nothing; FileError when that cannot be done."""
    write_file(to_bytes(statistics), target)


def load(source: Source, graph: str) -> Statistics:
    """Statistics of the graph whose `graph_hash` is `graph`.

    FileError for a file that is missing, malformed, of another version or of another graph.
    """
    label = "calibration statistics" if isinstance(source, bytes) else str(source)
    data = read_file(source)
    try:
        statistics = from_bytes(data)
    except FileError as error:
        raise FileError(f"{label}: not calibration statistics: {error}") from error
    if statistics.graph != graph:
        raise FileError(
            f"{label}: calibration of another model, or of this one with other weights, shapes or "
            "passes: calibrate again"
        )
    return statistics


def to_bytes(statistics: Statistics) -> bytes:
    """The file's content."""
    names = sorted(statistics.histograms)
    histograms = [statistics.histograms[name] for name in names]
    extremes = [(histogram.low, histogram.high) for histogram in histograms]
    counts = [histogram.counts for histogram in histograms]
    head = _head_bytes(statistics.graph, statistics.samples, names)
    return pack(
        {
            "counts": np.array(counts, np.int64).reshape(-1, BINS),
            "extremes": np.array(extremes, np.float64).reshape(-1, 2),
            "head": np.frombuffer(head, np.uint8),
            "zeros": np.array([histogram.zeros for histogram in histograms], np.int64),
        }
    )


def from_bytes(data: bytes | memoryview) -> Statistics:
    """The statistics that `to_bytes` wrote; FileError for anything else."""
    arrays = unpack(data)
    if set(arrays) != {"counts", "extremes", "head", "zeros"}:
        raise FileError("not the arrays that belong there")
    graph, samples, names = _head(arrays["head"])
    kinds: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "counts": (np.int64, (len(names), BINS)),
        "extremes": (np.float64, (len(names), 2)),
        "zeros": (np.int64, (len(names),)),
    }
    for name, (dtype, shape) in kinds.items():
        if arrays[name].dtype != dtype or arrays[name].shape != shape:
            raise FileError(f"{name} is not {np.dtype(dtype)} of shape {shape}")
    extremes = arrays["extremes"].tolist()
    rows = zip(names, extremes, arrays["counts"], arrays["zeros"].tolist(), strict=True)
    histograms = {
        name: _histogram(name, low, high, counts, zeros)
        for name, (low, high), counts, zeros in rows
    }
    return Statistics(graph, samples, histograms)


def _head_bytes(graph: str, samples: int, names: list[str]) -> bytes:
    head = {"graph": graph, "samples": samples, "tensors": names, "version": VERSION}
    return json.dumps(head, sort_keys=True, separators=(",", ":")).encode()


def _head(array: np.ndarray) -> tuple[str, int, list[str]]:
    try:
        head = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise FileError("the head is not JSON") from error
    if not isinstance(head, dict) or head.get("version") != VERSION:
        raise FileError(f"not of version {VERSION}")
    graph, samples, names = head.get("graph"), head.get("samples"), head.get("tensors")
    if not isinstance(graph, str) or type(samples) is not int or not 0 < samples <= MOST_VALUES:
        raise FileError("malformed head")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FileError("malformed list of tensors")
    if sorted(set(names)) != names:
        raise FileError("a tensor is named twice or out of order")
    if _head_bytes(graph, samples, names) != array.tobytes():
        raise FileError("the head is not in canonical form")
    return graph, samples, names


def _histogram(name: str, low: float, high: float, counts: np.ndarray, zeros: int) -> Histogram:
    """With every relation between its parts that `Observer` keeps."""
    if not -LARGEST <= low <= high <= LARGEST:  # false for NaN too
        raise FileError(f"tensor {name!r}: its extremes are not finite or not in order")
    if counts.min() < 0 or counts.max() > MOST_VALUES or counts.sum(dtype=np.float64) > MOST_VALUES:
        raise FileError(f"tensor {name!r}: counts below zero or too large")
    histogram = Histogram(low, high, counts, zeros)
    exponent, first = grid(low, high)
    held = np.flatnonzero(counts)
    ends = [int(np.floor(np.ldexp(end, -exponent))) - first for end in (low, high)]
    if not len(held) or [held[0], held[-1]] != ends:
        raise FileError(f"tensor {name!r}: counts where its extremes allow none, or none at them")
    if not 0 <= zeros <= counts[histogram.zero_bin]:
        raise FileError(f"tensor {name!r}: more zeros than values around zero")
    return histogram
