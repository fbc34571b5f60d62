"""The figures of `kpuprof accuracy` on a terminal."""

from itertools import accumulate

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kpuprof.accuracy import Accuracy, Bar, ExactFigures, FloatFigures, PerLayer
from kpuprof.rows import readable

DASH = "–"
NAMES, VERDICT, GAP = 10, 10, 2
WITH_TYPES = 56
COLUMNS = {  # in order, and how wide they are
    "max |d|": 8,
    "/ max": 8,
    "SQNR dB": 7,
    "worst dB": 8,
    "top-1": 6,
    "softmax |d|": 11,
}
BY_WEIGHT = ("SQNR dB", "/ max", "worst dB", "max |d|", "top-1", "softmax |d|")
OF_CLASSES = ("top-1", "softmax |d|")


def render(found: Accuracy, bars: list[Bar], width: int) -> RenderableType:
    """A table of the outputs, what the worst samples are, and the ops if they were asked for.

    width: of the terminal in columns; a narrow one is shown fewer figures, never cut ones.
    """
    samples = f"{found.samples} sample{'' if found.samples == 1 else 's'} of {found.data}"
    parts = (found.program, found.precision, found.config)
    title = readable(
        f"{' · '.join(parts)} · against {found.reference} in {found.runtime}, {samples}"
    )
    shown: list[RenderableType] = [Text(title, "bold"), ""]
    if found.outputs:
        shown += [_outputs(found.outputs, bars, width), "", *map(_worst, found.outputs)]
    if found.exact_outputs:
        shown.append(_exact_outputs(found.exact_outputs))
    if found.per_layer is not None:
        shown += ["", _ops(found.per_layer, width)]
    return Group(*shown)


def _outputs(outputs: tuple[FloatFigures, ...], bars: list[Bar], width: int) -> Table:
    table = _table("output")
    has_classes = any(output.top1_agreement is not None for output in outputs)
    headings = _fitting(width - NAMES - (VERDICT if bars else 0), has_classes)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    if bars:
        table.add_column("", no_wrap=True)
    for output in outputs:
        figures = _figures(output)
        held = all(bar.is_held(output) for bar in bars)
        verdict = [Text("held", "green") if held else Text("exceeded", "bold red")] if bars else []
        table.add_row(readable(output.name), *(figures[each] for each in headings), *verdict)
    return table


def _fitting(width: int, has_classes: bool) -> list[str]:
    """The headings that fit into so many columns, the most telling first, in order."""
    wanted = [heading for heading in BY_WEIGHT if has_classes or heading not in OF_CLASSES]
    ends = accumulate(COLUMNS[heading] + GAP for heading in wanted)
    kept = {heading for heading, end in zip(wanted, ends, strict=True) if end <= width}
    return [heading for heading in COLUMNS if heading in kept]


def _figures(output: FloatFigures) -> dict[str, str]:
    """By heading."""
    top1, softmax = output.top1_agreement, output.max_softmax_difference
    return {
        "max |d|": f"{output.max_abs:.3g}",
        "/ max": f"{output.max_difference:.5f}",
        "SQNR dB": f"{output.sqnr_db:.1f}",
        "worst dB": f"{output.worst_sqnr_db:.1f}",
        "top-1": DASH if top1 is None else f"{top1:.1%}",
        "softmax |d|": DASH if softmax is None else f"{softmax:.2g}",
    }


def _worst(output: FloatFigures) -> Text:
    """Where the worst of an output is."""
    samples = dict.fromkeys((output.max_difference_sample, output.worst_sqnr_sample))
    return Text(f"worst of {readable(output.name)}: {', '.join(map(readable, samples))}")


def _exact_outputs(outputs: tuple[ExactFigures, ...]) -> Table:
    table = _table("output")
    for heading in ("equal", "worst"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sample", overflow="fold")
    for output in outputs:
        shares = f"{output.equal_share:.2%}", f"{output.worst_equal_share:.2%}"
        table.add_row(readable(output.name), *shares, readable(output.worst_sample))
    return table


def _ops(layers: PerLayer, width: int) -> RenderableType:
    table = _table("op")
    if width >= WITH_TYPES:
        table.add_column("type", overflow="fold", min_width=8)
    table.add_column("in", no_wrap=True)
    for heading in ("SQNR dB", "own dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for op in layers.ops:
        figures = map(_decibels, (op.sqnr_db, op.own_sqnr_db))
        mark = "←" if op in (layers.worst, layers.lowest) else ""
        name = readable(op.name)
        names = (name, op.op_type) if width >= WITH_TYPES else (name,)
        table.add_row(*names, op.precision, *figures, mark, style="red" if mark else "")
    weights = (
        f"weights as they are stored ({layers.stored_weights})"
        if layers.stored_weights
        else "weights as they were trained"
    )
    title = f"Ops against the graph in fp32, {weights}"
    note = "own: without the noise that the operands bring"
    return Group(
        Text(readable(title), "bold"), Text(note, "bright_black"), table, *_extremes(layers)
    )


def _extremes(layers: PerLayer) -> list[Text]:
    """Which ops are marked, and why."""
    lines = []
    if layers.worst is not None:
        own = _decibels(layers.worst.own_sqnr_db)
        lines.append(f"adds most noise: {layers.worst.name}, {own} dB of its own")
    if layers.lowest is not None:
        lines.append(f"lowest SQNR: {layers.lowest.name}, {_decibels(layers.lowest.sqnr_db)} dB")
    return [Text(readable(line), "red") for line in lines]


def _decibels(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def _table(first: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(first, overflow="fold", min_width=10)
    return table
