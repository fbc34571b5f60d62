"""The shared library: where it is, what its functions take, who destroys what they make."""

import ctypes
import weakref
from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any, ClassVar

import torch  # noqa: F401  # first: the library then shares the threads of torch's OpenMP

PACKAGE, FILE = "onednn-cpu-gomp", "libdnnl.so.3"

SUCCESS, UNIMPLEMENTED = 0, 3  # dnnl_status_t
CPU_ENGINE, IN_ORDER_STREAM = 1, 1

Pointer = ctypes.c_void_p
CREATED = ctypes.POINTER(Pointer)
DIMENSIONS = ctypes.c_int64 * 12

# Of each function what it takes; every one returns a dnnl_status_t.
ENGINE_DESCRIPTION = [Pointer, ctypes.c_int, ctypes.c_int]  # engine, propagation, algorithm
SIGNATURES: dict[str, list[Any]] = {
    "engine_create": [CREATED, ctypes.c_int, ctypes.c_size_t],
    "stream_create": [CREATED, Pointer, ctypes.c_uint],
    "memory_desc_create_with_strides": [
        CREATED, ctypes.c_int, DIMENSIONS, ctypes.c_int, DIMENSIONS,
    ],
    "memory_desc_create_with_tag": [
        CREATED, ctypes.c_int, DIMENSIONS, ctypes.c_int, ctypes.c_int,
    ],
    "memory_create": [CREATED, Pointer, Pointer, Pointer],
    "memory_set_data_handle": [Pointer, Pointer],
    "primitive_attr_create": [CREATED],
    "primitive_attr_set_scales_mask": [Pointer, ctypes.c_int, ctypes.c_int],
    "primitive_attr_set_zero_points_mask": [Pointer, ctypes.c_int, ctypes.c_int],
    "primitive_attr_set_scratchpad_mode": [Pointer, ctypes.c_int],
    "primitive_attr_set_post_ops": [Pointer, Pointer],
    "post_ops_create": [CREATED],
    "post_ops_append_eltwise": [Pointer, ctypes.c_int, ctypes.c_float, ctypes.c_float],
    "post_ops_append_sum": [Pointer, ctypes.c_float, ctypes.c_int32, ctypes.c_int],
    "convolution_forward_primitive_desc_create": [
        CREATED, *ENGINE_DESCRIPTION, *[Pointer] * 4, *[DIMENSIONS] * 4, Pointer,
    ],
    "reorder_primitive_desc_create": [CREATED, *[Pointer] * 5],
    "primitive_create": [CREATED, Pointer],
    "primitive_execute": [Pointer, Pointer, ctypes.c_int, Pointer],
}  # fmt: skip
DESTROYED_BY = {
    "engine_create": "engine_destroy",
    "stream_create": "stream_destroy",
    "memory_desc_create_with_strides": "memory_desc_destroy",
    "memory_desc_create_with_tag": "memory_desc_destroy",
    "memory_create": "memory_destroy",
    "primitive_attr_create": "primitive_attr_destroy",
    "post_ops_create": "post_ops_destroy",
    "convolution_forward_primitive_desc_create": "primitive_desc_destroy",
    "reorder_primitive_desc_create": "primitive_desc_destroy",
    "primitive_create": "primitive_destroy",
}


class UnimplementedError(Exception):
    """The library has no kernel for what it was asked for."""


class Handle:
    """An object of the library, which goes when this goes. ctypes passes it as its pointer."""

    def __init__(self, pointer: ctypes.c_void_p, destroy: Callable[[ctypes.c_void_p], int]) -> None:
        self._as_parameter_ = self.pointer = pointer
        weakref.finalize(self, destroy, pointer).atexit = False  # the process frees it


class Library:
    """The functions by name without their prefix `dnnl_`, and the one engine and stream."""

    def __init__(self, shared: ctypes.CDLL) -> None:
        self.functions = {name: getattr(shared, f"dnnl_{name}") for name in SIGNATURES}
        for name, taken in SIGNATURES.items():
            self.functions[name].argtypes = taken
        self._destroyers = {
            name: getattr(shared, f"dnnl_{destroyer}") for name, destroyer in DESTROYED_BY.items()
        }
        for destroyer in self._destroyers.values():
            destroyer.argtypes = [Pointer]
        self.query_descriptor = shared.dnnl_primitive_desc_query_md
        self.query_descriptor.restype = Pointer
        self.query_descriptor.argtypes = [Pointer, ctypes.c_int, ctypes.c_int]
        self.size_in_bytes = shared.dnnl_memory_desc_get_size
        self.size_in_bytes.restype = ctypes.c_size_t
        self.size_in_bytes.argtypes = [Pointer]
        self.engine = self.new("engine_create", CPU_ENGINE, 0)
        self.stream = self.new("stream_create", self.engine, IN_ORDER_STREAM)

    def new(self, function: str, *arguments: object) -> Handle:
        """What a create function makes, or UnimplementedError."""
        pointer = Pointer()
        self.call(function, ctypes.byref(pointer), *arguments)
        return Handle(pointer, self._destroyers[function])

    def call(self, function: str, *arguments: object) -> None:
        """Raises UnimplementedError, or RuntimeError for any other status but success."""
        check(self.functions[function](*arguments), function)


def check(status: int, function: str) -> None:
    """Raise for a status that is not success."""
    if status == UNIMPLEMENTED:
        raise UnimplementedError(function)
    if status != SUCCESS:
        raise RuntimeError(f"oneDNN: {function} returned status {status}")


def loaded_library() -> Library:
    """UnimplementedError where the package is not installed, as on what it is not built for."""
    library = _load()
    if library is None:
        raise UnimplementedError(f"{PACKAGE} is not installed")
    return library


@cache
def _load() -> Library | None:
    try:
        files = metadata.files(PACKAGE) or []
        path = next(file.locate() for file in files if file.name == FILE)
        return Library(ctypes.CDLL(str(path)))
    except (metadata.PackageNotFoundError, StopIteration, OSError, AttributeError):
        return None


class Argument(ctypes.Structure):
    """dnnl_exec_arg_t: which operand, and its memory."""

    _fields_: ClassVar = [("index", ctypes.c_int), ("memory", Pointer)]
