"""A graph with its codes: coded weights and activations joined with an assignment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from formats.precision import DType, KPUPrecision
from formats.quantized import spread_scales
from kpuc.graph import Graph
from kpuc.passes.edit import Additions
from kpuc.precision import unchecked_float_storage
from kpuc.quant.assign import Assignment, kernels
from kpuc.quant.weights import channel_scales, constant_factor, on_grid, rows_of, scale_axis
from kpuc.storage import Code, QuantParams, Storage
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule

CODED_WEIGHTS = {KPUPrecision.INT8: DType.INT8, KPUPrecision.INT4: DType.INT4}


@dataclass(frozen=True)
class Granularity:
    """How many weights share a scale: a channel's or all; group_size > 0: so many of a channel."""

    per_channel: bool = True
    group_size: int = 0


@dataclass(frozen=True)
class CodedWeight:
    """A constant factor of a kernel on its grid. scales: one number, [channels] or [channels,
    groups] along `axis`."""

    array: np.ndarray
    scales: np.ndarray
    axis: int = 0
    group_size: int = 0

    @property
    def spread(self) -> np.ndarray:
        """The scales so that they broadcast to the weight."""
        if self.scales.ndim == 0:
            return self.scales
        return spread_scales(self.scales, self.array.shape, self.axis, self.group_size)


def coded_weights(graph: Graph, dtype: DType, granularity: Granularity) -> dict[str, CodedWeight]:
    """Constant factor of a kernel -> its nearest codes, on scales of least squared error."""
    found = {}
    for node in kernels(graph):
        factor = constant_factor(graph, node)
        if factor is not None:
            array = graph.constants[node.inputs[factor]]
            axis = scale_axis(node, array.ndim) if factor == 1 and granularity.per_channel else None
            found[node.inputs[factor]] = _coded(array, axis, dtype, granularity.group_size)
    return found


def _coded(array: np.ndarray, axis: int | None, dtype: DType, group_size: int) -> CodedWeight:
    if axis is None:
        (scale,) = channel_scales(array.reshape(1, -1), dtype)
        raw = CodedWeight(array, np.asarray(scale))
    else:
        rows = rows_of(array, axis).array
        size = group_size if group_size < rows.shape[1] else 0  # one group is the whole channel
        raw = CodedWeight(array, channel_scales(rows, dtype, size), axis, size)
    return replace(raw, array=on_grid(array, raw.spread, dtype))


def with_codes(
    assignment: Assignment,
    codes: Mapping[str, Code],
    weights: Mapping[str, CodedWeight],
    precision: KPUPrecision,
    kept: KPUPrecision = KPUPrecision.FP16,
) -> tuple[Graph, Storage]:
    """The graph with weights on their grids and their scales as operands, and how it is stored.

    codes: scale and zero point of every coded activation; kept: what the other kernels compute in,
    whether or not it holds their weights.
    """
    graph = assignment.graph
    added = Additions(graph)
    params = {value: QuantParams(*codes[value]) for value in assignment.coded}
    rounded: dict[str, np.ndarray] = {}
    nodes = []
    for node in graph.nodes:
        factor = constant_factor(graph, node) if node.id in assignment.integer else None
        if factor is None:
            nodes.append(node)
            continue
        name = node.inputs[factor]
        weight = weights[name]
        rounded[name] = weight.array
        params[name], operands = _params(weight, name, graph, added)
        inputs = (*node.inputs, *operands)
        nodes.append(replace(node, inputs=inputs, operand_count=len(node.operands)))
    graph = replace(
        graph,
        nodes=tuple(nodes),
        types={**graph.types, **added.types},
        constants={**graph.constants, **rounded, **added.constants},
        names={**graph.names, **added.names},
    )
    return graph, _storage(graph, assignment, params, precision, kept)


def _params(
    weight: CodedWeight, name: str, graph: Graph, added: Additions
) -> tuple[QuantParams, tuple[str, ...]]:
    """Parameters of a weight, and the constants that a node reads because of them."""
    if weight.scales.ndim == 0:
        return QuantParams(float(weight.scales)), ()
    readable = f"{graph.names.get(name, name)}.scales"
    scales = added.constant(f"{name}.scales", weight.scales, readable)
    params = QuantParams(scales=scales, scale_axis=weight.axis, group_size=weight.group_size)
    return params, (scales,)


def _storage(
    graph: Graph,
    assignment: Assignment,
    params: Mapping[str, QuantParams],
    precision: KPUPrecision,
    kept: KPUPrecision,
) -> Storage:
    """As a program of floats is stored, but for what has codes."""
    dtypes = dict(unchecked_float_storage(graph, kept).dtypes)
    for value in params:
        dtypes[value] = CODED_WEIGHTS[precision] if value in graph.constants else DType.UINT8
    floats = {
        node.id: kept
        for node in graph.nodes
        if op_named(node.op_type).int8 is Int8Rule.KERNEL and node.id not in assignment.integer
    }
    return Storage(precision, dtypes, params, floats)
