"""Which values have no bytes of their own: views of others, and parts of what they are joined to.

A concatenation whose operands were computed in their places has nothing to move, nor has a slice or
a split, whose results are boxes of what they are cut from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import add, sub

from formats.precision import BITS
from kpuc.graph import Graph, Node
from kpuc.storage import Storage
from kpurun.ops import op_named
from kpurun.ops.loopnest import LoopNest, Unit
from kpurun.ops.nests import shifts
from kpurun.ops.opdef import complete

Formats = Mapping[str, str]
Starts = tuple[int, ...]


@dataclass(frozen=True)
class Aliases:
    """roots: value -> the value whose bytes it names, itself where it has bytes of its own.

    starts: of a value that is a box in its root, where that begins. views: ids of nodes that move
    nothing.
    """

    roots: Mapping[str, str]
    starts: Mapping[str, Starts]
    views: frozenset[str]


def aliases(graph: Graph, storage: Storage, formats: Formats) -> Aliases:
    """Inputs and constants have a place of their own, and outputs must have one, so a view of an
    input that is an output is a copy."""
    finder = _Finder(graph, storage, formats)
    for node in graph.nodes:
        finder.join(node)
    for node in graph.nodes:
        finder.look_at(node)
    return finder.found()


def joins(node: Node) -> bool:
    """Whether the node does nothing but lay its operands side by side."""
    return node.op_type == "Concat" and not node.epilogue


def can_be_part(graph: Graph, storage: Storage, formats: Formats, value: str, whole: str) -> bool:
    """Whether a value could have its bytes in those of `whole`, if no other has claimed it."""
    is_made = value not in graph.inputs and value not in graph.constants
    is_free = is_made and value not in graph.outputs and BITS[storage.dtypes[value]] >= 8
    same_order = formats.get(value, "NCHW") == formats.get(whole, "NCHW")
    return is_free and same_order and storage.is_same(value, whole)


def cut_values(graph: Graph) -> frozenset[str]:
    """Results of splits and slices: boxes of what they are cut from, if of anything."""
    return frozenset(v for node in graph.nodes if _is_cut(node) for v in node.outputs)


def _is_cut(node: Node) -> bool:
    return node.op_type in ("Split", "Slice") and not node.epilogue


class _Finder:
    """parents: value -> the value whose bytes it has, and from where on; of all of them: None."""

    def __init__(self, graph: Graph, storage: Storage, formats: Formats) -> None:
        self._graph = graph
        self._storage = storage
        self._formats = formats
        self._parents: dict[str, tuple[str, Starts | None]] = {}
        self._views: set[str] = set()
        self._cut = cut_values(graph)

    def found(self) -> Aliases:
        places = {value: self._place(value) for value in self._graph.types}
        return Aliases(
            roots={value: root for value, (root, _) in places.items()},
            starts={value: starts for value, (_, starts) in places.items() if starts is not None},
            views=frozenset(self._views),
        )

    def join(self, node: Node) -> None:
        """The operands of a concatenation become parts of its result, all of them or none."""
        if not joins(node) or not self._can_join(node):
            return
        *moved, to = self._shifts(node)
        self._views.add(node.id)
        for value, shift in zip(node.inputs, moved, strict=True):
            self._parents[value] = (node.outputs[0], tuple(map(sub, to, shift)))

    def look_at(self, node: Node) -> None:
        """Its results, if they are boxes of its operand or another name for it."""
        if not node.inputs or any(value in self._parents for value in node.outputs):
            return
        source = node.inputs[0]
        if _is_cut(node) and self._can_cut(node, source):
            read, *written = self._shifts(node)
            self._views.add(node.id)
            for value, shift in zip(node.outputs, written, strict=True):
                self._parents[value] = (source, tuple(map(sub, read, shift)))
        elif self._is_renamed(node, source):
            self._views.add(node.id)
            self._parents[node.outputs[0]] = (source, None)

    def _can_join(self, node: Node) -> bool:
        values = node.inputs
        is_free = self._cut.union(self._parents).isdisjoint(values)
        return is_free and len(set(values)) == len(values) and self._fit(values, node.outputs[0])

    def _can_cut(self, node: Node, source: str) -> bool:
        """Not out of a tensor of another shape, nor out of an input, which lies in DRAM."""
        is_whole = all(starts is not None for starts in self._ways(source))
        is_plain = bool(self._shifts(node))
        given = source in self._graph.inputs or source in self._graph.constants
        return is_whole and is_plain and not given and self._fit(node.outputs, source)

    def _fit(self, parts: tuple[str, ...], whole: str) -> bool:
        return all(
            can_be_part(self._graph, self._storage, self._formats, part, whole) for part in parts
        )

    def _is_renamed(self, node: Node, source: str) -> bool:
        made = node.outputs[0]
        if node.epilogue or made in self._graph.outputs or not self._storage.is_same(source, made):
            return False
        if _nest(self._graph, node).unit is not Unit.VIEW:
            return False
        orders = {self._formats.get(value, "NCHW") for value in (source, made)}
        if self._shape(source) == self._shape(made):
            return len(orders) == 1
        return orders == {"NCHW"} and all(starts is None for starts in self._ways(source))

    def _shifts(self, node: Node) -> list[Starts]:
        """Empty where the operands are no boxes of the same points."""
        return shifts(_nest(self._graph, node)) or []

    def _ways(self, value: str) -> Iterator[Starts | None]:
        """How it lies in its parent, and that in its own, up to the root; not where it is all of it
        in its own shape."""
        while value in self._parents:
            parent, starts = self._parents[value]
            if starts is not None or self._shape(parent) != self._shape(value):
                yield starts
            value = parent

    def _place(self, value: str) -> tuple[str, Starts | None]:
        """Root, and where in it."""
        place: Starts | None = None
        while value in self._parents:
            value, starts = self._parents[value]
            if starts is not None:
                place = starts if place is None else tuple(map(add, place, starts))
        return value, place

    def _shape(self, value: str) -> tuple[int, ...]:
        return self._graph.types[value].shape


def _nest(graph: Graph, node: Node) -> LoopNest:
    record = op_named(node.op_type)
    ins = tuple(graph.types[value] for value in node.inputs)
    outs = tuple(graph.types[value] for value in node.outputs)
    return record.loop_nest(complete(record, node.attributes), ins, outs)
