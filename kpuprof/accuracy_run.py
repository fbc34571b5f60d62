"""A program and its reference side by side, one sample at a time: memory does not grow with them.

Here kpuprof asks compiler and simulator; they are imported when they are needed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from formats.errors import InputError, UsageError
from formats.precision import FLOAT_DTYPES
from formats.program import KPUProgram, KPUTensor
from kpuprof.accuracy import Accuracy
from kpuprof.accuracy_file import digest_of
from kpuprof.accuracy_sums import ExactSums, FloatSums, OpSums, Output

if TYPE_CHECKING:
    from kpuc.layers import Layers
    from kpuc.quant.batches import Labelled
    from kpuc.reference import Reference

Arrays = Mapping[str, np.ndarray]
Track = Callable[[Iterable[Any], int], Iterable[Any]]
ONNX_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Comparison:
    """What to compare with: paths as the user gave them, and how they are to be read.

    preprocess: of images, None for the program's own; limit: of samples, None for all.
    """

    reference: str
    data: str
    input_shapes: tuple[str, ...] = ()
    arch: str | None = None
    trust_pickle: bool = False
    preprocess: str | None = None
    limit: int | None = None
    per_layer: bool = False


@dataclass(frozen=True)
class Opened:
    """The reference, and the graph in fp32 if that was asked for. warning: of the reference."""

    reference: "Reference"
    layers: "Layers | None"
    warning: str = ""


def measure(program: KPUProgram, wanted: Comparison, track: Track) -> Accuracy:
    """Every figure of the program over the samples. track: puts a progress bar around them.

    UsageError, FileError or InputError for a reference or samples that do not fit, CheckError for
    an output that is not finite where the reference's is.
    """
    from kpuc.piped import samples_file

    with samples_file(wanted.data) as data:
        return _measured(program, wanted, str(data), track)


def _measured(program: KPUProgram, wanted: Comparison, data: str, track: Track) -> Accuracy:
    """data: a file or folder, of what `wanted` may have from stdin."""
    from kpuc.reference import require_alike

    samples = _samples(program, wanted, data)  # first: the rest takes longer
    opened = _opened(program, wanted)
    names = require_alike(program, opened.reference)
    batch = samples.samples.batch
    outputs = {t.name: _sums(t, names[t.name], batch) for t in program.get_output_tensors()}
    ops = None if opened.layers is None else OpSums(program)
    warnings = [opened.warning] if opened.warning else []
    for labels, sample, given, overflow in _runs(program, _near(samples, data, track)):
        expected = _run_reference(opened.reference, sample, labels)
        for name, sums in outputs.items():
            sums.add(labels, expected[names[name]], given[name])
        if ops is not None and opened.layers is not None:
            ops.add(opened.layers.run(_by_id(program, sample)))
        if overflow and len(warnings) == bool(opened.warning):
            warnings.append(f"{labels[0]}: {overflow}")
    return Accuracy(
        program=program.name,
        program_digest=digest_of(program),
        precision=program.precision.value,
        config=program.target_config.name,
        reference=opened.reference.name,
        runtime=opened.reference.runtime,
        data=Path(data).name,
        samples=samples.count,
        outputs=tuple(s.figures() for s in outputs.values() if isinstance(s, FloatSums)),
        exact_outputs=tuple(s.figures() for s in outputs.values() if isinstance(s, ExactSums)),
        per_layer=None
        if ops is None
        else ops.figures(opened.layers.why_own if opened.layers else ""),
        warnings=tuple(warnings),
    )


def _near(samples: "Labelled", data: str, track: Track) -> Iterator[tuple[list[str], Arrays]]:
    """(labels, inputs) of every batch; labels begin with the name of the data set, not its path."""
    parent = f"{Path(data).parent}/"
    for labels, sample in track(samples, len(samples)):
        yield [label.removeprefix(parent) for label in labels], sample


def _runs(
    program: KPUProgram, samples: Iterable[tuple[list[str], Arrays]]
) -> Iterator[tuple[list[str], Arrays, Arrays, str]]:
    """(labels, inputs, outputs, what overflowed) of every run of the program."""
    from kpurun.runtime import KPURuntime

    runtime = KPURuntime()
    runtime.load_program(program)
    for labels, sample in samples:
        try:
            result = runtime.run(sample)
        except InputError as error:
            raise InputError(f"{labels[0]}: {error}") from error
        yield labels, sample, result.outputs, " ".join(result.trace)


def _run_reference(reference: "Reference", sample: Arrays, labels: list[str]) -> Arrays:
    try:
        return reference.run(sample)
    except InputError as error:
        raise InputError(f"{labels[0]}: {error}") from error


def _by_id(program: KPUProgram, sample: Arrays) -> dict[str, np.ndarray]:
    return {tensor.id: sample[tensor.name] for tensor in program.get_input_tensors()}


def _samples(program: KPUProgram, wanted: Comparison, data: str) -> "Labelled":
    from kpuc.quant.data import InputSpec, any_samples
    from kpurun.compatibility import is_batched, uses_of

    specs = [
        InputSpec(t.name, t.shape, _is_float(t), is_batched(t.shape, uses_of(program, t)))
        for t in program.get_input_tensors()
    ]
    if not specs:
        raise UsageError(f"{program.name} takes no inputs: there is nothing to run over --data")
    if wanted.preprocess is not None and not Path(data).is_dir():
        raise UsageError(f"--preprocess is for images, {wanted.data} is no folder of them")
    found = any_samples(data, specs, wanted.preprocess or program.preprocess)
    if not found.given:
        raise UsageError(f"{wanted.data}: no samples in it")
    return (found if wanted.limit is None else found.first(wanted.limit)).labelled()


def _is_float(tensor: KPUTensor) -> bool:
    return tensor.dtype in FLOAT_DTYPES or tensor.is_quantized


def _sums(tensor: KPUTensor, reference_name: str, batch: int) -> FloatSums | ExactSums:
    output = Output(tensor.name, reference_name, tensor.shape, batch)
    return FloatSums(output) if _is_float(tensor) else ExactSums(output)


def _opened(program: KPUProgram, wanted: Comparison) -> Opened:
    if Path(wanted.reference).suffix.lower() == ONNX_SUFFIX:
        return _opened_onnx(program, wanted)
    from kpuc.load import load_model
    from kpuc.piped import model_file
    from kpuc.reference import quiet, torch_reference

    with model_file(wanted.reference) as path, quiet():
        loaded = load_model(path, trust_pickle=wanted.trust_pickle, arch=wanted.arch)
        warning = _other_source(program, loaded.path)
    reference, example = torch_reference(loaded, program, wanted.input_shapes)
    if not wanted.per_layer:
        return Opened(reference, None, warning)
    from kpuc.layers import layers

    with quiet():
        return Opened(reference, layers(program, loaded.module, example), warning)


def _opened_onnx(program: KPUProgram, wanted: Comparison) -> Opened:
    if wanted.arch is not None or wanted.trust_pickle:
        raise UsageError("--arch and --trust-pickle are for PyTorch models, not ONNX")
    from kpuc.reference_onnx import onnx_reference

    reference = onnx_reference(wanted.reference, program, wanted.input_shapes)
    if not wanted.per_layer:
        return Opened(reference, None)
    from kpuc.layers import layers

    return Opened(reference, layers(program, None, None))


def _other_source(program: KPUProgram, path: Path | None) -> str:
    """A sentence for a reference of the kind that the program was compiled from, but another."""
    if path is None or path.suffix != Path(program.source_model).suffix:
        return ""
    with path.open("rb") as file:
        digest = sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() == program.source_hash:
        return ""
    return f"{program.name} was compiled from another file than {path.name}"
