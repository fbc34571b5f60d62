"""What is kept of the samples that were compared: sums and the worst, never the samples.

The formulas are kpuc's, imported when they are needed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from formats.errors import CheckError
from formats.program import KPUOp, KPUProgram
from kpuprof.accuracy import ExactFigures, FloatFigures, OpFigures, PerLayer
from kpuprof.rows import op_label

if TYPE_CHECKING:
    from kpuc.quant.difference import Difference

Result = tuple[str, np.ndarray, np.ndarray]  # whose, as it should be, as the program has it


@dataclass(frozen=True)
class Output:
    """An output of the program, by its name and the reference's. batch: how many samples an array
    of its shape holds along the first axis; 1 where they cannot be told apart."""

    name: str
    reference_name: str
    shape: tuple[int, ...]
    batch: int

    def by_sample(
        self, labels: Sequence[str], expected: np.ndarray, given: np.ndarray
    ) -> Iterator[Result]:
        """(label, expected, given); without what only fills a batch up."""
        if self.batch <= 1 or self.shape[:1] != (self.batch,):
            yield " to ".join(dict.fromkeys((labels[0], labels[-1]))), expected, given
            return
        for row, label in enumerate(labels):
            yield label, expected[row : row + 1], given[row : row + 1]


class FloatSums:
    """Of an output of real numbers."""

    def __init__(self, output: Output) -> None:
        from kpuc.quant.difference import Classification, Difference

        self._output = output
        self._all = Difference()
        is_scores = len(output.shape) == 2 and output.shape[1] > 1
        self._classes = Classification() if is_scores else None
        self._largest = (-1.0, "")  # max |d| / max |reference|, and the sample
        self._lowest_db = (float("inf"), "")

    def add(self, labels: Sequence[str], expected: np.ndarray, given: np.ndarray) -> None:
        """One array with the samples of these labels.

        CheckError for numbers that are not finite where the reference's are, or are others.
        """
        from kpuc.quant.difference import Difference

        for label, wide, other in self._output.by_sample(labels, expected, given):
            wanted, found = _finite(wide, other, f"{label}: output {self._output.name!r}")
            one = Difference()
            one.add(wanted, found)
            self._all.include(one)
            self._largest = max(self._largest, (one.worst, label), key=lambda pair: pair[0])
            self._lowest_db = min(self._lowest_db, (one.sqnr_db, label), key=lambda pair: pair[0])
            if self._classes is not None:
                self._classes.add(wanted, found)

    def figures(self) -> FloatFigures:
        """Of all that was added."""
        classes = self._classes
        return FloatFigures(
            name=self._output.name,
            reference_name=self._output.reference_name,
            max_abs=self._all.largest,
            max_difference=self._all.worst,
            max_difference_sample=self._largest[1],
            sqnr_db=self._all.sqnr_db,
            worst_sqnr_db=self._lowest_db[0],
            worst_sqnr_sample=self._lowest_db[1],
            top1_agreement=None if classes is None else classes.top1_agreement,
            max_softmax_difference=None if classes is None else classes.max_abs_softmax,
        )


class ExactSums:
    """Of an output of integers or bools."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._elements = self._equal = 0
        self._lowest = (float("inf"), "")

    def add(self, labels: Sequence[str], expected: np.ndarray, given: np.ndarray) -> None:
        """One array with the samples of these labels."""
        for label, wanted, found in self._output.by_sample(labels, expected, given):
            equal = int((wanted == found).sum())
            self._elements += wanted.size
            self._equal += equal
            share = equal / wanted.size
            self._lowest = min(self._lowest, (share, label), key=lambda pair: pair[0])

    def figures(self) -> ExactFigures:
        """Of all that was added."""
        share = self._equal / self._elements
        output = self._output
        return ExactFigures(output.name, output.reference_name, share, *self._lowest)


class OpSums:
    """Of every op of a program against the graph in fp32."""

    def __init__(self, program: KPUProgram) -> None:
        self._program = program
        self._found: dict[str, Difference] = {}

    def add(self, results: Iterable[Result]) -> None:
        """One run of both; a result that overflowed is infinitely far off."""
        from kpuc.quant.difference import Difference

        for op_id, expected, given in results:
            self._found.setdefault(op_id, Difference()).add(*_without_equal(expected, given))

    def figures(self, stored_weights: str) -> PerLayer:
        """Of all that was added, in the program's order."""
        noise: dict[str, float] = {}  # by tensor id, relative to the signal
        return PerLayer(
            tuple(self._op(op, noise) for op in self._program.get_ops_in_order()), stored_weights
        )

    def _op(self, op: KPUOp, noise: dict[str, float]) -> OpFigures:
        from kpuc.quant.difference import decibels

        found = self._found.get(op.id)
        comes_in = max((noise.get(tensor_id, 0.0) for tensor_id in op.input_ids), default=0.0)
        goes_out = comes_in if found is None else found.noise_share
        noise.update(dict.fromkeys(op.output_ids, goes_out))
        adds = found is not None and goes_out > comes_in
        return OpFigures(
            id=op.id,
            name=op.name or op.id,
            op_type=op_label(op),
            tensor=_name(self._program, op),
            precision=(op.precision or self._program.precision).value,
            sqnr_db=None if found is None else found.sqnr_db,
            own_sqnr_db=decibels(1.0, goes_out - comes_in) if adds else None,
        )


def _name(program: KPUProgram, op: KPUOp) -> str:
    return program.tensors[op.output_ids[0]].name or op.output_ids[0]


def _finite(expected: np.ndarray, given: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Both, with zeros where they are the same infinity or NaN; CheckError where only one is."""
    wanted, found = _without_equal(expected, given)
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        raise CheckError(f"{what} is not finite where the reference is, or the other way round")
    return wanted, found


def _without_equal(expected: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, with zeros where they are the same infinity or NaN."""
    if np.isfinite(expected).all() and np.isfinite(given).all():
        return expected, given
    alike = (expected == given) | (np.isnan(expected) & np.isnan(given))
    alike &= ~np.isfinite(expected)
    return np.where(alike, 0, expected), np.where(alike, 0, given)
