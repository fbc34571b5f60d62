"""An ONNX model, run by onnxruntime where that is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from formats.errors import FileError, InputError, UsageError
from formats.program import KPUProgram
from kpuc.example import parse_shapes
from kpuc.failures import one_line
from kpuc.reference import Arrays, Reference

SUFFIX = ".onnx"
DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


def onnx_reference(path: str, program: KPUProgram, input_shapes: Sequence[str] = ()) -> Reference:
    """The model with its inputs called as the program's: by their names where those are the same,
    else in order. Sizes that the file leaves open are those of `--input-shape` or the program's.
    """
    session = _session(path)
    own = {each.name: each for each in session.get_inputs()}
    fed = program.get_input_tensors()
    if len(own) != len(fed):
        wanted = ", ".join(tensor.name for tensor in fed) or "nothing"
        raise UsageError(
            f"{path} is not the model of {program.name}: the program takes {wanted}, the reference "
            f"{', '.join(own) or 'nothing'}"
        )
    alike = own.keys() == {tensor.name for tensor in fed}
    names = {t.name: t.name if alike else name for t, name in zip(fed, own, strict=True)}
    given = _given(input_shapes, names)
    shapes = {
        tensor.name: _shape(own[names[tensor.name]], given.get(tensor.name, tensor.shape))
        for tensor in fed
    }
    for name, shape in given.items():
        if shapes[name] != shape:
            raise UsageError(f"--input-shape {shape}: {path} fixes {shapes[name]} for {name!r}")
    dtypes = {each.name: _dtype(path, each) for each in own.values()}
    outputs = [each.name for each in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        feed = {
            other: np.ascontiguousarray(inputs[name], dtypes[other])
            for name, other in names.items()
        }
        try:
            return dict(zip(outputs, session.run(None, feed), strict=True))
        except Exception as error:  # its classes have no base of their own
            raise InputError(f"{Path(path).name} fails: {one_line(error)}") from error

    return Reference(Path(path).stem, "onnxruntime", shapes, run)


def _session(path: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"{path}: an ONNX reference needs onnxruntime: pip install 'kpu-toolchain[accuracy]'"
        ) from error
    if not Path(path).is_file():
        raise FileError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # its classes have no base of their own
        raise FileError(f"{path}: not a readable ONNX model: {one_line(error)}") from error


def _given(texts: Sequence[str], names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """The shapes of `--input-shape` by the program's names; either's names will do."""
    parsed = parse_shapes(texts)
    if isinstance(parsed, tuple):
        if len(parsed) not in (0, len(names)):
            raise UsageError(f"--input-shape: {len(parsed)} shapes for {len(names)} inputs")
        return dict(zip(names, parsed, strict=False))
    by_any = {**{other: name for name, other in names.items()}, **{name: name for name in names}}
    unknown = [name for name in parsed if name not in by_any]
    if unknown:
        raise UsageError(f"--input-shape: no input {unknown[0]!r}, only {', '.join(names)}")
    return {by_any[name]: shape for name, shape in parsed.items()}


def _shape(argument: Any, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes that the model fixes, the wanted ones where it leaves them open."""
    declared = argument.shape
    if len(declared) != len(wanted):
        return tuple(size if isinstance(size, int) else 1 for size in declared)
    return tuple(
        size if isinstance(size, int) else other
        for size, other in zip(declared, wanted, strict=True)
    )


def _dtype(path: str, argument: Any) -> Any:
    if argument.type not in DTYPES:
        raise UsageError(f"{path}: input {argument.name!r} is of type {argument.type}")
    return DTYPES[argument.type]
