"""Channels of an activation brought to alike ranges: scaled where made, back where multiplied.

With one scale for a tensor, channels of small values get few codes. A positive factor per channel
passes through Relu, sums, max-pools and means, so it can be moved from one kernel's weights to
another's (cross-layer equalisation, Nagel et al., 2019), over all values that such ops tie
together. Each weight has a scale per output channel, so its maker's codes do not change; those of
its readers do. Factors are powers of two: the network stays the same, bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from formats.precision import DType
from kpuc.graph import Graph, Node
from kpuc.quant.network import Network, Sample, exact_storage
from kpuc.quant.observers import Observer
from kpuc.quant.ranges import METHODS, TOP_CODE, choose_range, uint8_params
from kpuc.quant.rounding import columns_of
from kpuc.quant.weights import channel_scales, constant_factor, on_grid, rows_of, scale_axis
from kpurun.ops import OPS, op_named
from kpurun.ops.opdef import Int8Rule, complete

EQUALISING_SAMPLES = 8  # that errors are measured on
POSITIONS = 2048  # of a reader's result, over all samples
EXPONENTS = (0.5, 1.0)  # tried: how far factors go towards equal ranges
LEAST_SHARE = 2.0**-6  # of the widest channel's range: narrower ones hardly vary, and are left so
LEAST_GAIN = 0.02  # of the error without factors
TINY = 1e-30  # in place of a range of nothing but zeros

# What of positive multiples makes the multiple.
PASSING = frozenset({"Relu", "Identity", "MaxPool", "AveragePool", "GlobalAveragePool", "Add"})
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})


@dataclass(frozen=True)
class Tied:
    """Values whose channels (axis 1) must have the same factors; kernels that make and read them.

    readers: kernels whose first factor is one of the values.
    """

    values: tuple[str, ...]
    makers: tuple[Node, ...]
    readers: tuple[Node, ...]


@dataclass(frozen=True)
class Equalized:
    """graph: with the factors; gain_db: what they take off the noise of all readers that might have
    had some, each relative to its signal; None where it was not asked for."""

    graph: Graph
    gain_db: float | None


def equalized(graph: Graph, samples: Sequence[Sample], dtype: DType) -> Equalized:
    """Factors wherever they lower the error of what reads the values.

    graph: every kernel has constants of its own; dtype: of the weights' codes. Errors are those
    of codes and weights rounded to the nearest, without their means, which biases make up for.
    """
    groups = tied_values(graph) if samples else []
    wanted = {value for group in groups for value in group.values}
    network = Network(graph, exact_storage(graph))
    runs = [network.run(sample, kept=wanted) for sample in samples] if wanted else []
    arrays = {value: [run[value].numpy() for run in runs] for value in wanted}
    constants = dict(graph.constants)
    before = after = 0.0
    for group in groups:
        factors, plain_error, error = _best_factors(graph, group, arrays, dtype)
        before, after = before + plain_error, after + error
        if error < plain_error:
            _apply(group, factors, constants)
    gain_db = float(10 * np.log10(before / after)) if after > 0 else 0.0
    return Equalized(replace(graph, constants=constants), gain_db)


def _best_factors(
    graph: Graph, group: Tied, arrays: Mapping[str, Sequence[np.ndarray]], dtype: DType
) -> tuple[np.ndarray, float, float]:
    """Factors, and the summed error of the group's readers without and with them.

    Ones unless others lower it by LEAST_GAIN.
    """
    shares = _shares([arrays[value] for value in group.values])
    tried = [np.ones(len(shares), np.float32), *(_powers(shares, each) for each in EXPONENTS)]
    errors = [
        sum(
            _reader_error(graph, node, arrays[node.inputs[0]], factors, dtype)
            for node in group.readers
        )
        for factors in tried
    ]
    best = int(np.argmin(errors))
    if errors[best] >= (1 - LEAST_GAIN) * errors[0]:
        best = 0
    return tried[best], errors[0], errors[best]


def tied_values(graph: Graph) -> list[Tied]:
    """Groups of values that may have factors, in order of appearance."""
    leader: dict[str, str] = {}

    def find(value: str) -> str:
        while leader.setdefault(value, value) != value:
            value = leader[value]
        return value

    bound = {*graph.inputs, *graph.outputs}
    makers: dict[str, Node] = {}
    readers: list[Node] = []
    for node in graph.nodes:
        if _has_channel_weights(graph, node):
            makers[node.outputs[0]] = node
            readers.append(node)
            linked = [node.outputs[0], *_residuals(node)]
            bound.update(() if _adds_alike(graph, node) else linked)
        elif _passes_factors(graph, node):
            linked = [*node.inputs, *node.outputs]
        else:
            bound.update((*node.inputs, *node.outputs))
            continue
        for value in linked[1:]:
            leader[find(value)] = find(linked[0])
    bound = {find(value) for value in bound}
    groups: dict[str, list[str]] = {}
    for value in dict.fromkeys(value for node in graph.nodes for value in node.outputs):
        groups.setdefault(find(value), []).append(value)
    found = [
        Tied(
            tuple(values),
            tuple(makers[value] for value in values if value in makers),
            tuple(node for node in readers if node.inputs[0] in values),
        )
        for root, values in groups.items()
        if root not in bound
    ]
    return [group for group in found if group.makers and group.readers]


def _has_channel_weights(graph: Graph, node: Node) -> bool:
    """A kernel whose constant weight has one axis for input channels and one for output channels,
    the latter that of its scales; so has its bias."""
    if op_named(node.op_type).int8 is not Int8Rule.KERNEL or constant_factor(graph, node) != 1:
        return False
    if len(node.operands) != 3 or node.operands[2] not in graph.constants:
        return False
    attributes = complete(OPS[node.op_type], node.attributes)
    is_plain = not attributes.get("transA") and attributes.get("beta", 1) == 1
    return node.op_type == "Conv" or (node.op_type == "Gemm" and is_plain)


def _adds_alike(graph: Graph, node: Node) -> bool:
    """Whether the epilogue of positive multiples is the multiple of the epilogue."""
    shape = graph.types[node.outputs[0]].shape
    return all(stage.op_type in ("Relu", "Add") for stage in node.epilogue) and all(
        value not in graph.constants and graph.types[value].shape == shape
        for value in _residuals(node)
    )


def _residuals(node: Node) -> list[str]:
    """Operands of the epilogue."""
    return [node.inputs[stage.operand] for stage in node.epilogue if stage.operand is not None]


def _passes_factors(graph: Graph, node: Node) -> bool:
    """Whether factors of all operands are factors of the result."""
    if any(value in graph.constants for value in node.inputs) or node.epilogue:
        return False
    shapes = [tuple(graph.types[value].shape) for value in (*node.inputs, *node.outputs)]
    first, last = shapes[0], shapes[-1]
    if node.op_type in FLATTENING:
        return len(first) > 2 and first == (*last, *[1] * (len(first) - 2)) and len(last) == 2
    is_alike = all(shape[:2] == first[:2] and len(shape) == len(first) > 1 for shape in shapes)
    return node.op_type in PASSING and is_alike


def _shares(arrays: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """How much of the widest channel's range each channel takes, at most over the values."""
    reaches = [
        np.asarray(np.max([np.abs(array).max(axis=_others(array)) for array in samples], axis=0))
        for samples in arrays
    ]
    return np.asarray(np.max([each / max(each.max(), TINY) for each in reaches], axis=0))


def _others(array: np.ndarray) -> tuple[int, ...]:
    return tuple(axis for axis in range(array.ndim) if axis != 1)


def _powers(shares: np.ndarray, exponent: float) -> np.ndarray:
    """Powers of two, float32, that bring the channels' ranges nearer to each other."""
    octaves = exponent * np.log2(np.maximum(shares, LEAST_SHARE))
    return np.asarray(np.exp2(np.rint(octaves)), np.float32)


def _along(factors: np.ndarray, rank: int) -> np.ndarray:
    """Factors of axis 1, to be multiplied with an array."""
    return factors.reshape(1, -1, *[1] * (rank - 2))


def _reader_error(
    graph: Graph, node: Node, arrays: Sequence[np.ndarray], factors: np.ndarray, dtype: DType
) -> float:
    """Noise of a kernel's result over its signal, when its input has these factors."""
    observer = Observer(node.inputs[0])
    scaled = [array / _along(factors, array.ndim) for array in arrays]
    for array in scaled:
        observer.update(array)
    scale, zero_point = uint8_params(*choose_range(observer.histogram, METHODS[0]))
    coded = [
        (np.clip(np.rint(array / np.float32(scale)) + zero_point, 0, TOP_CODE) - zero_point)
        * np.float32(scale)
        for array in scaled
    ]
    weight = graph.constants[node.inputs[1]]
    exact = _rows(node, weight)
    moved = _rows(node, _with_factors(node, weight, factors))
    grid = on_grid(moved, channel_scales(moved, dtype)[:, None], dtype)
    signal, noise = 0.0, 0.0
    for array, codes in zip(arrays, coded, strict=True):
        wanted = _result(exact, _columns(graph, node, array, len(arrays)))
        given = _result(grid, _columns(graph, node, codes, len(arrays)))
        signal += float(np.square(wanted).sum())
        error = given - wanted
        noise += float(np.square(error - error.mean(axis=2, keepdims=True)).sum())
    return noise / signal if signal else 0.0


def _columns(graph: Graph, node: Node, x: np.ndarray, samples: int) -> np.ndarray:
    """Inputs of the kernel at the same places whatever `x` is."""
    return columns_of(graph, node, x, POSITIONS // samples, np.random.default_rng(0))


def _result(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[channels, products] by [groups, products, positions]."""
    return np.asarray(rows.reshape(len(columns), -1, rows.shape[1]) @ columns)


def _rows(node: Node, weight: np.ndarray) -> np.ndarray:
    axis = scale_axis(node, weight.ndim)
    assert axis is not None, "Conv and Gemm have one"
    return rows_of(weight, axis).array


def _with_factors(node: Node, weight: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The weight that makes of channels divided by `factors` what it made of them before."""
    if node.op_type == "Gemm":
        is_turned = node.attributes.get("transB", 0)
        return np.asarray(weight * (factors if is_turned else factors[:, None]))
    groups = node.attributes.get("group", 1)
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    spread = factors.reshape(groups, 1, weight.shape[1], *[1] * (weight.ndim - 2))
    return np.asarray((by_group * spread).reshape(weight.shape))


def with_group_factors(graph: Graph, group: Tied, factors: np.ndarray) -> Graph:
    """The graph whose values of the group are divided by a factor per channel."""
    constants = dict(graph.constants)
    _apply(group, factors, constants)
    return replace(graph, constants=constants)


def along_makers(graph: Graph, node: Node) -> np.ndarray:
    """Weight and bias of a kernel that may make tied values, float64 [channels, products + 1]."""
    rows = _rows(node, graph.constants[node.inputs[1]])
    bias = graph.constants[node.operands[2]]
    return np.column_stack([rows, bias]).astype(np.float64)


def _apply(group: Tied, factors: np.ndarray, constants: dict[str, np.ndarray]) -> None:
    """Divide what the makers give, multiply what the readers take."""
    for node in group.makers:
        _, weight, bias = node.operands
        axis = scale_axis(node, constants[weight].ndim)
        spread = np.moveaxis(factors.reshape(-1, *[1] * (constants[weight].ndim - 1)), 0, axis or 0)
        constants[weight] = constants[weight] / spread
        constants[bias] = constants[bias] / factors
    for node in group.readers:
        weight = node.inputs[1]
        constants[weight] = _with_factors(node, constants[weight], factors)
