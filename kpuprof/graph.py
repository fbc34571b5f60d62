"""The program's graph in layers, from inputs at the top to outputs at the bottom, to be drawn.

Sugiyama's method, each step in its plainest form: longest-path layers, a dummy node wherever an
edge passes a layer, sweeps by the mean place of the neighbours, then the same for coordinates.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from formats.program import KPUOp, KPUProgram, KPUTensor

SWEEPS = 12
NODE_WIDTH, DUMMY_WIDTH, NODE_GAP = 216.0, 14.0, 22.0

Neighbours = dict[str, list[str]]


@dataclass(frozen=True)
class GraphNode:
    """An op, or an input or output tensor of the program (`op` is its index, -1 for a tensor);
    `x` is its centre."""

    key: str
    op: int
    name: str
    x: float
    layer: int


@dataclass(frozen=True)
class GraphEdge:
    """A tensor from its maker to a user, through points (x, layer) of which the outer ones are the
    two nodes."""

    tensor: KPUTensor
    points: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class ProgramGraph:
    """What there is to draw. Widths in the units of NODE_WIDTH."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]
    width: float
    layers: int


def program_graph(program: KPUProgram) -> ProgramGraph:
    """Ops in scheduled order are in topological order, so one pass finds the layers."""
    ops = program.get_ops_in_order()
    links = _links(program, ops)
    sources, targets = [link[0] for link in links], [link[1] for link in links]
    keys = list(dict.fromkeys([*sources, *(f"op {op.id}" for op in ops), *targets]))
    layers = _layers(keys, links)
    paths = [_path(number, link, layers) for number, link in enumerate(links)]
    rows, above, below = _rows(keys, layers, paths)
    for sweep in range(SWEEPS):
        _order(rows, above if sweep % 2 == 0 else below, downwards=sweep % 2 == 0)
    xs = _coordinates(rows, above, below)
    index = {f"op {op.id}": place for place, op in enumerate(ops)}
    names = _names(program, ops)
    return ProgramGraph(
        nodes=tuple(
            GraphNode(key, index.get(key, -1), names[key], xs[key], layers[key]) for key in keys
        ),
        edges=tuple(
            GraphEdge(program.tensors[tensor_id], tuple((xs[key], layers[key]) for key in path))
            for (_, _, tensor_id), path in zip(links, paths, strict=True)
        ),
        width=max(xs.values(), default=0.0) + NODE_WIDTH / 2,
        layers=1 + max(layers.values(), default=0),
    )


def _links(program: KPUProgram, ops: list[KPUOp]) -> list[tuple[str, str, str]]:
    """(from, to, tensor id), once per pair; constants are left out."""
    maker = {tensor_id: f"op {op.id}" for op in ops for tensor_id in op.output_ids}
    maker |= {tensor_id: f"tensor in {tensor_id}" for tensor_id in program.input_ids}
    found = {
        (maker[tensor_id], f"op {op.id}"): tensor_id
        for op in ops
        for tensor_id in op.input_ids
        if tensor_id in maker
    }
    found |= {
        (maker[tensor_id], f"tensor out {tensor_id}"): tensor_id
        for tensor_id in program.output_ids
        if tensor_id in maker
    }
    return [(source, target, tensor_id) for (source, target), tensor_id in found.items()]


def _names(program: KPUProgram, ops: list[KPUOp]) -> dict[str, str]:
    names = {f"op {op.id}": op.name or op.id for op in ops}
    for end, tensors in (("in", program.input_ids), ("out", program.output_ids)):
        names |= {f"tensor {end} {i}": program.tensors[i].name or i for i in tensors}
    return names


def _layers(keys: list[str], links: list[tuple[str, str, str]]) -> dict[str, int]:
    """Links come with the ops that they lead to, in topological order."""
    layers = dict.fromkeys(keys, 0)
    for source, target, _ in links:
        layers[target] = max(layers[target], layers[source] + 1)
    return layers


def _path(number: int, link: tuple[str, str, str], layers: dict[str, int]) -> list[str]:
    """From node to node, with a dummy in every layer between."""
    source, target, _ = link
    dummies = [f"dummy {number} {layer}" for layer in range(layers[source] + 1, layers[target])]
    layers |= {key: layers[source] + 1 + place for place, key in enumerate(dummies)}
    return [source, *dummies, target]


def _rows(
    keys: list[str], layers: dict[str, int], paths: list[list[str]]
) -> tuple[list[list[str]], Neighbours, Neighbours]:
    """The keys of every layer, and each key's neighbours in the layer above and below."""
    rows: list[list[str]] = [[] for _ in range(1 + max(layers.values(), default=0))]
    for key in dict.fromkeys([*keys, *(key for path in paths for key in path)]):
        rows[layers[key]].append(key)
    above: Neighbours = defaultdict(list)
    below: Neighbours = defaultdict(list)
    for path in paths:
        for upper, lower in pairwise(path):
            above[lower].append(upper)
            below[upper].append(lower)
    return rows, above, below


def _order(rows: list[list[str]], neighbours: Neighbours, downwards: bool) -> None:
    """Sort each row by the mean place of its neighbours in the row before; the rest stay put."""
    place = {key: index for row in rows for index, key in enumerate(row)}
    for row in rows if downwards else reversed(rows):
        row.sort(key=lambda key: _mean([place[near] for near in neighbours[key]], place[key]))
        place |= {key: index for index, key in enumerate(row)}


def _coordinates(rows: list[list[str]], above: Neighbours, below: Neighbours) -> dict[str, float]:
    """Centres: every key as near to the mean of its neighbours as the row's order allows."""
    xs: dict[str, float] = {}
    for row in rows:
        for index, key in enumerate(row):
            xs[key] = index * NODE_WIDTH / 2
    for sweep in range(SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([xs[near] for near in neighbours[key]], xs[key]) for key in row]
            xs |= dict(zip(row, _spread(row, wanted), strict=True))
    left = min((x - _width(key) / 2 for key, x in xs.items()), default=0.0)
    left = min(left, min((x - NODE_WIDTH / 2 for x in xs.values()), default=0.0))
    return {key: x - left for key, x in xs.items()}


def _spread(row: list[str], wanted: list[float]) -> list[float]:
    """The wanted centres, moved apart to both sides alike where two are too near."""
    rightwards: list[float] = []
    for key, want, before in zip(row, wanted, [None, *row], strict=False):
        nearest = rightwards[-1] + _apart(before, key) if before else want
        rightwards.append(max(want, nearest))
    leftwards: list[float] = []
    for key, want, after in zip(row[::-1], wanted[::-1], [None, *row[::-1]], strict=False):
        nearest = leftwards[-1] - _apart(key, after) if after else want
        leftwards.append(min(want, nearest))
    return [(a + b) / 2 for a, b in zip(rightwards, leftwards[::-1], strict=True)]


def _apart(left: str, right: str) -> float:
    return (_width(left) + _width(right)) / 2 + NODE_GAP


def _width(key: str) -> float:
    return DUMMY_WIDTH if key.startswith("dummy ") else NODE_WIDTH


def _mean(values: list[float] | list[int], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
