"""A graph in execution order with how each of its values is stored: what memory is planned for."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from formats.program import MemoryType, Quantization
from kpuc.aliases import Aliases
from kpuc.graph import Graph, Node
from kpuc.schedule import live_ranges, value_bytes
from kpuc.storage import Storage
from kpurun.ops.loopnest import Unit
from kpurun.work import Placed, Work, build_work


@dataclass(frozen=True)
class Scheduled:
    """The decisions that are made before memory is planned.

    storage: how values are stored; formats: value -> "NHWC" where it is not "NCHW"; aliases: which
    values have no bytes of their own; quantization: what making codes did.
    """

    graph: Graph
    order: tuple[Node, ...]
    storage: Storage
    formats: Mapping[str, str]
    aliases: Aliases
    quantization: Quantization | None = None

    @property
    def roots(self) -> Mapping[str, str]:
        """Value -> the value whose bytes it names."""
        return self.aliases.roots

    @cached_property
    def ranges(self) -> dict[str, tuple[int, int]]:
        """Root of an activation or output -> (first, last) position that needs its bytes."""
        return live_ranges(self.graph, self.order, self.roots)

    @cached_property
    def touched(self) -> tuple[frozenset[str], ...]:
        """Per position, the roots of what its op reads and writes; of a view, nothing."""
        return tuple(
            frozenset()
            if self.is_view(node)
            else frozenset(self.roots[value] for value in (*node.inputs, *node.outputs))
            for node in self.order
        )

    @cached_property
    def handing_over(self) -> frozenset[str]:
        """Ids of the ops that read what an op on the other unit makes, and of those: of arrays and
        lanes. In small tiles both can work at once."""
        memory = {
            value: MemoryType.DRAM if value in self.graph.constants else MemoryType.SRAM_L2
            for value in self.values
        }
        units = {node.id: self.work(node, memory).nest.unit for node in self.order}
        makers: dict[str, list[str]] = defaultdict(list)
        found: set[str] = set()
        for node in self.order:
            if self.is_view(node):
                continue
            for value in dict.fromkeys(node.inputs):
                for maker in makers[self.roots[value]]:
                    if {units[maker], units[node.id]} == {Unit.SYSTOLIC, Unit.VECTOR}:
                        found |= {maker, node.id}
            for value in node.outputs:
                makers[self.roots[value]].append(node.id)
        return frozenset(found)

    def is_view(self, node: Node) -> bool:
        """Whether the op makes nothing but another name for bytes that exist."""
        return node.id in self.aliases.views

    def size_bytes(self, value: str) -> int:
        """Stored size of a value."""
        return value_bytes(self.graph, self.storage.dtypes, value)

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Every value of the program: inputs, then in order of appearance."""
        in_order = (value for node in self.order for value in (*node.inputs, *node.outputs))
        return tuple(dict.fromkeys((*self.graph.inputs, *in_order)))

    @property
    def weight_bytes(self) -> int:
        """All constants that ops read, as stored."""
        return sum(map(self.size_bytes, self.graph.constants.keys() & set(self.values)))

    @property
    def activation_bytes(self) -> int:
        """All inputs and results that have bytes of their own, as if they did not share."""
        own = [value for value in self.values if self.roots[value] == value]
        return sum(self.size_bytes(value) for value in own if value not in self.graph.constants)

    def work(self, node: Node, memory: Mapping[str, MemoryType]) -> Work:
        """The work of one op when every value lives where `memory` says."""
        return build_work(
            node.op_type,
            node.attributes,
            node.epilogue,
            [self._placed(value, memory) for value in node.inputs],
            [self._placed(value, memory) for value in node.outputs],
            self.storage.of(node),
            len(node.operands),
        )

    def _placed(self, value: str, memory: Mapping[str, MemoryType]) -> Placed:
        return Placed(
            tensor_id=value,
            type=self.graph.types[value],
            dtype=self.storage.dtypes[value],
            memory_type=memory[value],
            format=self.formats.get(value, "NCHW"),
            is_weight=value in self.graph.constants,
            code=self.storage.code(value),
            scale_axis=self.storage.scale_axis(value),
            root=self.roots[value],
            container=self.graph.types[self.roots[value]].shape,
            starts=self.aliases.starts.get(value),
        )
