"""The SQNR of every op of a program, and its drawing along the graph: where precision is lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from kpuprof.accuracy import Accuracy
from kpuprof.axes import Axis
from kpuprof.charts import LEFT, RIGHT, WIDTH, Frame
from kpuprof.filters import decibels
from kpuprof.rows import OpRow

MOST_DB = 200.0  # of results that are equal: no place for these on an axis


@dataclass(frozen=True)
class OpSqnr:
    """By op in scheduled order, None where it was not measured: SQNR of the result, and as if the
    operands brought no noise. accuracy: the run that measured; None: what the program carries."""

    sqnr_db: list[float | None]
    own_sqnr_db: list[float | None]
    accuracy: Accuracy | None

    @property
    def has_own(self) -> bool:
        return any(value is not None for value in self.own_sqnr_db)


def op_sqnr(rows: Sequence[OpRow], accuracy: Accuracy | None) -> OpSqnr:
    """Of an accuracy run op by op; else of the program's own samples, held out of calibration."""
    if accuracy is None or accuracy.per_layer is None:
        return OpSqnr([row.sqnr_db for row in rows], [None] * len(rows), accuracy)
    found = {op.id: op for op in accuracy.per_layer.ops}
    ops = [found.get(row.id) for row in rows]
    return OpSqnr(
        [None if op is None else op.sqnr_db for op in ops],
        [None if op is None else op.own_sqnr_db for op in ops],
        accuracy,
    )


@dataclass(frozen=True)
class SqnrDot:
    """One op's figure; is_own: of the noise that it adds itself."""

    x: float
    y: float
    index: int
    is_own: bool
    title: str


@dataclass(frozen=True)
class SqnrChart:
    """SQNR over the ops in order, as a line and dots, and the ops' own as other dots."""

    frame: Frame
    path: str
    dots: list[SqnrDot]


def sqnr_chart(rows: Sequence[OpRow], found: OpSqnr) -> SqnrChart | None:
    """None where not two ops were measured."""
    measured = [value for value in (*found.sqnr_db, *found.own_sqnr_db) if value is not None]
    lossy = [value for value in measured if abs(value) < MOST_DB]
    if len(measured) < 2 or not lossy:
        return None
    top, bottom = 26.0, 236.0
    x = Axis(0, len(rows), LEFT, WIDTH - RIGHT)
    y = Axis(min(lossy) // 10 * 10, max(lossy) // 10 * 10 + 10, bottom, top)
    dots = [
        SqnrDot(x.at(index + 1), y.at(value), index, is_own, _title(rows[index], value, is_own))
        for is_own, values in ((True, found.own_sqnr_db), (False, found.sqnr_db))
        for index, value in enumerate(values)
        if value is not None
    ]
    line = " ".join(f"{dot.x} {dot.y}" for dot in dots if not dot.is_own)
    marks = x.ticks(min(12, len(rows))), y.ticks(5)
    frame = Frame(WIDTH, 276.0, LEFT, WIDTH - RIGHT, top, bottom, *marks, "op", "SQNR, dB")
    return SqnrChart(frame, f"M{line}", dots)


def _title(row: OpRow, value: float, is_own: bool) -> str:
    what = "its own noise alone" if is_own else "result"
    return f"{row.name} · {row.op_type} · {row.precision}\n{what}: {decibels(value)}"
