"""The Pareto plots as a PNG: the same bytes whenever they are made of the same results.

matplotlib takes long to import, so this module is imported where an image is asked for.
"""

import io
from collections.abc import Sequence
from itertools import combinations

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kpuprof.images import NO_DATES, STYLE
from kpuprof.sweep.charts import LOGARITHMIC_FROM, MEASURES, Measure
from kpuprof.sweep.table import Row

LAYERS = (  # whether on the front, colour, size, label; the front last, on top
    (False, "#c3c9d1", 14, "beaten by another"),
    (True, "#2456c5", 30, "on the Pareto front"),
)


def image(rows: Sequence[Row]) -> bytes:
    """A line of plots per model. Our own style alone counts, whatever the user's matplotlibrc
    says."""
    models = list(dict.fromkeys(row.model for row in rows))
    buffer = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(12, 4 * max(1, len(models))), dpi=150, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        for number, model in enumerate(models):
            line = [figure.add_subplot(len(models), 3, 3 * number + at) for at in (1, 2, 3)]
            computed = [r for r in rows if r.model == model and r.result.figures is not None]
            for axes, (x, y) in zip(line, combinations(MEASURES, 2), strict=True):
                _plot(axes, x, y, computed)
            front = sum(row.is_pareto for row in computed)
            title = f"{model}: {front} of {len(computed)} on the Pareto front"
            line[0].set_title(title.replace("$", r"\$").replace("_", " "))
        if models:
            handles, labels = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, frameon=False, loc="outside upper right", ncols=2)
        canvas.print_figure(buffer, format="png", metadata=NO_DATES["png"])
    return buffer.getvalue()


def _plot(axes: Axes, x: Measure, y: Measure, rows: Sequence[Row]) -> None:
    units = [each.unit(max(map(each.of, rows), default=0.0)) for each in (x, y)]
    for is_front, colour, size, label in LAYERS:
        chosen = [row for row in rows if row.is_pareto == is_front]
        axes.scatter(
            [x.of(row) / units[0][1] for row in chosen],
            [y.of(row) / units[1][1] for row in chosen],
            s=size,
            color=colour,
            edgecolor="white" if is_front else "none",
            linewidth=0.6,
            label=label,
        )
    for measure, name in ((x, "x"), (y, "y")):
        values = [measure.of(row) for row in rows]
        if values and min(values) > 0 and max(values) / min(values) >= LOGARITHMIC_FROM:
            axes.set(**{f"{name}scale": "log"})
        else:
            axes.set(**{f"{name}lim": (0, None)})
    axes.set(xlabel=f"{x.name}, {units[0][0]}", ylabel=f"{y.name}, {units[1][0]}")
