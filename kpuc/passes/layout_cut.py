"""The cheapest orders in which ops read and write: an exact minimum cut over all of them.

Each op has two labels, how it reads and how it writes. The op's cost depends on its own two; a
value costs a copy when some reader's label differs from its writer's, one copy however many do.
Both are submodular (Kolmogorov and Zabih, "What energy functions can be minimized via graph
cuts?", PAMI 2004).
"""

from collections.abc import Hashable, Sequence

import networkx

from kpuc.graph import Graph
from kpuc.passes.layout_cost import PLAIN, Costs, Orders, Table

NCHW, NHWC = "NCHW", "NHWC"  # source and sink: a label on the source's side of the cut is 0


def cheapest_orders(graph: Graph, costs: Costs) -> dict[str, Orders]:
    """Node id -> orders, of the nodes with a table.

    Inputs are NCHW. So is what makes outputs: between accumulator and output nothing is rounded.
    """
    flow = networkx.DiGraph()
    flow.add_nodes_from((NCHW, NHWC))
    for node in graph.nodes:
        if node.id in costs.tables:
            _add_op(flow, node.id, costs.tables[node.id])
        if not set(node.outputs).isdisjoint(graph.outputs):
            _fix_nchw(flow, _write(node.id))
    makers = graph.producers()
    for value, readers in graph.consumers().items():
        if value in costs.copies:
            maker = _write(makers[value].id) if value in makers else NCHW
            _add_value(
                flow, value, maker, [_read(node.id) for node in readers], costs.copies[value]
            )
    _, (left, _) = networkx.minimum_cut(flow, NCHW, NHWC)
    return {
        node_id: Orders(int(_read(node_id) not in left), int(_write(node_id) not in left))
        for node_id in costs.tables
    }


def _read(node_id: str) -> tuple[str, str]:
    return "read", node_id


def _write(node_id: str) -> tuple[str, str]:
    return "write", node_id


def _add_op(flow: networkx.DiGraph, node_id: str, table: Table) -> None:
    """c(r, w) = c00 + (c10 - c00)·r + (c11 - c10)·w + twist·(1 - r)·w, whose twist must not be
    negative: an op that gains by not reading as it writes is taken to gain nothing by it.
    """
    plain, both = table[PLAIN], table[Orders(1, 1)]
    only_read, only_write = table[Orders(1, 0)], table[Orders(0, 1)]
    twist = max(0, only_read + only_write - plain - both)
    _add_label_cost(flow, _read(node_id), only_read - plain)
    _add_label_cost(flow, _write(node_id), both - only_read)
    _add_edge(flow, _read(node_id), _write(node_id), twist)


def _add_value(
    flow: networkx.DiGraph,
    value: str,
    maker: Hashable,
    readers: Sequence[Hashable],
    copies: tuple[int, int],
) -> None:
    """A copy to NHWC if the maker writes NCHW and a reader wants NHWC, and the other way round."""
    to_nhwc, to_nchw = ("to NHWC", value), ("to NCHW", value)
    for reader in readers:
        flow.add_edge(to_nhwc, reader)  # without a capacity: never cut
        flow.add_edge(reader, to_nchw)
    _add_edge(flow, maker, to_nhwc, copies[0])
    _add_edge(flow, to_nchw, maker, copies[1])


def _add_label_cost(flow: networkx.DiGraph, label: Hashable, cost: int) -> None:
    """What NHWC costs more than NCHW, or less."""
    if cost >= 0:
        _add_edge(flow, NCHW, label, cost)
    else:
        _add_edge(flow, label, NHWC, -cost)


def _fix_nchw(flow: networkx.DiGraph, label: Hashable) -> None:
    flow.add_edge(NCHW, label)


def _add_edge(flow: networkx.DiGraph, source: Hashable, target: Hashable, cost: int) -> None:
    """Paid when the source's label is NCHW and the target's is NHWC."""
    if flow.has_edge(source, target):
        if "capacity" in flow[source][target]:
            flow[source][target]["capacity"] += cost
    else:
        flow.add_edge(source, target, capacity=cost)
