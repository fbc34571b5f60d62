"""What was decided about memory, as the program is made from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from formats.program import Buffer, MemoryType, TileConfig


@dataclass(frozen=True)
class MemoryPlan:
    """Tiles by node id, memory by value, address by root value, buffers; peaks in bytes."""

    tiles: Mapping[str, TileConfig]
    memory: Mapping[str, MemoryType]
    addresses: Mapping[str, int]
    buffers: tuple[Buffer, ...]
    l2_peak_bytes: int
    l2_bound_bytes: int
    dram_peak_bytes: int
    alignment_bytes: int
