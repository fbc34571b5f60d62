"""The program's graph as boxes and lines: a box per op, with what was fused into it."""

from dataclasses import dataclass

from kpuprof.filters import bound_text, share_text, shortened, time_text
from kpuprof.graph import GraphEdge, GraphNode, ProgramGraph
from kpuprof.rows import OpRow

BOX_WIDTH, BOX_HEIGHT, PITCH, MARGIN = 208.0, 54.0, 78.0, 12.0
NAME_LENGTH, FUSED_LENGTH = 25, 36


@dataclass(frozen=True)
class GraphBox:
    """A node to draw; `op` is -1 for an input or output of the program."""

    x: float
    y: float
    op: int
    name: str
    kind: str
    fused: str
    share: float
    share_label: str
    bound_by: str
    title: str


@dataclass(frozen=True)
class GraphLine:
    """A tensor on its way from box to box."""

    path: str
    title: str


@dataclass(frozen=True)
class GraphChart:
    """Everything in the coordinates of one drawing."""

    width: float
    height: float
    boxes: list[GraphBox]
    lines: list[GraphLine]


def graph_chart(graph: ProgramGraph, rows: list[OpRow]) -> GraphChart:
    """rows: in scheduled order, as the graph's nodes count them."""
    return GraphChart(
        width=round(graph.width + 2 * MARGIN),
        height=round(graph.layers * PITCH - PITCH + BOX_HEIGHT + 2 * MARGIN),
        boxes=[_box(node, rows[node.op] if node.op >= 0 else None) for node in graph.nodes],
        lines=[_line(edge) for edge in graph.edges],
    )


def _box(node: GraphNode, row: OpRow | None) -> GraphBox:
    x, y = round(node.x + MARGIN - BOX_WIDTH / 2, 1), _top(node.layer)
    name = shortened(node.name, NAME_LENGTH)
    if row is None:
        kind = "input" if node.key.startswith("tensor in ") else "output"
        return GraphBox(x, y, -1, name, kind, "", 0.0, "", "none", f"{kind} {node.name}")
    fused = f"fused: {', '.join(row.fused)}" if row.fused else ""
    details = (
        f"{row.name} · {row.op_type} · {row.precision}",
        fused,
        f"{row.cycles:,} cycles ({time_text(row.time_us)}), {share_text(row.share)} of the run, "
        f"bound by {bound_text(row.bound_by)}",
    )
    return GraphBox(
        x=x,
        y=y,
        op=node.op,
        name=name,
        kind=shortened(row.op_type, NAME_LENGTH),
        fused=shortened(fused, FUSED_LENGTH),
        share=row.share,
        share_label=share_text(row.share) if row.cycles else "",
        bound_by=row.bound_by,
        title="\n".join(line for line in details if line),
    )


def _line(edge: GraphEdge) -> GraphLine:
    """From the bottom of a box to the top of another, vertical at every point it passes."""
    (x, layer), *middle, (last_x, last_layer) = edge.points
    x, y = round(x + MARGIN, 1), _top(layer) + BOX_HEIGHT
    parts = [f"M{x} {y}"]
    for next_x, next_layer in middle:
        x, y = round(next_x + MARGIN, 1), _top(next_layer)
        parts.append(_curve(parts[-1], x, y))
        y += BOX_HEIGHT
        parts.append(f"L{x} {y}")
    parts.append(_curve(parts[-1], round(last_x + MARGIN, 1), _top(last_layer)))
    tensor = edge.tensor
    shape = "×".join(map(str, tensor.shape))
    title = f"{tensor.name or tensor.id}: {shape} {tensor.dtype.value}"
    return GraphLine("".join(parts), title)


def _curve(before: str, x: float, y: float) -> str:
    """An S from where the path stands; straight down where that is right above."""
    last_x, last_y = map(float, before.lstrip("ML").split("C")[-1].split(" ")[-2:])
    if last_x == x:
        return f"L{x} {y}"
    middle = (last_y + y) / 2
    return f"C{last_x} {middle} {x} {middle} {x} {y}"


def _top(layer: int) -> float:
    return MARGIN + layer * PITCH
