"""All that quantisation needs of the data, and what took it longest to make of that: apart from the
data itself, so that it can be kept.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from formats.precision import DType, KPUPrecision
from formats.quantized import CODE_RANGES
from kpuc.graph import Graph
from kpuc.quant.assign import kernels
from kpuc.quant.coding import CODED_WEIGHTS, CodedWeight, Granularity
from kpuc.quant.equalize import Equalized
from kpuc.quant.network import Sample
from kpuc.quant.refine import Refinements
from kpuc.quant.rounding import ROUNDING_VERSION
from kpuc.quant.statistics import RangeMethod, Statistics
from kpuc.quant.weights import constant_factor

Codes = Mapping[str, np.ndarray]  # constant factor of a kernel -> int8 codes of its shape


@dataclass(frozen=True)
class Calibration:
    """Of one graph, each kernel with a weight and a bias of its own; equalized: what the statistics
    are of.

    preprocess: what made samples of images; held_out: what nothing is fitted to, in the model's
    batch; held_out_count: how many samples these are; rounded: by `rounding_key`, the codes of all
    weights that were rounded to second order.
    """

    graph: Graph
    equalized: Equalized
    statistics: Statistics
    held_out: Sequence[Sample]
    held_out_count: int
    preprocess: str = "none"
    rounded: Mapping[str, Codes] = field(default_factory=dict)


Equalise = Callable[[Graph, Sequence[Sample]], Equalized]
# The calibration of a graph: observed, or as it was kept.
Calibrate = Callable[[Graph, Equalise], Calibration]


def rounding_key(
    precision: KPUPrecision,
    method: RangeMethod,
    granularity: Granularity,
    refinements: Refinements,
    floats: frozenset[str],
) -> str:
    """What names rounded weights of one calibration: everything else that they depend on."""
    depends_on = (ROUNDING_VERSION, method, granularity, refinements, sorted(floats))
    return f"{precision.value}-{hashlib.sha256(repr(depends_on).encode()).hexdigest()}"


def weight_dtype(key: str) -> DType | None:
    """What weights of a `rounding_key` are stored as; None for what is no such key."""
    precision, _, digest = key.partition("-")
    is_digest = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    dtypes = {known.value: dtype for known, dtype in CODED_WEIGHTS.items()}
    return dtypes.get(precision) if is_digest else None


def codes_of(weights: Mapping[str, CodedWeight]) -> Codes:
    """The codes of weights that are on their grids."""
    return {
        name: np.rint(weight.array / weight.spread).astype(np.int8)
        for name, weight in weights.items()
    }


def with_array_of(weight: CodedWeight, codes: np.ndarray) -> CodedWeight:
    """The weight with the real numbers of these codes instead of its own."""
    array = codes.astype(np.float32) * np.asarray(weight.spread, np.float32)
    return replace(weight, array=np.asarray(array, np.float32))


def are_codes(codes: np.ndarray, dtype: DType) -> bool:
    """Whether every code is one that a weight may have."""
    highest = CODE_RANGES[dtype][1]
    return codes.dtype == np.int8 and bool((codes >= -highest).all() and (codes <= highest).all())


def constant_factors(graph: Graph) -> tuple[str, ...]:
    """The constants that kernels multiply by, in the order of `coded_weights`."""
    found = ((node, constant_factor(graph, node)) for node in kernels(graph))
    return tuple(dict.fromkeys(node.inputs[i] for node, i in found if i is not None))
