"""Tensors as the library sees them: descriptors of shape and layout, and memory at an address."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kpurun.engine.onednn.library import DIMENSIONS, Handle, Library, check

DATA_TYPES = {torch.float32: 3, torch.int32: 4, torch.int8: 5, torch.uint8: 6}  # dnnl_data_type_t
ANY_LAYOUT = 1  # dnnl_format_tag_any


def described(
    library: Library, shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype
) -> Handle:
    """Elements `strides` apart."""
    return library.new(
        "memory_desc_create_with_strides",
        len(shape), DIMENSIONS(*shape), DATA_TYPES[dtype], DIMENSIONS(*strides),
    )  # fmt: skip


def described_densely(library: Library, shape: Sequence[int], dtype: torch.dtype) -> Handle:
    """In the order of the shape."""
    return described(library, shape, torch.empty(shape, device="meta").stride(), dtype)


def described_channels_last(library: Library, shape: Sequence[int], dtype: torch.dtype) -> Handle:
    """A map [N, C, H, W] whose channels lie next to each other."""
    _, channels, height, width = shape
    strides = (channels * height * width, 1, width * channels, channels)
    return described(library, shape, strides, dtype)


def described_freely(library: Library, shape: Sequence[int], dtype: torch.dtype) -> Handle:
    """In the layout that the primitive likes best."""
    return library.new(
        "memory_desc_create_with_tag",
        len(shape), DIMENSIONS(*shape), DATA_TYPES[dtype], ANY_LAYOUT,
    )  # fmt: skip


class Memory:
    """A tensor, or nothing yet, as an argument. It must outlive every call that it is used in."""

    def __init__(self, library: Library, descriptor: Handle | int, tensor: Tensor | None) -> None:
        self._tensor = tensor
        self._address = None if tensor is None else tensor.data_ptr()
        self._handle = library.new("memory_create", descriptor, library.engine, self._address)
        self._set_address = library.functions["memory_set_data_handle"]
        self.pointer = self._handle.pointer

    def be_at(self, address: int) -> None:
        """The next call finds the tensor there; most often it is there already."""
        if address != self._address:
            check(self._set_address(self.pointer, address), "memory_set_data_handle")
            self._address = address
