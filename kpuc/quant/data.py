"""Calibration samples: from files, folders of images or Python, read one at a time and repeatedly.

Memory does not grow with their number: files are mapped or read when needed, and what comes from an
iterator is kept in an unnamed temporary file (in $TMPDIR), since it cannot be asked for twice.
"""

import tempfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from formats.errors import (
    FileError,
    InputError,
    UsageError,
    shape_mismatch,
    too_few_calibration_samples,
)
from kpuc.quant.arrays import image_paths, map_arrays
from kpuc.quant.batches import Samples, Store
from kpurun.images import read_image

LEAST_SAMPLES = 100


@dataclass(frozen=True)
class InputSpec:
    """An input of the model: its name, its full shape, whether it holds real numbers, and whether
    its leading axis is a batch (see `kpurun.compatibility.is_batched`)."""

    name: str
    shape: tuple[int, ...]
    is_float: bool = True
    is_batched: bool = True


def samples(
    source: object, inputs: Sequence[InputSpec], preprocess: str, precision: str = "int8"
) -> Samples:
    """Calibration samples from whatever the user has.

    source: the path of a folder of images, of an .npy, .npz or .safetensors file; or arrays, dicts
    of arrays by input name, tuples of arrays in order of the inputs, torch tensors or any iterable
    of those. A leading axis beyond the model's batch counts samples, and so does the batch itself:
    an array of the full input shape is as many samples, which stay together. preprocess: of images,
    see `kpurun.images`. UsageError for fewer than 100 samples or one that does not fit.
    """
    found = any_samples(source, inputs, preprocess)
    if len(found.store) < LEAST_SAMPLES:
        where = f"{source} has" if isinstance(source, str | PathLike) else "there are"
        raise UsageError(f"{too_few_calibration_samples(precision)}; {where} {len(found.store)}")
    return found


def any_samples(source: object, inputs: Sequence[InputSpec], preprocess: str) -> Samples:
    """As `samples`, however few there are."""
    batch = _batch(inputs)
    store = _store(source, inputs, batch, preprocess)
    return Samples(store, store.given, batch)


class Replayable:
    """Calibration data that is asked for more than once: by a program per shape, or per weights.

    What it is made of is asked for once even if it is an iterator: the first use keeps the samples.
    """

    def __init__(self, source: object) -> None:
        self.source = source

    def keep(self, kept: "_Arrays") -> None:
        """The samples that the iterator gave, to be used from now on."""
        self.source = kept.items


def replayable(source: object) -> object:
    """The source, or the same `Replayable` every time for the same iterator.

    Those are never dropped: an iterator can be given again, as long as the process lasts.
    """
    if not isinstance(source, Iterator):
        return source
    given, replay = _REPLAYED.setdefault(id(source), (source, Replayable(source)))
    assert given is source, "an iterator that is held shares its id with no other"
    return replay


_REPLAYED: dict[int, tuple[object, Replayable]] = {}


def _batch(inputs: Sequence[InputSpec]) -> int:
    """The batch that all inputs share; 0 when one has none."""
    sizes = {spec.shape[0] if spec.is_batched and len(spec.shape) > 1 else 0 for spec in inputs}
    return sizes.pop() if len(sizes) == 1 else 0


def _store(source: object, inputs: Sequence[InputSpec], batch: int, preprocess: str) -> Store:
    if isinstance(source, Replayable):
        store = _store(source.source, inputs, batch, preprocess)
        if isinstance(source.source, Iterator) and isinstance(store, _Arrays):
            source.keep(store)
        return store
    if isinstance(source, str | PathLike):
        path = Path(source)
        if path.is_dir():
            return _images(path, inputs, batch, preprocess)
        label = f"{path}: sample"
        return _Arrays([_fitted(map_arrays(path), inputs, batch, str(path))], inputs, label)
    what = "calibration sample"
    if isinstance(source, Mapping | np.ndarray | torch.Tensor):
        return _Arrays([_fitted(source, inputs, batch, "calibration data")], inputs, what)
    if not isinstance(source, Iterable):
        raise UsageError(f"calibration data: {type(source).__name__} is not iterable")
    items = (_fitted(item, inputs, batch, f"{what} {index}") for index, item in enumerate(source))
    if isinstance(source, list | tuple):
        return _Arrays(list(items), inputs, what)
    return _spooled(items, inputs, what)


@dataclass(frozen=True)
class _Images:
    paths: Sequence[Path]
    spec: InputSpec
    preprocess: str

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def given(self) -> Sequence[range]:
        return _alone(len(self.paths))

    def sample(self, index: int) -> dict[str, np.ndarray]:
        path = self.paths[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}") from error
        shape = (1, *self.spec.shape[1:])
        return {self.spec.name: read_image(data, str(path), shape, self.preprocess)[0]}

    def label(self, index: int) -> str:
        return str(self.paths[index])


def _images(folder: Path, inputs: Sequence[InputSpec], batch: int, preprocess: str) -> _Images:
    if len(inputs) != 1 or not batch:
        raise UsageError(f"{folder}: images fit a model of one input (N,C,H,W): give arrays")
    paths = image_paths(folder)
    if not paths:
        raise UsageError(f"{folder}: no images in this folder")
    return _Images(paths, inputs[0], preprocess)


@dataclass(frozen=True)
class _Part:
    """Arrays by input name, each [count, *shape of one sample]; perhaps mapped, not in memory.
    given: as of a `Store`."""

    arrays: Mapping[str, Any]
    count: int
    given: Sequence[range]


class _Arrays:
    """Samples of parts, one after the other."""

    def __init__(self, parts: Sequence[_Part], inputs: Sequence[InputSpec], label: str) -> None:
        self._parts = parts
        self._inputs = inputs
        self._label = label
        self._starts = list(accumulate((part.count for part in parts), initial=0))

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def given(self) -> Sequence[range]:
        return [
            range(start + group.start, start + group.stop)
            for start, part in zip(self._starts[:-1], self._parts, strict=True)
            for group in part.given
        ]

    @property
    def items(self) -> list[Mapping[str, Any]]:
        """What was given, one by one."""
        return [
            {name: array[group.start : group.stop] for name, array in part.arrays.items()}
            for part in self._parts
            for group in part.given
        ]

    def sample(self, index: int) -> dict[str, np.ndarray]:
        place = bisect_right(self._starts, index) - 1
        start = self._starts[place]
        return _row(self._parts[place], index - start, self._inputs, self.label(index))

    def label(self, index: int) -> str:
        return f"{self._label} {index}"


def _row(part: _Part, index: int, inputs: Sequence[InputSpec], label: str) -> dict[str, np.ndarray]:
    """One sample of a part, checked and in memory of its own."""
    row = {}
    for spec in inputs:
        stored = part.arrays[spec.name][index]
        if not spec.is_float:
            row[spec.name] = np.array(stored, bool if stored.dtype == np.bool_ else np.int64)
            continue
        with np.errstate(over="ignore"):
            row[spec.name] = np.array(stored, np.float32, order="C")
        if not np.isfinite(row[spec.name]).all():
            raise InputError(f"{label}: NaN or infinite values in input {spec.name!r}")
    return row


def _fitted(item: object, inputs: Sequence[InputSpec], batch: int, label: str) -> _Part:
    """An item as samples of the model's inputs; InputError says what does not fit."""
    given = {
        spec: _as_array(value, label)
        for spec, value in zip(inputs, _by_input(item, inputs, label), strict=True)
    }
    arrays = {spec.name: _as_rows(array, spec, batch, label) for spec, array in given.items()}
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        text = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
        raise InputError(f"{label}: not as many samples of each input: {text}")
    count = next(iter(counts.values()), 0)
    is_whole = any(spec.shape in (array.shape, array.shape[1:]) for spec, array in given.items())
    if not (batch and is_whole):
        return _Part(arrays, count, _alone(count))
    return _Part(arrays, count, [range(at, at + batch) for at in range(0, count, batch)])


def _alone(count: int) -> Sequence[range]:
    """Samples of which each was given for itself."""
    return [range(index, index + 1) for index in range(count)]


def _by_input(item: object, inputs: Sequence[InputSpec], label: str) -> list[object]:
    """The item's arrays in order of the inputs."""
    names = [spec.name for spec in inputs]
    if isinstance(item, Mapping):
        if set(item) == {f"arr_{place}" for place in range(len(names))}:  # numpy's for unnamed
            return [item[f"arr_{place}"] for place in range(len(names))]
        missing = [name for name in names if name not in item]
        if set(item) == {"arr_0"}:
            raise InputError(
                f"{label}: one array without a name, the model takes {len(names)} "
                f"({', '.join(names)}): give them by name in an .npz or .safetensors"
            )
        if missing:
            held = ", ".join(map(str, item))
            raise InputError(f"{label}: no array for input {', '.join(missing)}, only {held}")
        return [item[name] for name in names]
    values = list(item) if isinstance(item, list | tuple) else [item]
    if len(values) != len(names):
        raise InputError(
            f"{label}: {len(values)} arrays, the model takes {len(names)} ({', '.join(names)})"
        )
    return values


def _as_array(value: object, label: str) -> Any:
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{label}: {type(value).__name__} is not an array") from error


def _as_rows(array: Any, spec: InputSpec, batch: int, label: str) -> Any:
    """The array as [samples, *shape of one]: a missing axis is added, a batch axis is unfolded."""
    kinds = "f" if spec.is_float else "iub"
    if array.dtype.kind not in kinds:
        wanted = "real numbers" if spec.is_float else "integers"
        raise InputError(f"{label}: input {spec.name!r} holds {wanted}, this is {array.dtype}")
    one = spec.shape[1:] if batch else spec.shape
    if array.shape == one:
        return array[None]
    if array.shape[1:] == one:
        return array
    if batch and array.shape[1:] == spec.shape:
        return array.reshape(-1, *one)
    raise InputError(
        f"{label}: {shape_mismatch(_wanted(one, spec, array), array.shape, spec.name)}"
    )


def _wanted(one: Sequence[int], spec: InputSpec, array: Any) -> Sequence[int | str]:
    """The shape that an array of this rank should have: N where its leading axis counts samples."""
    rank = len(array.shape)
    if rank == len(one) + 1 and array.shape[:1] != spec.shape[:1]:
        return ("N", *one)
    return ("N", *spec.shape) if rank == len(spec.shape) + 1 else spec.shape


def _spooled(parts: Iterable[_Part], inputs: Sequence[InputSpec], label: str) -> _Arrays:
    """All samples of an iterator in temporary files, one per input, that vanish with the arrays."""
    count = 0
    given: list[range] = []
    kinds: dict[str, np.dtype[Any]] = {}
    files = {spec.name: tempfile.TemporaryFile() for spec in inputs}  # noqa: SIM115  mapped below
    shapes: dict[str, tuple[int, ...]] = {}
    for part in parts:
        given += [range(count + group.start, count + group.stop) for group in part.given]
        for index in range(part.count):
            for name, array in _row(part, index, inputs, f"{label} {count}").items():
                stored = array.astype(kinds.setdefault(name, array.dtype), copy=False)
                shapes[name] = stored.shape
                files[name].write(stored.tobytes())
            count += 1
    arrays: dict[str, Any] = {}
    for name, file in files.items():
        file.flush()
        if count:
            arrays[name] = np.memmap(file, kinds[name], "r", shape=(count, *shapes[name]))
        file.close()
    return _Arrays([_Part(arrays, count, given)], inputs, label)
