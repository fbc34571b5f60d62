"""From a graph of real numbers to a graph of codes: calibrate, round, correct, measure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import cached_property
from itertools import chain, islice

from formats.errors import UsageError
from formats.precision import KPUPrecision
from formats.program import Quantization
from kpuc.graph import Graph, Node
from kpuc.precision import require_representable
from kpuc.quant.assign import assign, kernels, macs
from kpuc.quant.calibration import (
    Calibrate,
    Calibration,
    Codes,
    Equalise,
    codes_of,
    rounding_key,
    with_array_of,
)
from kpuc.quant.coding import CODED_WEIGHTS, CodedWeight, Granularity, coded_weights, with_codes
from kpuc.quant.difference import Difference
from kpuc.quant.equalize import EQUALISING_SAMPLES, Equalized, equalized
from kpuc.quant.measure import Outputs, differences, op_differences, outputs_of
from kpuc.quant.network import Kernel, Network, Sample, exact_storage
from kpuc.quant.refine import Refinements, refined, with_own_constants
from kpuc.quant.statistics import RangeMethod, Statistics, codes_for, observe
from kpuc.storage import Storage
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule

REFINING_BYTES = 1 << 30  # of codes that corrections may hold at a time
MOST_REFINING = 128  # samples: more change the corrections by less than their own noise


@dataclass(frozen=True)
class QuantOptions:
    """What a user may choose.

    keep_fp16: patterns of op names that stay in FP16; max_difference (max |d| / max |baseline| of
    the worst held-out sample) and min_sqnr_db: bars that decide which others do.
    """

    method: RangeMethod = field(default_factory=RangeMethod)
    granularity: Granularity = field(default_factory=Granularity)
    refinements: Refinements = field(default_factory=Refinements)
    keep_fp16: tuple[str, ...] = ()
    max_difference: float | None = None
    min_sqnr_db: float | None = None

    def __post_init__(self) -> None:
        """UsageError for what no calibration could mean."""
        kinds = (
            (self.method, RangeMethod),
            (self.granularity, Granularity),
            (self.refinements, Refinements),
        )
        for given, kind in kinds:
            if not isinstance(given, kind):
                raise UsageError(f"{given!r} is no {kind.__name__}")
        if isinstance(self.keep_fp16, str):
            raise UsageError(f"keep_fp16 is a tuple of patterns, not {self.keep_fp16!r}")
        for name, bar in (
            ("max_difference", self.max_difference),
            ("min_sqnr_db", self.min_sqnr_db),
        ):
            is_number = isinstance(bar, int | float) and math.isfinite(bar)
            if bar is not None and not is_number:
                raise UsageError(f"{name} {bar!r}: give a number")
        if self.max_difference is not None and self.max_difference <= 0:
            raise UsageError(f"max_difference {self.max_difference:g}: give a positive number")

    @property
    def has_bar(self) -> bool:
        return self.max_difference is not None or self.min_sqnr_db is not None


@dataclass(frozen=True)
class Trial:
    """One quantised network and how far it is from the exact one on held-out samples."""

    floats: frozenset[str]
    graph: Graph
    storage: Storage
    found: Mapping[str, Difference]

    @property
    def worst(self) -> float:
        return max((each.worst for each in self.found.values()), default=0.0)

    @property
    def sqnr_db(self) -> float:
        return min((each.sqnr_db for each in self.found.values()), default=200.0)


@dataclass
class Quantizer:
    """A graph with its statistics: makes and measures quantised networks of it.

    baseline: exact outputs of the samples held out; rounded_for: kernels in FP16 when weights are
    rounded; rounded: codes by `rounding_key`, to which those are added that had to be made.
    """

    precision: KPUPrecision
    options: QuantOptions
    calibration: Calibration
    baseline: Sequence[Outputs]
    rounded_for: frozenset[str] = frozenset()
    known: dict[object, tuple[Kernel, object]] = field(default_factory=dict)
    rounded: dict[str, Codes] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """Equalised; each kernel with a weight and a bias of its own."""
        return self.calibration.equalized.graph

    @property
    def statistics(self) -> Statistics:
        return self.calibration.statistics

    @property
    def held_out(self) -> Sequence[Sample]:
        return self.calibration.held_out

    @cached_property
    def exact(self) -> Network:
        """The network as it was trained."""
        return Network(self.graph, exact_storage(self.graph), self.known)

    @cached_property
    def weights(self) -> dict[str, CodedWeight]:
        """Coded weights of all kernels, rounded to second order if that is asked for.

        Once for many assignments: the others differ from `rounded_for` in few kernels.
        """
        if not self.options.refinements.rounding:
            return self.nearest
        options = self.options
        key = rounding_key(
            self.precision,
            options.method,
            options.granularity,
            options.refinements,
            self.rounded_for,
        )
        if key not in self.rounded:
            graph, _ = self._network(self.rounded_for, self.nearest, options.refinements)
            # a weight in FP16 lies beside the grid; as codes it is rounded for itself
            floats = {
                name
                for node in kernels(graph)
                if node.id in self.rounded_for
                for name in node.inputs
            }
            made = {
                name: weight if name in floats else replace(weight, array=graph.constants[name])
                for name, weight in self.nearest.items()
            }
            self.rounded[key] = codes_of(made)
        codes = self.rounded[key]
        return {name: with_array_of(weight, codes[name]) for name, weight in self.nearest.items()}

    @cached_property
    def nearest(self) -> dict[str, CodedWeight]:
        """Coded weights of all kernels, each rounded for itself."""
        dtype = CODED_WEIGHTS[self.precision]
        return coded_weights(self.graph, dtype, self.options.granularity)

    def rounding_for(self, floats: frozenset[str]) -> "Quantizer":
        """The same, but that weights are rounded with other kernels in FP16."""
        return self if floats == self.rounded_for else replace(self, rounded_for=floats)

    def trial(self, floats: Iterable[str]) -> Trial:
        """The network in which the kernels `floats` stay in FP16, and its differences."""
        kept = frozenset(floats)
        wanted = replace(self.options.refinements, rounding=False)
        graph, storage = self._network(kept, self.weights, wanted)
        outputs = outputs_of(Network(graph, storage, self.known), self.held_out)
        return Trial(kept, graph, storage, differences(self.baseline, outputs))

    def _network(
        self, floats: frozenset[str], weights: Mapping[str, CodedWeight], wanted: Refinements
    ) -> tuple[Graph, Storage]:
        assignment = assign(self.graph, floats)
        codes = codes_for(assignment, self.statistics, self.options.method)
        graph, storage = with_codes(assignment, codes, weights, self.precision)
        require_representable(graph, storage)
        means = dict(self.statistics.means)
        means |= {copy: means[v] for copy, v in assignment.copies.items() if v in means}
        samples = self.statistics.refining
        return refined(graph, storage, assignment.graph, means, samples, wanted), storage


def quantizer(
    graph: Graph,
    precision: KPUPrecision,
    options: QuantOptions,
    calibrate: Calibrate,
) -> Quantizer:
    """The graph prepared and calibrated."""
    prepared = with_own_constants(graph)

    def equalise(own: Graph, samples: Sequence[Sample]) -> Equalized:
        if not options.refinements.equalisation:
            return Equalized(own, None)
        return equalized(own, samples[:EQUALISING_SAMPLES], CODED_WEIGHTS[precision])

    seen = calibrate(prepared, equalise)
    baseline = outputs_of(Network(prepared, exact_storage(prepared)), seen.held_out)
    return Quantizer(precision, options, seen, baseline, rounded=dict(seen.rounded))


def observed(samples: Iterable[Sample], held_out: Sequence[Sample]) -> Calibrate:
    """Calibration in one pass over the samples, which are counted as they come."""

    def calibrate(graph: Graph, equalise: Equalise) -> Calibration:
        remaining = iter(samples)
        count = refining_count(graph)
        first = list(islice(remaining, min(EQUALISING_SAMPLES, count)))
        equal = equalise(graph, first)
        statistics = observe(equal.graph, chain(first, remaining), count)
        return Calibration(graph, equal, statistics, held_out, len(held_out))

    return calibrate


def refining_count(graph: Graph) -> int:
    """Of how many samples the corrections can hold all values of a network at a time."""
    activations = sum(
        type_.elements for value, type_ in graph.types.items() if value not in graph.constants
    )
    return max(1, min(MOST_REFINING, REFINING_BYTES // max(1, activations)))


def kept_by_name(graph: Graph, patterns: Sequence[str]) -> frozenset[str]:
    """Kernels whose names match a pattern (as of a shell); UsageError for one that matches none."""
    chosen: set[str] = set()
    for pattern in patterns:
        matching = {node.id for node in kernels(graph) if _matches(node, pattern)}
        if not matching:
            names = ", ".join(node.name or node.id for node in kernels(graph))
            what = "these are Conv, Gemm and MatMul, other ops follow them"
            raise UsageError(f"--keep-fp16 {pattern}: matches none of {names}; {what}")
        chosen |= matching
    return frozenset(chosen)


def _matches(node: Node, pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in (node.id, node.name, *node.fused))


def summary(quantizer: Quantizer, trial: Trial, gains_db: Mapping[str, float]) -> Quantization:
    """What the program says about its quantisation."""
    names = quantizer.graph.names
    network = Network(trial.graph, trial.storage, quantizer.known)
    per_op = op_differences(quantizer.exact, network, quantizer.held_out)
    return Quantization(
        method=quantizer.options.method.name,
        samples=quantizer.statistics.samples,
        held_out=quantizer.calibration.held_out_count,
        sqnr_db={names.get(v, v): each.sqnr_db for v, each in trial.found.items()},
        max_difference={names.get(v, v): each.worst for v, each in trial.found.items()},
        op_sqnr_db={node_id: each.sqnr_db for node_id, each in per_op.items()},
        mac_share=integer_share(quantizer.graph, trial.floats),
        gains_db=dict(gains_db),
    )


def integer_share(graph: Graph, floats: Iterable[str]) -> float:
    """Share of a graph's multiply-accumulates that run on codes."""
    kept = frozenset(floats)
    multiplying = (node for node in graph.nodes if op_named(node.op_type).int8 is Int8Rule.KERNEL)
    total = sum(macs(graph, node) for node in multiplying)
    on_codes = sum(macs(graph, node) for node in kernels(graph) if node.id not in kept)
    return on_codes / total if total else 1.0
