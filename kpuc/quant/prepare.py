"""The stage of the compiler that makes codes: an optimised graph and samples to what is stored."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from formats.config import KPUConfig
from formats.errors import CompilationError, UsageError
from formats.files import Source, Target
from formats.precision import KPUPrecision
from formats.program import Quantization
from kpuc.graph import Graph
from kpuc.passes.layout_cost import PLAIN, Estimator
from kpuc.precision import CODED, require_representable, unchecked_float_storage
from kpuc.quant.assign import assign, kernels
from kpuc.quant.calibration import Calibrate, Calibration, Equalise
from kpuc.quant.coding import CODED_WEIGHTS, Granularity, coded_weights, with_codes
from kpuc.quant.data import InputSpec, samples
from kpuc.quant.network import Sample
from kpuc.quant.posits import posit_storage
from kpuc.quant.quantize import (
    Quantizer,
    QuantOptions,
    Trial,
    kept_by_name,
    observed,
    quantizer,
    summary,
)
from kpuc.quant.refine import Refinements, with_own_constants
from kpuc.quant.saved import load, save
from kpuc.quant.search import Bar, cheapest
from kpuc.storage import Storage
from kpurun.compatibility import is_batched

LEAST_HELD_OUT = 8

Track = Callable[[Iterable[Sample], int], Iterable[Sample]]


@dataclass(frozen=True)
class Quantized:
    """A graph of codes, how it is stored, what that does to its outputs, what it was made of."""

    graph: Graph
    storage: Storage
    report: Quantization
    calibration: Calibration | None


class Quantiser:
    """Makes the codes of one graph, and keeps its calibration until the program is made."""

    def __init__(self, quantise: Callable[[Graph], Quantized]) -> None:
        self._quantise = quantise
        self._made: Quantized | None = None

    def __call__(self, graph: Graph) -> Quantized:
        """The graph with codes; raises as `quantized` does, and FileError for what is loaded."""
        self._made = self._quantise(graph)
        return self._made

    def save_calibration(self, target: Target) -> None:
        """For `load_calibration` of the next compilation; FileError when it cannot be written."""
        assert self._made is not None, "asked for when the program is made"
        assert self._made.calibration is not None, "refused with the options"
        save(self._made.calibration, target)


def quantiser(
    data: object,
    config: KPUConfig,
    precision: KPUPrecision,
    options: QuantOptions | None = None,
    preprocess: str = "none",
    track: Track | None = None,
    load_calibration: Source | None = None,
) -> Quantiser:
    """`quantized` on samples of whatever `kpuc.quant.data.samples` takes; a tenth is held out.

    track: the calibration samples, and how many, with a progress bar around them;
    load_calibration: a file that was saved, instead of `data`. UsageError for options of another
    kind.
    """
    if options is not None and not isinstance(options, QuantOptions):
        raise UsageError(f"quantization is a QuantOptions, not {type(options).__name__}")

    def drawn(graph: Graph) -> _Drawn:
        specs = [_spec(graph, value) for value in graph.inputs]
        every = samples(data, specs, preprocess, precision.value)
        calibration, aside = every.split(max(LEAST_HELD_OUT, len(every.store) // 10))
        by_value: Iterable[Sample] = _by_value(graph, calibration)
        shown = by_value if track is None else track(by_value, len(calibration))
        return _Drawn(shown, list(_by_value(graph, aside)), calibration.count, aside.count)

    def calibrate(graph: Graph, equalise: Equalise) -> Calibration:
        if load_calibration is None:
            return _calibrated(drawn(graph), graph, equalise, preprocess)
        loaded = load(load_calibration, graph, equalise)
        if loaded.preprocess != preprocess:
            raise UsageError(
                f"the calibration is of samples that {loaded.preprocess!r} preprocessed, not "
                f"{preprocess!r}: give --preprocess {loaded.preprocess}"
            )
        return loaded

    def quantise(graph: Graph) -> Quantized:
        if precision in CODED:
            return quantized(graph, config, precision, options or QuantOptions(), calibrate)
        found = drawn(graph)
        storage, report = posit_storage(graph, precision, found.calibration, found.held_out)
        counted = replace(report, samples=found.count, held_out=found.held_out_count)
        return Quantized(graph, storage, counted, None)

    return Quantiser(quantise)


@dataclass(frozen=True)
class _Drawn:
    """Samples in the model's batch, and how many they are one by one."""

    calibration: Iterable[Sample]
    held_out: list[Sample]
    count: int
    held_out_count: int


def _calibrated(drawn: _Drawn, graph: Graph, equalise: Equalise, preprocess: str) -> Calibration:
    seen = observed(drawn.calibration, drawn.held_out)(graph, equalise)
    return replace(
        seen,
        statistics=replace(seen.statistics, samples=drawn.count),
        held_out_count=drawn.held_out_count,
        preprocess=preprocess,
    )


def _spec(graph: Graph, value: str) -> InputSpec:
    type_ = graph.types[value]
    shape = tuple(type_.shape)
    uses = [
        (node.op_type, tuple(graph.types[node.outputs[0]].shape))
        for node in graph.nodes
        if value in node.inputs
    ]
    name = graph.names.get(value, value)
    return InputSpec(name, shape, type_.is_float, is_batched(shape, uses))


def _by_value(graph: Graph, found: Iterable[Sample]) -> Iterator[Sample]:
    """Samples by value instead of by the input's name."""
    names = {value: graph.names.get(value, value) for value in graph.inputs}
    for sample in found:
        yield {value: sample[name] for value, name in names.items()}


def quantized(
    graph: Graph,
    config: KPUConfig,
    precision: KPUPrecision,
    options: QuantOptions,
    calibrate: Calibrate,
) -> Quantized:
    """The graph with the codes that the options ask for.

    UsageError for a pattern that matches no op, CheckError for a bar that cannot be reached,
    CompilationError for values that what stays in FP16 cannot hold.
    """
    maker = quantizer(graph, precision, options, calibrate)
    always = kept_by_name(maker.graph, options.keep_fp16)
    maker = maker.rounding_for(always)
    if options.has_bar:
        bar = Bar(options.max_difference, options.min_sqnr_db)
        trial = cheapest(maker, bar, saved_cycles(maker, config), always)
        own = maker.rounding_for(trial.floats)
        rounded_again = own.trial(trial.floats)
        if bar.holds(rounded_again) and rounded_again.sqnr_db > trial.sqnr_db:
            maker, trial = own, rounded_again
    else:
        trial = maker.trial(always)
    if math.isinf(trial.worst):
        raise CompilationError(
            "an activation overflows FP16, in which some kernels compute: keep fewer in it"
        )
    report = summary(maker, trial, gains_db(maker, trial))
    seen = replace(maker.calibration, rounded=maker.rounded)
    return Quantized(trial.graph, trial.storage, report, seen)


def saved_cycles(maker: Quantizer, config: KPUConfig) -> dict[str, int]:
    """Kernel's id -> estimated cycles that its codes save against FP16."""
    coded = maker.trial(frozenset())
    plain = unchecked_float_storage(maker.graph, KPUPrecision.FP16)
    before = Estimator(maker.graph, frozenset(), plain, config)
    after = Estimator(coded.graph, frozenset(), coded.storage, config)
    on_codes = {node.id: node for node in coded.graph.nodes}
    return {
        node.id: before.table(node)[PLAIN] - after.table(on_codes[node.id])[PLAIN]
        for node in kernels(maker.graph)
    }


def gains_db(maker: Quantizer, trial: Trial) -> Mapping[str, float]:
    """What each refinement adds to the SQNR of the worst output, one upon the other; equalisation
    to that of the ops which read what it scales."""
    wanted = maker.options.refinements
    steps = [
        ("bias correction", replace(wanted, rounding=False), wanted.bias),
        ("weight rounding", wanted, wanted.rounding),
    ]
    before = _sqnr_db(maker, replace(wanted, rounding=False, bias=False), trial)
    equalized = maker.calibration.equalized
    gains = {} if equalized.gain_db is None else {"equalisation": equalized.gain_db}
    for name, refinements, is_wanted in steps:
        if is_wanted:
            after = trial.sqnr_db if refinements == wanted else _sqnr_db(maker, refinements, trial)
            gains[name] = after - before
            before = after
    return gains


def _sqnr_db(maker: Quantizer, refinements: Refinements, trial: Trial) -> float:
    options = replace(maker.options, refinements=refinements)
    other = Quantizer(
        maker.precision, options, maker.calibration, maker.baseline, known=maker.known
    )
    return other.trial(trial.floats).sqnr_db


def nominal(graph: Graph, precision: KPUPrecision) -> tuple[Graph, Storage]:
    """The graph with codes that mean nothing: sizes and times do not depend on their scales."""
    prepared = with_own_constants(graph)
    assignment = assign(prepared)
    weights = coded_weights(prepared, CODED_WEIGHTS[precision], Granularity())
    meaningless = dict.fromkeys(assignment.coded, (1.0, 0))
    coded, storage = with_codes(assignment, meaningless, weights, precision)
    require_representable(coded, storage)
    return coded, storage
