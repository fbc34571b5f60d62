"""Reading what a program is fed: arrays from .npz, .npy or .safetensors, or one image.

The kind is recognised by content, so a pipe needs no name. Pickled arrays are refused.
"""

import zipfile
from io import BytesIO

import numpy as np

from formats.errors import FileError, UsageError
from formats.precision import FLOAT_DTYPES, DType
from formats.program import KPUProgram, KPUTensor
from kpurun.feed import host_dtype
from kpurun.images import is_image, read_image
from kpurun.ops.checks import NUMPY_DTYPES

MOST_BYTES = 4 << 30  # of one input file unpacked; format 1.0 programs are under 4 GiB too


def read_inputs(
    data: bytes, source: str, program: KPUProgram, preprocess: str | None = None
) -> dict[str, np.ndarray]:
    """Arrays by input name from the content of one file.

    source: the file's name, for messages. preprocess: how an image becomes the input (see
    `kpurun.images`), None for the program's own recipe; arrays are taken as they are. An array
    without a name (.npy, or arr_0, arr_1 … of an .npz) goes to the input of its position. Raises
    FileError for a file that cannot be read, UsageError or InputError for one that does not fit.
    """
    if not data:
        raise FileError(f"{source}: the file is empty")
    if is_image(data):
        tensor = _only_input(program, source)
        recipe = program.preprocess if preprocess is None else preprocess
        return {tensor.name: read_image(data, source, tensor.shape, recipe)}
    if preprocess is not None:
        raise UsageError(f"{source}: --preprocess is for images; arrays are taken as they are")
    if data.startswith(b"PK"):
        return _positional(_read_npz(data, source), program)
    if data.startswith(b"\x93NUMPY"):
        return {_only_input(program, source).name: _read_npy(data, source)}
    if data[8:9] == b"{":
        return _read_safetensors(data, source)
    raise FileError(f"{source}: neither .npz, .npy, .safetensors nor an image")


def random_inputs(program: KPUProgram, seed: int) -> dict[str, np.ndarray]:
    """Reproducible inputs: standard normal floats; integers that every op can use as an index."""
    generator = np.random.default_rng(seed)
    return {
        tensor.name: _random(program, tensor, generator) for tensor in program.get_input_tensors()
    }


def _random(program: KPUProgram, tensor: KPUTensor, generator: np.random.Generator) -> np.ndarray:
    if tensor.dtype in FLOAT_DTYPES:
        return generator.standard_normal(tensor.shape).astype(host_dtype(tensor))
    if tensor.dtype is DType.BOOL:
        return generator.integers(0, 2, tensor.shape).astype(np.bool_)
    limit = _smallest_gathered_axis(program, tensor)
    return generator.integers(0, limit, tensor.shape).astype(NUMPY_DTYPES[tensor.dtype])


def _smallest_gathered_axis(program: KPUProgram, indices: KPUTensor) -> int:
    """The size that a random index must stay under; 128 where nothing is gathered by it."""
    sizes: list[int] = [
        program.tensors[op.input_ids[0]].shape[op.attributes.get("axis", 0)]
        for op in program.ops
        if op.op_type == "Gather" and op.input_ids[1] == indices.id
    ]
    return min([128, *sizes])


def _only_input(program: KPUProgram, source: str) -> KPUTensor:
    tensors = program.get_input_tensors()
    if len(tensors) == 1:
        return tensors[0]
    names = ", ".join(tensor.name for tensor in tensors)
    raise UsageError(
        f"{source}: holds one array, the program takes {len(tensors)} inputs ({names}): "
        "give them by name in an .npz or .safetensors"
    )


def _positional(arrays: dict[str, np.ndarray], program: KPUProgram) -> dict[str, np.ndarray]:
    """numpy's own names for unnamed arrays, arr_0 …, become the names of the inputs in order."""
    names = {
        f"arr_{index}": tensor.name for index, tensor in enumerate(program.get_input_tensors())
    }
    if not set(arrays) <= set(names):
        return arrays
    return {names[name]: array for name, array in arrays.items()}


def _read_npy(data: bytes, source: str) -> np.ndarray:
    try:
        return np.asarray(np.load(BytesIO(data), allow_pickle=False))
    except Exception as error:  # numpy evaluates the header: anything may be wrong with it
        raise FileError(f"{source}: not a readable .npy file: {_one_line(error)}") from error


def _read_npz(data: bytes, source: str) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = archive.infolist()
        if not all(member.filename.endswith(".npy") for member in members):
            raise FileError(f"{source}: a zip file, but not an .npz of arrays")
        unpacked_bytes = sum(member.file_size for member in members)
        if unpacked_bytes > MOST_BYTES:
            raise FileError(f"{source}: unpacks to {unpacked_bytes} bytes, more than {MOST_BYTES}")
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        if not all(isinstance(array, np.ndarray) for array in content.values()):
            raise FileError(f"{source}: not a readable .npz file: a member is no array")
        return content
    except FileError:
        raise
    except Exception as error:  # also of every decompressor
        raise FileError(f"{source}: not a readable .npz file: {_one_line(error)}") from error


def _read_safetensors(data: bytes, source: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise FileError(
            f"{source}: not a readable .safetensors file: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
