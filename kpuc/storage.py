"""How every value of a graph is stored: a decision beside the graph, made before memory is planned.

The graph itself holds real numbers throughout; a quantised constant holds those that its codes
stand for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from formats.codec import encode
from formats.precision import DType, KPUPrecision
from formats.quantized import CODE_RANGES, quantize, spread_scales
from kpuc.graph import Graph, Node

Code = tuple[float, int]  # scale and zero point


@dataclass(frozen=True)
class QuantParams:
    """What the codes of a value stand for (see KPUTensor); `scales` names a constant."""

    scale: float | None = None
    zero_point: int = 0
    scales: str | None = None
    scale_axis: int = 0
    group_size: int = 0


@dataclass(frozen=True)
class Storage:
    """dtypes: of every value; params: of the quantised ones; op_precisions: node id -> precision of
    its multiply-accumulates where that is not the program's."""

    precision: KPUPrecision
    dtypes: Mapping[str, DType]
    params: Mapping[str, QuantParams] = field(default_factory=dict)
    op_precisions: Mapping[str, KPUPrecision] = field(default_factory=dict)

    def of(self, node: Node) -> KPUPrecision:
        """What the node's multiply-accumulates run in."""
        return self.op_precisions.get(node.id, self.precision)

    def code(self, value: str) -> Code | None:
        """Scale and zero point of a value with one scale."""
        params = self.params.get(value)
        return None if params is None or params.scale is None else (params.scale, params.zero_point)

    def scale_axis(self, value: str) -> int | None:
        """The axis that the scales of a weight with many follow."""
        params = self.params.get(value)
        return None if params is None or params.scales is None else params.scale_axis

    def is_same(self, value: str, other: str) -> bool:
        """Whether equal bytes of the two values mean equal numbers."""
        same_type = self.dtypes[value] is self.dtypes[other]
        return same_type and self.params.get(value) == self.params.get(other)

    def with_copies(self, copies: Mapping[str, str]) -> "Storage":
        """Also for values that copy others: copy -> original."""
        dtypes = {copy: self.dtypes[original] for copy, original in copies.items()}
        params = {copy: self.params[each] for copy, each in copies.items() if each in self.params}
        return replace(self, dtypes={**self.dtypes, **dtypes}, params={**self.params, **params})

    def encoded(self, graph: Graph, value: str) -> np.ndarray:
        """The stored form of a constant, as `formats.tensors.pack` takes it."""
        array, dtype, params = graph.constants[value], self.dtypes[value], self.params.get(value)
        if params is None:
            return encode(array, dtype)
        if params.scales is not None:
            scale = spread_scales(
                graph.constants[params.scales], array.shape, params.scale_axis, params.group_size
            )
        else:
            scale = np.asarray(params.scale, np.float32)
        if dtype in CODE_RANGES:
            return encode(quantize(array, dtype, scale, params.zero_point), dtype)
        return encode(array / scale, dtype)
