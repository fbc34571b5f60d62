"""Layout: which 4-D values lie channels last in memory, chosen by what their transfers cost.

Every op reads its maps in one order and writes its results in one order, the same or not. Where a
map is wanted in another order than it is written in, an Identity copies it, once for all readers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from formats.config import KPUConfig
from kpuc.graph import Graph, Node
from kpuc.passes.layout_cost import FORMATS, PLAIN, Costs, Estimator, Orders, Table
from kpuc.storage import Storage
from kpurun.ops.types import TensorType

# Of all cycles: less is below what an estimate can tell that is made before tensors have places.
# With the document's 2 MiB of L2 the best layouts of ResNet-18, MobileNetV2 and YOLOv8n save less
# than 0.1 %: tiles are cut to suit the order. With 256 KiB, and 32 KiB of L1, they save 0.4, 2.7
# and 8 %.
LEAST_GAIN = 0.005


def assign_layout(
    graph: Graph, storage: Storage, config: KPUConfig
) -> tuple[Graph, Storage, dict[str, str]]:
    """The graph with its layout changes, how its values are stored now, and the format of every
    value: "NCHW" or "NHWC".

    Inputs, outputs, constants and values that are not 4-D are NCHW, and so is a value whose bytes
    are the same in either order. The choice is a minimum cut over the orders in which ops read and
    write. All stays NCHW unless that saves LEAST_GAIN of the estimated cycles.
    """
    plain = graph, storage, dict.fromkeys(graph.types, "NCHW")
    sensitive = frozenset(v for v, type_ in graph.types.items() if _is_sensitive(graph, v, type_))
    if not sensitive:
        return plain
    estimator = Estimator(graph, sensitive, storage, config)
    tables = {node.id: estimator.table(node) for node in graph.nodes}
    if not _may_gain(tables.values()):
        return plain
    costs = Costs(tables, {value: estimator.copies(value) for value in sorted(sensitive)})
    orders = _cheapest_orders(graph, costs)
    before, after = (total_cycles(graph, costs, each) for each in ({}, orders))
    if before - after < LEAST_GAIN * before:
        return plain
    changed, formats, copies = _with_copies(graph, sensitive, orders)
    return changed, storage.with_copies(copies), formats


def total_cycles(graph: Graph, costs: Costs, orders: Mapping[str, Orders]) -> int:
    """Cycles of all ops in these orders, with the copies that they need; no orders: all NCHW."""
    makers = graph.producers()
    total = sum(table[orders.get(node_id, PLAIN)] for node_id, table in costs.tables.items())
    for value, readers in graph.consumers().items():
        written = orders.get(makers[value].id, PLAIN).write if value in makers else 0
        wanted = {orders.get(node.id, PLAIN).read for node in readers}
        if value in costs.copies and 1 - written in wanted:
            total += costs.copies[value][written]
    return total


def _cheapest_orders(graph: Graph, costs: Costs) -> Mapping[str, Orders]:
    from kpuc.passes.layout_cut import cheapest_orders  # networkx, which most models do not need

    return cheapest_orders(graph, costs)


def _is_sensitive(graph: Graph, value: str, type_: TensorType) -> bool:
    """Whether the two orders of its elements differ. Constants are stored as they are used."""
    if type_.rank != 4 or value in graph.constants:
        return False
    _, channels, height, width = type_.shape
    return channels > 1 and height * width > 1


def _may_gain(tables: Iterable[Table]) -> bool:
    """Whether LEAST_GAIN could be saved if every op had the orders that suit it best, for free."""
    plain, best = 0, 0
    for table in tables:
        plain += table[PLAIN]
        best += min(table.values())
    return plain - best >= LEAST_GAIN * plain


def _with_copies(
    graph: Graph, sensitive: frozenset[str], orders: Mapping[str, Orders]
) -> tuple[Graph, dict[str, str], dict[str, str]]:
    """The graph with an Identity wherever a value is read in an order that it is not written in;
    the formats; copy -> what it copies."""
    formats = dict.fromkeys(graph.types, "NCHW")
    types = dict(graph.types)
    copied: dict[tuple[str, str], str] = {}  # (value, format) -> its copy in that format
    nodes: list[Node] = []
    for node in graph.nodes:
        chosen = orders.get(node.id, PLAIN)
        wanted = FORMATS[chosen.read]
        for value in dict.fromkeys(node.inputs):
            if value in sensitive and formats[value] != wanted and (value, wanted) not in copied:
                copy = _copy(graph, value, wanted, types)
                copied[value, wanted] = copy.outputs[0]
                types[copy.outputs[0]] = types[value]
                formats[copy.outputs[0]] = wanted
                nodes.append(copy)
        nodes.append(_reading(node, wanted, copied))
        formats.update({v: FORMATS[chosen.write] for v in node.outputs if v in sensitive})
    copies = {copy: value for (value, _), copy in copied.items()}
    return replace(graph, nodes=tuple(nodes), types=types), formats, copies


def _copy(graph: Graph, value: str, wanted: str, types: Mapping[str, TensorType]) -> Node:
    """An Identity that gives `value` in another order, named after the op that makes it."""
    copy = f"{value}.{wanted.lower()}"
    while copy in types:
        copy += ".copy"
    maker = graph.producers().get(value)
    name, source = (maker.name, maker.source) if maker is not None else ("", "")
    return Node(copy, "Identity", (value,), (copy,), name=name, source=source)


def _reading(node: Node, wanted: str, copied: Mapping[tuple[str, str], str]) -> Node:
    inputs = tuple(copied.get((value, wanted), value) for value in node.inputs)
    return replace(node, inputs=inputs)
