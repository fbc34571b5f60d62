"""A convolution of codes as one primitive: weights packed, scales, bias and post-ops inside."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kpurun.engine.arithmetic import one_at_a_time
from kpurun.engine.onednn.library import (
    DIMENSIONS,
    Argument,
    Handle,
    Library,
    check,
    loaded_library,
)
from kpurun.engine.onednn.memory import (
    DATA_TYPES,
    Memory,
    described_channels_last,
    described_densely,
    described_freely,
)

FORWARD_INFERENCE, DIRECT = 96, 1  # dnnl_prop_kind_t, dnnl_alg_kind_t
USER_SCRATCHPAD = 1  # the library's own belongs to the thread that made the primitive
QUERY_WEIGHTS, QUERY_SCRATCHPAD = 131, 136  # dnnl_query_t

# Indices of arguments (DNNL_ARG_*), and what they may be joined with
SOURCE, TARGET, WEIGHTS, BIAS, SCRATCHPAD = 1, 17, 33, 41, 80
SCALES, ZERO_POINTS = 4096, 8192

# By torch's name: the algorithm (dnnl_alg_kind_t), and its parameters where none are given.
ELTWISE: dict[str, tuple[int, tuple[float, float]]] = {
    "relu": (0x20, (0.0, 0.0)),
    "swish": (0x2C, (1.0, 0.0)),
    "hardtanh": (0x2E, (0.0, 0.0)),
    "hardswish": (0x34, (1 / 6, 0.5)),
}


class Geometry(NamedTuple):
    """Of a convolution of maps [N, C, H, W]; per axis H, W.

    weight: its shape [M, C / groups, kH, kW]; is_shifted: the code of zero is not 0.
    """

    maps: tuple[int, ...]
    weight: tuple[int, ...]
    strides: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    is_shifted: bool

    @property
    def result(self) -> tuple[int, ...]:
        """[N, M, oH, oW]"""
        spatial = (
            (size + begin + end - dilation * (kernel - 1) - 1) // stride + 1
            for size, begin, end, dilation, kernel, stride in zip(
                self.maps[2:], self.begins, self.ends, self.dilations, self.weight[2:],
                self.strides, strict=True,
            )
        )  # fmt: skip
        return (self.maps[0], self.weight[0], *spatial)


@dataclass(frozen=True)
class Factors:
    """What one unit of the sum is worth: the activation's scale times the output channel's.

    weight_scales: float32 [M].
    """

    x_scale: float
    x_zero_point: int
    weight_scales: Tensor


@dataclass(frozen=True)
class Finish:
    """What happens to a sum: bias, addition, activation, codes.

    added: scale and zero point of the codes that are added, which the result overwrites.
    scale, zero_point: of the result; dtype: uint8, or float32, which is unrounded.
    """

    bias: Tensor | None = None
    added: tuple[float, int] | None = None
    activation: tuple[str, Sequence[float]] = ("none", ())
    scale: float = 1.0
    zero_point: int = 0
    dtype: torch.dtype = torch.float32


_scratchpad = torch.empty(0, dtype=torch.uint8)


def _scratch(size: int) -> int:
    """Address of `size` bytes that belong to whoever is in a call."""
    global _scratchpad
    if _scratchpad.numel() < size:
        _scratchpad = torch.empty(size, dtype=torch.uint8)
    return _scratchpad.data_ptr()


class Convolution:
    """Made once, called many times, from any thread."""

    def __init__(
        self,
        geometry: Geometry,
        weight: Tensor,
        factors: Factors,
        finish: Finish,
        place: Tensor | None = None,
    ) -> None:
        """weight: int8 codes; place: channels-last, for the result, which is new memory without.
        Raises UnimplementedError, also where there is no library."""
        library = loaded_library()
        factors, finish = _in_units_of_result(factors, finish)
        self._new_result = geometry.result, finish.dtype
        self._place = place
        source = described_channels_last(library, geometry.maps, torch.uint8)
        target = described_channels_last(library, geometry.result, finish.dtype)
        descriptor = _descriptor(library, geometry, source, target, finish)
        packed_as = library.query_descriptor(descriptor, QUERY_WEIGHTS, 0)
        packed = _packed(library, weight, geometry, packed_as)
        self._source = Memory(library, source, None)
        self._target = Memory(library, target, None)
        memories = {SOURCE: self._source, TARGET: self._target}
        memories[WEIGHTS] = Memory(library, packed_as, packed)
        memories |= {
            index: Memory(library, described_densely(library, value.shape, value.dtype), value)
            for index, value in _constants(geometry, factors, finish).items()
        }
        scratchpad_as = library.query_descriptor(descriptor, QUERY_SCRATCHPAD, 0)
        self._scratch_bytes = library.size_in_bytes(scratchpad_as)
        self._scratch = Memory(library, scratchpad_as, None)
        memories[SCRATCHPAD] = self._scratch
        self._memories = memories  # the arguments point to them
        listed = [Argument(index, each.pointer) for index, each in memories.items()]
        self._arguments = (Argument * len(listed))(*listed)
        self._primitive = library.new("primitive_create", descriptor)
        stream = library.stream.pointer.value
        self._call = (self._primitive.pointer.value, stream, len(listed), self._arguments)
        self._execute = library.functions["primitive_execute"]

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """x: uint8 maps, channels-last. added: what the result is added to, and overwrites."""
        out = self._place if added is None else added
        if out is None:
            shape, dtype = self._new_result
            out = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        with (
            one_at_a_time()
        ):  # primitives share the scratchpad, and are told addresses before a call
            self._source.be_at(x.data_ptr())
            self._target.be_at(out.data_ptr())
            if self._scratch_bytes:
                self._scratch.be_at(_scratch(self._scratch_bytes))
            check(self._execute(*self._call), "primitive_execute")
        return out


def _in_units_of_result(factors: Factors, finish: Finish) -> tuple[Factors, Finish]:
    """The same with the scales of operand and result in those of the filters, where the activation
    allows it: of three multiplications of every sum one is left."""
    name, parameters = finish.activation
    is_homogeneous = name in ("none", "relu", "hardtanh") and finish.dtype is not torch.float32
    unit = finish.scale if is_homogeneous else 1.0
    factors = replace(
        factors,
        x_scale=1.0,
        weight_scales=(factors.weight_scales.double() * (factors.x_scale / unit)).float(),
    )
    if unit == 1.0:
        return factors, finish
    added = finish.added
    return factors, replace(
        finish,
        bias=None if finish.bias is None else (finish.bias.double() / unit).float(),
        added=None if added is None else (added[0] / unit, added[1]),
        activation=(name, tuple(bound / unit for bound in parameters)),
        scale=1.0,
    )


def _descriptor(
    library: Library, geometry: Geometry, source: Handle, target: Handle, finish: Finish
) -> Handle:
    bias = finish.bias
    return library.new(
        "convolution_forward_primitive_desc_create", library.engine, FORWARD_INFERENCE, DIRECT,
        source,
        described_freely(library, _grouped(geometry), torch.int8),
        None if bias is None else described_densely(library, bias.shape, bias.dtype),
        target,
        DIMENSIONS(*geometry.strides),
        DIMENSIONS(*(dilation - 1 for dilation in geometry.dilations)),
        DIMENSIONS(*geometry.begins),
        DIMENSIONS(*geometry.ends),
        _attributes(library, geometry, finish),
    )  # fmt: skip


def _grouped(geometry: Geometry) -> tuple[int, ...]:
    """Shape of the weight with an axis of groups where there are any."""
    filters, *rest = geometry.weight
    if geometry.groups == 1:
        return geometry.weight
    return (geometry.groups, filters // geometry.groups, *rest)


def _attributes(library: Library, geometry: Geometry, finish: Finish) -> Handle:
    attributes = library.new("primitive_attr_create")
    library.call("primitive_attr_set_scratchpad_mode", attributes, USER_SCRATCHPAD)
    each_filter = 1 if geometry.groups == 1 else 3  # bits of the axes that it spans
    scaled = {WEIGHTS: each_filter}
    if finish.scale != 1.0:
        scaled[TARGET] = 0
    for argument, mask in scaled.items():
        library.call("primitive_attr_set_scales_mask", attributes, argument, mask)
    for argument, is_there in {SOURCE: geometry.is_shifted, TARGET: finish.zero_point}.items():
        if is_there:
            library.call("primitive_attr_set_zero_points_mask", attributes, argument, 0)
    post_ops = library.new("post_ops_create")
    if finish.added is not None:
        library.call("post_ops_append_sum", post_ops, *finish.added, DATA_TYPES[finish.dtype])
    name, parameters = finish.activation
    if name != "none":
        algorithm, defaults = ELTWISE[name]
        library.call("post_ops_append_eltwise", post_ops, algorithm, *(parameters or defaults))
    library.call("primitive_attr_set_post_ops", attributes, post_ops)
    return attributes


def _constants(geometry: Geometry, factors: Factors, finish: Finish) -> dict[int, Tensor]:
    """By index, for all but the weight."""
    constants = {SCALES | WEIGHTS: factors.weight_scales.contiguous()}
    if finish.scale != 1.0:
        constants[SCALES | TARGET] = torch.tensor([finish.scale])
    if geometry.is_shifted:
        constants[ZERO_POINTS | SOURCE] = torch.tensor([factors.x_zero_point], dtype=torch.int32)
    if finish.zero_point:
        constants[ZERO_POINTS | TARGET] = torch.tensor([finish.zero_point], dtype=torch.int32)
    if finish.bias is not None:
        constants[BIAS] = finish.bias.contiguous()
    return constants


def _packed(library: Library, weight: Tensor, geometry: Geometry, packed_as: int) -> Tensor:
    """The weight in the order of `packed_as`."""
    given = weight.contiguous()
    plain = described_densely(library, _grouped(geometry), torch.int8)
    packed = torch.empty(library.size_in_bytes(packed_as), dtype=torch.uint8)
    descriptor = library.new(
        "reorder_primitive_desc_create",
        plain, library.engine, packed_as, library.engine, library.new("primitive_attr_create"),
    )  # fmt: skip
    source, target = Memory(library, plain, given), Memory(library, packed_as, packed)
    arguments = (Argument * 2)(Argument(SOURCE, source.pointer), Argument(TARGET, target.pointer))
    reorder = library.new("primitive_create", descriptor)
    library.call("primitive_execute", reorder, library.stream, 2, arguments)
    return packed
