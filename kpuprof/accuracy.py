"""How near a program comes to its reference: the figures, what is asked of them, and as data."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from formats.errors import UsageError
from kpuprof.amounts import Amount, amount, exact, plain, texts_apart

MAX_DIFF, MIN_SQNR = "--max-diff", "--min-sqnr"


@dataclass(frozen=True)
class FloatFigures:
    """One output of real numbers, d being its difference from the reference (docs/numerics.md).

    max_difference: max |d| / max |reference| of the worst sample, which is named; sqnr_db: of all
    samples together, worst_sqnr_db of the worst; the last two of outputs [batch, classes].
    """

    name: str
    reference_name: str
    max_abs: float
    max_difference: float
    max_difference_sample: str
    sqnr_db: float
    worst_sqnr_db: float
    worst_sqnr_sample: str
    top1_agreement: float | None = None
    max_softmax_difference: float | None = None


@dataclass(frozen=True)
class ExactFigures:
    """One output of integers or bools: the share of its elements that are equal, of all samples
    together and of the worst."""

    name: str
    reference_name: str
    equal_share: float
    worst_equal_share: float
    worst_sample: str


@dataclass(frozen=True)
class OpFigures:
    """One op against the graph in fp32; None where that has no like.

    tensor: its (first) result; sqnr_db: of that; own_sqnr_db: as if the noise that comes in with
    the operands were not there, None where no more goes out than comes in.
    """

    id: str
    name: str
    op_type: str
    precision: str
    tensor: str
    sqnr_db: float | None
    own_sqnr_db: float | None


@dataclass(frozen=True)
class PerLayer:
    """Ops in their order. stored_weights: why the fp32 graph has the weights as they are stored,
    rather than as they were trained; empty when it has these."""

    ops: tuple[OpFigures, ...]
    stored_weights: str

    @property
    def lowest(self) -> OpFigures | None:
        """The op whose result is farthest off."""
        measured = [op for op in self.ops if op.sqnr_db is not None]
        return min(measured, key=lambda op: op.sqnr_db or 0.0, default=None)

    @property
    def worst(self) -> OpFigures | None:
        """The op that adds most noise of its own."""
        adding = [op for op in self.ops if op.own_sqnr_db is not None]
        return min(adding, key=lambda op: op.own_sqnr_db or 0.0, default=None)


@dataclass(frozen=True)
class Accuracy:
    """A program against its reference over a data set. program_digest: see
    `kpuprof.accuracy_file.digest_of`; runtime: what ran the reference."""

    program: str
    program_digest: str
    precision: str
    config: str
    reference: str
    runtime: str
    data: str
    samples: int
    outputs: tuple[FloatFigures, ...]
    exact_outputs: tuple[ExactFigures, ...]
    per_layer: PerLayer | None
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """What is asked of every output of real numbers."""

    option: str
    limit: Amount

    def is_held(self, output: FloatFigures) -> bool:
        """Equal is held."""
        if self.option == MIN_SQNR:
            return exact(output.sqnr_db) >= self.limit.value
        return exact(output.max_difference) <= self.limit.value

    def message(self, output: FloatFigures, samples: int) -> str:
        """Output, sample, figure and limit in one clause."""
        bar = plain(self.limit.value)
        if self.option == MIN_SQNR:
            value, limit = texts_apart(output.sqnr_db, bar, "db")
            worst = f"{output.worst_sqnr_db:,.1f} dB in {output.worst_sqnr_sample}"
            return (
                f"sqnr_db of {output.name!r} is {value} over {samples} samples (worst: {worst}), "
                f"at least {limit} was asked for"
            )
        value, limit = texts_apart(output.max_difference, bar, "share")
        return (
            f"max_difference of {output.name!r} is {value} in {output.max_difference_sample}, "
            f"at most {limit} was asked for"
        )


def bars(max_diff: str | None, min_sqnr: str | None) -> list[Bar]:
    """Of what the options say; UsageError for what is no amount."""
    given = ((MAX_DIFF, max_diff, "share"), (MIN_SQNR, min_sqnr, "db"))
    return [
        Bar(option, amount(text, unit, option)) for option, text, unit in given if text is not None
    ]


def broken(found: Accuracy, wanted: Sequence[Bar]) -> list[str]:
    """A message for every output and bar that is not held; UsageError if none can be judged."""
    if wanted and not found.outputs:
        raise UsageError(f"{wanted[0].option}: {found.program} has no output of real numbers")
    return [
        bar.message(output, found.samples)
        for bar in wanted
        for output in found.outputs
        if not bar.is_held(output)
    ]


def document(found: Accuracy, wanted: Iterable[Bar]) -> dict[str, Any]:
    """All of it for a script."""
    layers = found.per_layer
    limits = [
        {
            "figure": "sqnr_db" if bar.option == MIN_SQNR else "max_difference",
            "limit": plain(bar.limit.value),
            "at_least": bar.option == MIN_SQNR,
            "is_held": all(map(bar.is_held, found.outputs)),
        }
        for bar in wanted
    ]
    return {
        **asdict(found),
        "per_layer": layers
        and {
            **asdict(layers),
            "lowest_op": layers.lowest and layers.lowest.id,
            "worst_op": layers.worst and layers.worst.id,
        },
        "limits": limits,
    }
