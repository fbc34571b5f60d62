"""What each op costs in each order that it may read and write, and what changing an order costs.

Estimated before tensors have their places: activations are taken to live in L2 where they leave it
room for others; constants, inputs and outputs live in DRAM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from formats.config import KPUConfig
from formats.errors import MemoryError
from formats.precision import size_in_bytes
from formats.program import MemoryType
from kpuc.graph import Graph, Node
from kpuc.storage import Storage
from kpuc.tile import tile
from kpurun.ops.loopnest import Unit
from kpurun.timing import estimate
from kpurun.work import Placed, Work, build_work

FORMATS = ("NCHW", "NHWC")
LARGEST_IN_L2 = 1 / 4  # of L2: an activation of this size leaves room for what it is made of
STAGING = 1 / 4  # of L2, for operands that live in DRAM
NOTICEABLE = 0.01  # of an op's cycles: a difference that is worth a search of its own tiles


class Orders(NamedTuple):
    """How an op reads its maps and writes its results: 0 is NCHW, 1 is NHWC."""

    read: int = 0
    write: int = 0


PLAIN = Orders()
Table = Mapping[Orders, int]  # cycles of an op in all four combinations


@dataclass(frozen=True)
class Costs:
    """Cycles of each op, by node id, and of copying each value whose two orders differ: from NCHW,
    from NHWC.
    """

    tables: Mapping[str, Table]
    copies: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Estimator:
    """Asks the machine what ops cost, once for equal ones.

    sensitive: the values whose two orders differ; all others are NCHW.
    """

    graph: Graph
    sensitive: frozenset[str]
    storage: Storage
    config: KPUConfig
    known: dict[tuple[Work, ...], tuple[int, ...]] = field(default_factory=dict)

    def table(self, node: Node) -> Table:
        """Cycles in every combination; an order that the node has no use for changes nothing."""
        reads = any(value in self.sensitive for value in node.inputs)
        writes = any(value in self.sensitive for value in node.outputs)
        distinct = [Orders(r, w) for r in range(1 + reads) for w in range(1 + writes)]
        cycles = self._cycles([self._work(node, orders) for orders in distinct])
        of_orders = dict(zip(distinct, cycles, strict=True))
        every = [Orders(r, w) for r in (0, 1) for w in (0, 1)]
        return {each: of_orders[Orders(each.read * reads, each.write * writes)] for each in every}

    def copies(self, value: str) -> tuple[int, int]:
        """Cycles of an Identity that only changes the order, from NCHW and from NHWC."""
        works = [
            build_work(
                "Identity",
                {},
                (),
                [self._placed(value, source)],
                [self._placed(value, target)],
                self.storage.precision,
            )
            for source, target in (FORMATS, FORMATS[::-1])
        ]
        return self._cycles(works[:1])[0], self._cycles(works[1:])[0]

    def _work(self, node: Node, orders: Orders) -> Work:
        return build_work(
            node.op_type,
            node.attributes,
            node.epilogue,
            [self._placed(value, FORMATS[orders.read]) for value in node.inputs],
            [self._placed(value, FORMATS[orders.write]) for value in node.outputs],
            self.storage.of(node),
            len(node.operands),
        )

    def _placed(self, value: str, order: str) -> Placed:
        graph, type_ = self.graph, self.graph.types[value]
        is_outside = value in graph.constants or value in graph.inputs or value in graph.outputs
        limit = LARGEST_IN_L2 * self.config.memory.sram_l2_bytes
        is_large = size_in_bytes(type_.elements, self.storage.dtypes[value]) > limit
        return Placed(
            tensor_id="",  # ops that differ in names only are equal
            type=type_,
            dtype=self.storage.dtypes[value],
            memory_type=MemoryType.DRAM if is_outside or is_large else MemoryType.SRAM_L2,
            format=order if value in self.sensitive else "NCHW",
            is_weight=value in graph.constants,
            code=self.storage.code(value),
            scale_axis=self.storage.scale_axis(value),
        )

    def _cycles(self, works: Sequence[Work]) -> tuple[int, ...]:
        """Cycles of one op in several combinations."""
        key = tuple(works)
        if key not in self.known:
            self.known[key] = self._estimated(works)
        return self.known[key]

    def _estimated(self, works: Sequence[Work]) -> tuple[int, ...]:
        """Tiles are searched for the first; the others take those over, unless they show a
        difference or the first needs none.
        """
        budget = int(STAGING * self.config.memory.sram_l2_bytes)
        first = works[0]
        try:
            tiling = tile(first, self.config, budget)
            found = [estimate(first, tiling, self.config).total_cycles]
            for work in works[1:]:
                cycles = estimate(work, tiling, self.config).total_cycles
                differs = abs(cycles - found[0]) > NOTICEABLE * found[0]
                if differs or first.nest.unit is Unit.VIEW:
                    own_tiling = tile(work, self.config, budget)
                    own_cycles = estimate(work, own_tiling, self.config).total_cycles
                    cycles = own_cycles if first.nest.unit is Unit.VIEW else min(cycles, own_cycles)
                found.append(cycles)
        except MemoryError:
            return (0,) * len(works)  # it fits in neither order; planning memory will say so
        return tuple(found)
