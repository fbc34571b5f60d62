"""Where one ATen node is lowered: emits native ops and constants under the node's name.

Every emitted op is inferred at once, so that an attribute or a type that does not fit is reported
with the user's source line, and no graph with a wrong shape is ever built.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload

from formats.precision import DType
from kpuc.graph import Node
from kpurun.ops import OPS
from kpurun.ops.opdef import infer_types
from kpurun.ops.types import OpError, TensorType

DTYPES: dict[torch.dtype, DType] = {
    torch.float32: DType.FP32,
    torch.float64: DType.FP32,
    torch.float16: DType.FP32,
    torch.bfloat16: DType.FP32,
    torch.int64: DType.INT64,
    torch.int32: DType.INT32,
    torch.int8: DType.INT8,
    torch.uint8: DType.UINT8,
    torch.bool: DType.BOOL,
}

_STORED_AS: dict[DType, torch.dtype] = {
    DType.FP32: torch.float32,
    DType.INT64: torch.int64,
    DType.INT32: torch.int32,
    DType.INT8: torch.int8,
    DType.UINT8: torch.uint8,
    DType.BOOL: torch.bool,
}


class LoweringError(Exception):
    """A node that cannot be lowered: the op's name as a user knows it, and the reason."""

    def __init__(self, op_name: str, reason: str = "") -> None:
        self.op_name = op_name
        self.reason = reason
        super().__init__(f"{op_name}: {reason}" if reason else op_name)


@dataclass(frozen=True)
class Symbol:
    """A value that the program computes, as opposed to one known now (a torch tensor)."""

    value: str
    type: TensorType

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape


@dataclass(frozen=True)
class Absent:
    """A result that the machine does not produce; using it is refused with `reason`.

    An empty reason marks the result of a node that has been refused already.
    """

    op_name: str
    reason: str = ""


Operand = Symbol | torch.Tensor | float | int | bool
Tensor = Symbol | torch.Tensor
Lowered = Symbol | torch.Tensor | Absent | tuple["Symbol | torch.Tensor | Absent", ...]


Lowering = Callable[..., Lowered]
Table = Mapping[OpOverload, Lowering]


def semantic_dtype(dtype: torch.dtype) -> DType:
    """The graph's element type for a torch dtype; LoweringError for one that the machine lacks."""
    if dtype not in DTYPES:
        raise LoweringError(
            str(dtype).removeprefix("torch."), "the machine has no such element type"
        )
    return DTYPES[dtype]


@dataclass
class Builder:
    """The graph under construction: nodes, types and constants, each under a unique name."""

    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    wanted_names: dict[int, tuple[torch.Tensor, str]] = field(default_factory=dict)
    tensor_values: dict[int, tuple[torch.Tensor, str]] = field(default_factory=dict)

    def unique(self, wanted: str) -> str:
        """`wanted`, or with the first free number behind it."""
        candidate, number = wanted, 0
        while candidate in self.types:
            number += 1
            candidate = f"{wanted}.{number}"
        return candidate

    def named(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        """The tensor, remembered under the name it has should it become a constant."""
        self.wanted_names[id(tensor)] = (tensor, name)  # kept alive, so that its id stays its own
        return tensor

    def name_of(self, tensor: torch.Tensor) -> str:
        """The name that a tensor was remembered under, or ""."""
        return self.wanted_names[id(tensor)][1] if id(tensor) in self.wanted_names else ""

    def constant(self, tensor: torch.Tensor, fallback: str) -> Symbol:
        """A constant of the graph; the same tensor object is stored once."""
        if id(tensor) in self.tensor_values:
            value = self.tensor_values[id(tensor)][1]
            return Symbol(value, self.types[value])
        wanted = self.name_of(tensor) or fallback
        array = _as_array(tensor, wanted)
        value = self.unique(wanted)
        self.types[value] = TensorType(tuple(array.shape), semantic_dtype(tensor.dtype))
        self.constants[value] = array
        self.tensor_values[id(tensor)] = (tensor, value)
        return Symbol(value, self.types[value])


def _as_array(tensor: torch.Tensor, name: str) -> np.ndarray:
    if tensor.is_meta or tensor.layout != torch.strided:
        raise LoweringError("Constant", f"{name} is no dense tensor with data ({tensor.layout})")
    stored = tensor.detach().cpu().to(_STORED_AS[semantic_dtype(tensor.dtype)])
    if tensor.dtype == torch.float64 and bool((stored.isinf() & tensor.isfinite()).any()):
        raise LoweringError("Constant", f"{name} holds float64 values that overflow float32")
    array = np.array(stored.numpy(), order="C")
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class Site:
    """One ATen node being lowered.

    name: the node's; module: its path in the user's model; source: "file:line: code";
    results: (shape, dtype) that eager gives for each tensor result.
    """

    builder: Builder
    name: str
    module: str
    source: str
    results: tuple[tuple[tuple[int, ...], torch.dtype], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) result in eager."""
        return self.results[0][0]

    @property
    def dtype(self) -> DType:
        """Element type of the (first) result."""
        return semantic_dtype(self.results[0][1])

    def emit(self, op_type: str, *operands: Operand, **attributes: Any) -> Symbol:
        """One native op with one output. Numbers become constants of the first operand's type."""
        return self.emit_all(op_type, *operands, **attributes)[0]

    def emit_all(self, op_type: str, *operands: Operand, **attributes: Any) -> tuple[Symbol, ...]:
        """One native op with all its outputs."""
        symbols = self._symbols(operands)
        try:
            types = infer_types(OPS[op_type], attributes, tuple(s.type for s in symbols))
        except OpError as error:
            raise LoweringError(op_type, str(error).removeprefix(f"{op_type}: ")) from None
        outputs = []
        for type_ in types:
            value = self.builder.unique(self.name)
            self.builder.types[value] = type_
            outputs.append(value)
        node = Node(
            id=outputs[0],
            op_type=op_type,
            inputs=tuple(symbol.value for symbol in symbols),
            outputs=tuple(outputs),
            attributes=attributes,
            name=self.module or self.name,
            source=self.source,
        )
        self.builder.nodes.append(node)
        return tuple(Symbol(v, t) for v, t in zip(outputs, types, strict=True))

    def _symbols(self, operands: Sequence[Operand]) -> list[Symbol]:
        dtypes = [
            operand.type.dtype if isinstance(operand, Symbol) else semantic_dtype(operand.dtype)
            for operand in operands
            if isinstance(operand, (Symbol, torch.Tensor))
        ]
        symbols = []
        for operand in operands:
            if isinstance(operand, Symbol):
                symbols.append(operand)
                continue
            if not isinstance(operand, torch.Tensor):
                operand = torch.tensor(operand, dtype=_STORED_AS[dtypes[0]])
            symbols.append(self.builder.constant(operand, f"{self.name}.constant"))
        return symbols

    def renamed(self, derived: torch.Tensor, origin: torch.Tensor, what: str) -> torch.Tensor:
        """A constant made from another, named after it."""
        name = self.builder.name_of(origin)
        return self.builder.named(derived, f"{name}.{what}") if name else derived

    def cast(self, operand: Operand, dtype: DType | None = None) -> Symbol | torch.Tensor:
        """`operand` with element type `dtype` (the result's, if none is given)."""
        target = self.dtype if dtype is None else dtype
        if isinstance(operand, Symbol):
            if operand.type.dtype == target:
                return operand
            return self.emit("Cast", operand, to=target.value)
        if isinstance(operand, torch.Tensor):
            if semantic_dtype(operand.dtype) == target:
                return operand
            return operand.to(_STORED_AS[target])
        return torch.tensor(operand).to(_STORED_AS[target])  # an integer wraps around

    def reshape(self, operand: Symbol | torch.Tensor, shape: Sequence[int]) -> Symbol:
        """`operand` with another shape; the operand itself if that is its shape already."""
        if isinstance(operand, Symbol) and operand.shape == tuple(shape):
            return operand
        return self.emit("Reshape", operand, shape=tuple(shape))

    def transpose(self, operand: Symbol | torch.Tensor, perm: Sequence[int]) -> Symbol:
        """`operand` with permuted axes; the operand itself if none moves."""
        if isinstance(operand, Symbol) and tuple(perm) == tuple(range(len(perm))):
            return operand
        return self.emit("Transpose", operand, perm=tuple(perm))

    def gather(self, operand: Operand, axis: int, indices: Sequence[int] | torch.Tensor) -> Symbol:
        """The slices of one axis at constant `indices`."""
        return self.emit("Gather", operand, torch.as_tensor(indices), axis=axis)


def axis_of(dim: int, rank: int) -> int:
    """A dimension index in [0, rank); negative ones count from the end."""
    return dim % rank if rank else 0


def axes_of(dims: Sequence[int] | int | None, rank: int) -> tuple[int, ...]:
    """Sorted axes; None or an empty list stands for all of them, as in torch's reductions. A number
    has none, whichever is named.
    """
    if not rank:
        return ()
    if isinstance(dims, int):
        return (axis_of(dims, rank),)
    if not dims:
        return tuple(range(rank))
    return tuple(sorted(axis_of(dim, rank) for dim in dims))


def per_axis(value: Sequence[int] | int, count: int) -> tuple[int, ...]:
    """One entry per axis: torch lets a single number stand for all."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values
