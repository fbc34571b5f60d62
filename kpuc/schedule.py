"""The order of execution: the one with the smallest peak of live bytes among a few good ones.

Finding the best order is NP-hard; networks are near-chains with short branches, where greedy orders
from either end and depth-first orders are optimal or close to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from formats.precision import DType, size_in_bytes
from kpuc.graph import Graph, Node


@dataclass(frozen=True)
class _Flow:
    """Which bytes each node makes and reads, by root; inputs, constants and outputs weigh nothing,
    because they live in DRAM in any order."""

    size: Mapping[str, int]
    made: Mapping[str, frozenset[str]]
    read: Mapping[str, frozenset[str]]
    readers: Mapping[str, int]
    producers: Mapping[str, Node]


def schedule(
    graph: Graph, dtypes: Mapping[str, DType], roots: Mapping[str, str]
) -> tuple[Node, ...]:
    """Nodes in a valid order whose live set peaks no higher than the source order's.

    Of orders with the same peak, the one that keeps fewer bytes alive over time, then the source's.
    """
    flow = _flow(graph, dtypes, roots)
    orders = [graph.nodes, _forward(graph, flow), _backward(graph, flow), _depth_first(graph, flow)]

    def cost(order: Sequence[Node]) -> tuple[int, int]:
        live = live_profile(graph, order, dtypes, roots)
        return max(live, default=0), sum(live)

    return min(orders, key=cost)


def value_bytes(graph: Graph, dtypes: Mapping[str, DType], value: str) -> int:
    """Stored size of one value."""
    return size_in_bytes(graph.types[value].elements, dtypes[value])


def live_ranges(
    graph: Graph, order: Sequence[Node], roots: Mapping[str, str]
) -> dict[str, tuple[int, int]]:
    """Root value made by a node -> (first, last) position in `order` where its bytes are needed.

    An output is needed until after the last node.
    """
    given = {*graph.inputs, *graph.constants}
    ranges: dict[str, tuple[int, int]] = {}
    for position, node in enumerate(order):
        for root in (roots[value] for value in (*node.inputs, *node.outputs)):
            if root not in given:
                ranges[root] = (ranges.get(root, (position,))[0], position)
    for output in graph.outputs:
        if roots[output] in ranges:
            ranges[roots[output]] = (ranges[roots[output]][0], len(order))
    return ranges


def live_profile(
    graph: Graph, order: Sequence[Node], dtypes: Mapping[str, DType], roots: Mapping[str, str]
) -> list[int]:
    """Bytes of live activations while each node runs; outputs leave to DRAM and do not count."""
    changes = [0] * (len(order) + 2)
    outputs = frozenset(graph.outputs)
    for root, (first, last) in live_ranges(graph, order, roots).items():
        if root not in outputs:
            size = value_bytes(graph, dtypes, root)
            changes[first] += size
            changes[last + 1] -= size
    return list(accumulate(changes[: len(order)]))


def _flow(graph: Graph, dtypes: Mapping[str, DType], roots: Mapping[str, str]) -> _Flow:
    weightless = {*graph.inputs, *graph.constants, *graph.outputs}
    made = {node.id: frozenset(roots[value] for value in node.outputs) for node in graph.nodes}
    read = {node.id: frozenset(roots[value] for value in node.inputs) for node in graph.nodes}
    readers: dict[str, int] = {}
    for node in graph.nodes:
        for root in read[node.id]:
            readers[root] = readers.get(root, 0) + 1
    size = {
        root: 0 if root in weightless else value_bytes(graph, dtypes, root)
        for root in set(roots.values())
    }
    return _Flow(size, made, read, readers, graph.producers())


def _forward(graph: Graph, flow: _Flow) -> tuple[Node, ...]:
    """List schedule: of the ready nodes, the one after which the fewest bytes are live."""
    unread = dict(flow.readers)

    def growth(node: Node) -> int:
        new = flow.made[node.id] - flow.read[node.id]
        dying = [root for root in flow.read[node.id] if unread[root] == 1]
        return sum(flow.size[root] for root in new) - sum(flow.size[root] for root in dying)

    def run(node: Node) -> None:
        for root in flow.read[node.id]:
            unread[root] -= 1

    before = {node.id: _makers(node, flow) for node in graph.nodes}
    return tuple(_list_schedule(graph.nodes, before, growth, run))


def _backward(graph: Graph, flow: _Flow) -> tuple[Node, ...]:
    """The same from the end: of the nodes whose readers have all run, the last to run is the one
    before which the fewest bytes are live."""
    needed: set[str] = set()

    def growth(node: Node) -> int:
        new = flow.read[node.id] - needed
        born = flow.made[node.id] - flow.read[node.id]
        return sum(flow.size[root] for root in new) - sum(flow.size[root] for root in born)

    def run(node: Node) -> None:
        needed.update(flow.read[node.id])
        needed.difference_update(flow.made[node.id] - flow.read[node.id])

    after: dict[str, set[str]] = {node.id: set() for node in graph.nodes}
    for node in graph.nodes:
        for maker in _makers(node, flow):
            after[maker].add(node.id)
    return tuple(reversed(list(_list_schedule(graph.nodes[::-1], after, growth, run))))


def _makers(node: Node, flow: _Flow) -> set[str]:
    """Ids of the nodes that make what the node reads."""
    return {flow.producers[value].id for value in node.inputs if value in flow.producers}


def _list_schedule(
    nodes: Sequence[Node],
    before: Mapping[str, set[str]],
    growth: Callable[[Node], int],
    run: Callable[[Node], None],
) -> list[Node]:
    """Nodes after all of `before`, always the ready one that grows the live set least; of equals,
    the first in `nodes`."""
    place = {node.id: position for position, node in enumerate(nodes)}
    waits = {node_id: len(others) for node_id, others in before.items()}
    unblocks: dict[str, list[Node]] = {node.id: [] for node in nodes}
    for node in nodes:
        for other in before[node.id]:
            unblocks[other].append(node)
    ready = [node for node in nodes if not waits[node.id]]
    order: list[Node] = []
    while ready:
        chosen = min(ready, key=lambda node: (growth(node), place[node.id]))
        ready.remove(chosen)
        run(chosen)
        order.append(chosen)
        for node in unblocks[chosen.id]:
            waits[node.id] -= 1
            if not waits[node.id]:
                ready.append(node)
    return order


def _depth_first(graph: Graph, flow: _Flow) -> tuple[Node, ...]:
    """Everything an output needs right before it; of a node's operands, the one whose making needs
    most memory beyond its result first (the Sethi-Ullman rule)."""
    peak: dict[str, int] = {}
    for node in graph.nodes:
        own = sum(flow.size[root] for root in flow.made[node.id] | flow.read[node.id])
        peak[node.id] = max([own, *(peak[maker] for maker in _makers(node, flow))])

    def slack(value: str) -> int:
        maker = flow.producers[value]
        return peak[maker.id] - sum(flow.size[root] for root in flow.made[maker.id])

    done: set[str] = set()
    order: list[Node] = []
    used = {value for node in graph.nodes for value in node.inputs}
    ends = [node for node in graph.nodes if used.isdisjoint(node.outputs)]
    stack = [(node, False) for node in reversed([*ends, *graph.nodes])]
    while stack:
        node, expanded = stack.pop()
        if node.id in done:
            continue
        if expanded:
            done.add(node.id)
            order.append(node)
            continue
        stack.append((node, True))
        made_here = [value for value in dict.fromkeys(node.inputs) if value in flow.producers]
        in_turn = sorted(made_here, key=slack)  # the last on the stack runs first
        stack.extend((flow.producers[value], False) for value in in_turn)
    return tuple(order)
