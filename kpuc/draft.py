"""What is decided before addresses: memory of every value, tiles of every op; and what it costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from formats.config import KPUConfig
from formats.program import MemoryType
from kpuc.allocate import Allocation, Interval
from kpuc.graph import Node
from kpuc.scheduled import Scheduled
from kpuc.staging import Tiled
from kpurun.loops import resolve
from kpurun.machine import machine_of
from kpurun.ops.loopnest import Unit
from kpurun.pipeline import flow_of
from kpurun.plan import plan_of
from kpurun.work import Work


@dataclass(frozen=True)
class Draft:
    """memory by value, tiles by node id; l2: addresses with which all of it fits."""

    scheduled: Scheduled
    config: KPUConfig
    memory: Mapping[str, MemoryType]
    tiles: Mapping[str, Tiled]
    l2: Allocation = field(default_factory=lambda: Allocation({}, 0, 0))

    def work(self, node: Node) -> Work:
        """Of an op with everything where the draft puts it."""
        return self.scheduled.work(node, self.memory)

    def serial_cycles(self) -> int:
        """Of all ops one after another, each no shorter than the DRAM bus takes for it; weights
        come while the op before runs."""
        machine = machine_of(self.config)
        total = 0
        for node in self.scheduled.order:
            work = self.work(node)
            if work.nest.unit is Unit.VIEW:
                continue
            ahead = frozenset(each.tensor_id for each in work.reads if each.is_weight)
            loops = resolve(work.nest, self.tiles[node.id].tiling)
            flow = flow_of(plan_of(work), loops, machine, ahead=ahead)
            total += machine.dispatch_cycles + max(flow.total_cycles, flow.dma_cycles)
        return total

    def activations(self) -> list[Interval]:
        """What lives in L2 from op to op, by root."""
        return [
            Interval(tensor_name(root), self.scheduled.size_bytes(root), *span)
            for root, span in self.scheduled.ranges.items()
            if self.memory[root] is MemoryType.SRAM_L2
        ]

    def intervals(self) -> list[Interval]:
        """Everything that needs a place in L2."""
        staged = [
            Interval(buffer_name(node.id, each.tensor_id), each.size_bytes, position, position)
            for position, node in enumerate(self.scheduled.order)
            for each in self.tiles[node.id].in_l2
        ]
        return self.activations() + staged


def tensor_name(root: str) -> str:
    """Of an activation's interval."""
    return f"tensor {root}"


def buffer_name(node_id: str, tensor_id: str) -> str:
    """Of a staging buffer's interval."""
    return f"buffer {node_id} {tensor_id}"
