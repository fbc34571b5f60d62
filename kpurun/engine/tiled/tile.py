"""One L1 tile of one op as its kernel sees it: operands decoded from the bytes in L1."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from formats.codec import STORAGE, decode, encode
from formats.precision import FLOAT_DTYPES, DType
from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.quantized import dequantize, is_coded, kept, reals
from kpurun.engine.storage import keep, multiplies_codes
from kpurun.engine.tiled.memory import RAW_TYPES
from kpurun.engine.tiled.operands import Spans, touched
from kpurun.loops import Block
from kpurun.plan import Plan


@dataclass(frozen=True)
class Tile:
    """bits: what L1 holds of a read in the spans that the tile touches."""

    program: KPUProgram
    op: KPUOp
    attributes: dict[str, Any]
    plan: Plan
    block: Block
    bits: Callable[[int], np.ndarray]

    @property
    def multiplies_codes(self) -> bool:
        return multiplies_codes(self.program, self.op)

    def tensor(self, number: int) -> KPUTensor:
        return self.program.tensors[self.op.input_ids[number]]

    def spans(self, number: int) -> Spans:
        return touched(self.plan.reads[number], self.block)

    def stored(self, number: int) -> np.ndarray:
        """Codes, or the numbers that posits and floats stand for before any scale; integers."""
        return decoded(self.bits(number), self.tensor(number))

    def real(self, number: int) -> np.ndarray:
        """float32 numbers; integers and bools as they are."""
        tensor, stored = self.tensor(number), self.stored(number)
        if tensor.scales is None:
            return reals(stored, tensor)
        return dequantize(stored, self.scales(number))

    def scales(self, number: int) -> np.ndarray:
        """float32 scales of every element of a weight with many of them."""
        tensor = self.tensor(number)
        axis, spans = tensor.scale_axis, self.spans(number)
        found = self.stored(self.op.input_ids.index(tensor.scales, self.op.operand_count))
        along = [1] * len(spans)
        if not tensor.group_size:
            along[axis] = -1
            return found.reshape(along)
        flat, stride = np.zeros([1] * len(spans), np.int64), 1
        for other in reversed([each for each in range(len(spans)) if each != axis]):
            shape = [-1 if each == other else 1 for each in range(len(spans))]
            flat = flat + stride * np.arange(*spans[other]).reshape(shape)
            stride *= tensor.shape[other]
        along[axis] = -1
        channels = np.arange(len(found)).reshape(along)
        return np.asarray(found[channels, flat // tensor.group_size])


def decoded(bits: np.ndarray, tensor: KPUTensor) -> np.ndarray:
    """What stored elements stand for, without their scale."""
    if tensor.dtype is DType.INT4:
        return (bits.astype(np.int8) ^ 8) - np.int8(8)
    storage = np.ascontiguousarray(bits).view(STORAGE[tensor.dtype])
    return decode(storage, tensor.dtype, bits.shape)


def values_kept(
    bits: np.ndarray, tensor: KPUTensor, scales: np.ndarray | None = None
) -> np.ndarray:
    """A whole tensor as the engines keep it: codes of a coded one, else numbers."""
    stored = decoded(bits, tensor)
    return stored if is_coded(tensor) else reals(stored, tensor, scales)


def encoded(values: np.ndarray, tensor: KPUTensor) -> np.ndarray:
    """Bits of unrounded numbers: the one rounding of a result."""
    if tensor.dtype not in FLOAT_DTYPES and not tensor.is_quantized:
        return _bits(keep(values, tensor), tensor)
    if is_coded(tensor):
        return code_bits(kept(values, tensor), tensor)
    scale = np.float32(1 if tensor.scale is None else tensor.scale)
    return _bits(encode(kept(values, tensor) / scale, tensor.dtype), tensor)


def code_bits(codes: np.ndarray, tensor: KPUTensor) -> np.ndarray:
    """Bits of codes; a 4-bit one in a byte of its own."""
    return codes.astype(np.uint8) & 0xF if tensor.dtype is DType.INT4 else _bits(codes, tensor)


def _bits(storage: np.ndarray, tensor: KPUTensor) -> np.ndarray:
    flat = np.ascontiguousarray(storage).view(RAW_TYPES[8 * storage.dtype.itemsize])
    return flat.reshape(storage.shape)
