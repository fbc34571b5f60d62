"""Samples as arrays of a file, and back, exactly.

Photos have eight bits: where no channel has more than 256 different numbers, a palette of those and
a byte for each number take a quarter of the space.
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from formats.errors import FileError
from kpuc.graph import Graph
from kpuc.quant.network import Sample
from kpuc.quant.saved_statistics import Arrays, taken

COLOURS = 256  # of a palette
IMAGES_RANK = 5  # samples, batch, channels, height, width


def packed_samples(
    inputs: Sequence[str], refining: Sequence[Sample], held_out: Sequence[Sample]
) -> Arrays:
    """For each input one array of all samples, the first ones those of `refining`."""
    arrays: Arrays = {}
    for value in inputs:
        rows = np.stack([sample[value] for sample in (*refining, *held_out)])
        found = _with_palette(rows)
        if found is None:
            arrays[f"samples/{value}"] = rows
        else:
            arrays[f"pixels/{value}"], arrays[f"palette/{value}"] = found
    return arrays


def taken_samples(
    arrays: Arrays, graph: Graph, refining: int, held_out: int
) -> tuple[list[Sample], list[Sample]]:
    """(refining, held out) by value; FileError for what the model's inputs cannot be."""
    count = refining + held_out
    rows = {value: _rows(arrays, graph, value, count) for value in graph.inputs}
    samples = [{value: rows[value][place] for value in rows} for place in range(count)]
    return list(samples[:refining]), list(samples[refining:])


def _rows(arrays: Arrays, graph: Graph, value: str, count: int) -> np.ndarray:
    """[count, *shape of the input]."""
    type_ = graph.types[value]
    shape = (count, *type_.shape)
    if not type_.is_float:
        return taken(arrays, f"samples/{value}", shape, np.int64, np.bool_)
    if f"pixels/{value}" in arrays:
        channels = _channel_count(shape)
        size = prod(shape) // channels
        pixels = taken(arrays, f"pixels/{value}", (channels, size), np.uint8)
        palette = taken(arrays, f"palette/{value}", (channels, COLOURS), np.float32)
        rows = _coloured(pixels, palette, shape)
    else:
        rows = taken(arrays, f"samples/{value}", shape, np.float32)
    if not np.isfinite(rows).all():
        raise FileError(f"samples of {value}: NaN or infinite values")
    return rows


def _with_palette(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(uint8 [channels, values], the float32 that they stand for [channels, COLOURS]).

    None where a channel has too many colours, or that would not be smaller.
    """
    channels = _channel_count(rows.shape)
    if rows.dtype != np.float32 or rows.size <= 4 * COLOURS * channels:
        return None
    bits = _by_channel(rows).view(np.uint32)  # so that -0.0 stays what it is
    if len(np.unique(bits[0, : bits.shape[1] // len(rows)])) > COLOURS:
        return None  # seen in one sample, where it costs little
    found = [np.unique(numbers) for numbers in bits]
    if max(map(len, found)) > COLOURS:
        return None
    pixels = [np.searchsorted(*each) for each in zip(found, bits, strict=True)]
    palette = [np.pad(colours, (0, COLOURS - len(colours)), mode="edge") for colours in found]
    return np.array(pixels, np.uint8), np.array(palette).view(np.float32)


def _coloured(pixels: np.ndarray, palette: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that pixels stand for, in the shape of all samples."""
    numbers = np.stack([colours[row] for colours, row in zip(palette, pixels, strict=True)])
    if len(shape) != IMAGES_RANK:
        return numbers.reshape(shape)
    moved = (shape[2], *shape[:2], *shape[3:])
    return np.ascontiguousarray(np.moveaxis(numbers.reshape(moved), 0, 2))


def _by_channel(rows: np.ndarray) -> np.ndarray:
    """[channels, values] of all samples."""
    first = np.moveaxis(rows, 2, 0) if rows.ndim == IMAGES_RANK else rows
    return np.ascontiguousarray(first.reshape(_channel_count(rows.shape), -1))


def _channel_count(shape: Sequence[int]) -> int:
    return shape[2] if len(shape) == IMAGES_RANK else 1
