"""Sums that L1 holds between the tiles of a reduction, in the accumulator's type."""

from collections.abc import Callable

import numpy as np

from formats.errors import CheckError
from formats.program import KPUOp, KPUProgram, MemoryType
from kpurun.engine.storage import multiplies_codes
from kpurun.engine.tiled.memory import Held, Memories, Positions, hold
from kpurun.slots import Slots

Join = Callable[[np.ndarray, np.ndarray], np.ndarray]


class PartialSums:
    """Those of an op's first result; `slots` gives them their place."""

    def __init__(self, program: KPUProgram, op: KPUOp, memories: Memories, slots: Slots | None):
        self._tensor = program.tensors[op.output_ids[0]]
        self._memories = memories
        self._slots = slots
        self._held: Held | None = None
        factors = [program.tensors[tensor_id] for tensor_id in op.input_ids[:2]]
        has_groups = any(factor.group_size for factor in factors)
        self._is_whole = multiplies_codes(program, op) and not has_groups

    def total(self, partial: np.ndarray, positions: Positions, join: Join | None) -> np.ndarray:
        """A tile's part and what was kept of the same positions. join: None if the op has none."""
        if join is None:
            raise CheckError("its tiles depend on one another, but cannot be reduced one by one")
        if self._held is None or self._held.positions != positions:
            raise CheckError("L1 holds no partial sums of its output")
        dtype = self._type_of(partial)
        return join(self._held.read(positions).view(dtype), partial.astype(dtype))

    def keep(self, total: np.ndarray, positions: Positions) -> None:
        """For the next tile of the same positions."""
        if self._slots is None:
            raise CheckError("there is no buffer for partial sums")
        kept = total.astype(self._type_of(total), order="C")
        if kept.nbytes > self._slots.stride:
            room = self._slots.stride
            raise CheckError(f"partial sums of {kept.nbytes} bytes have {room} in L1")
        address, axes = self._slots.address, tuple(range(kept.ndim))
        bits = 8 * kept.itemsize
        box = self._memories.box(MemoryType.SRAM_L1, address, kept.shape, axes, bits)
        self._held = hold(self._tensor, box, positions)
        self._held.fill(positions, kept.view(f"<u{kept.itemsize}"))

    def _type_of(self, partial: np.ndarray) -> np.dtype[np.generic]:
        """int32 of codes, fp32 of floats, integers as they are."""
        if partial.dtype.kind in "iu":
            return partial.dtype
        return np.dtype(np.int32 if self._is_whole else np.float32)
