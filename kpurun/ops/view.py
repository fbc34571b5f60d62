"""Ops that give the same elements another shape: they cost nothing while nothing must be copied."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from kpurun.ops.checks import axes_of, integer, integers, one_dtype
from kpurun.ops.loopnest import Access, Axis, Dim, LoopNest, Role, Unit
from kpurun.ops.nests import identity_access, point_dims
from kpurun.ops.opdef import REQUIRED, Int8Rule, OpDef
from kpurun.ops.types import Attributes, OpError, TensorType

Shape = tuple[int, ...]
NewShape = Callable[[Attributes, Shape], Shape]


def _reshaped(attributes: Attributes, shape: Shape) -> Shape:
    """The wanted shape with its one -1 resolved."""
    wanted = integers("Reshape", "shape", attributes["shape"])
    if wanted.count(-1) > 1 or any(size < 1 and size != -1 for size in wanted):
        raise OpError(f"Reshape: shape {list(wanted)} must be positive sizes and at most one -1")
    known = prod(size for size in wanted if size != -1)
    elements = prod(shape)
    resolved = tuple(elements // known if size == -1 else size for size in wanted)
    if prod(resolved) != elements:
        raise OpError(
            f"Reshape: {elements} elements of {list(shape)} do not fit shape {list(wanted)}"
        )
    return resolved


def _flattened(attributes: Attributes, shape: Shape) -> Shape:
    axis = integer("Flatten", "axis", attributes["axis"])
    if not -len(shape) <= axis <= len(shape):
        raise OpError(f"Flatten: axis {axis} is out of range for {len(shape)} dimensions")
    split = axis + len(shape) if axis < 0 else axis
    return prod(shape[:split]), prod(shape[split:])


def _squeezed(attributes: Attributes, shape: Shape) -> Shape:
    if attributes["axes"] is None:
        return tuple(size for size in shape if size != 1)
    axes = axes_of("Squeeze", attributes["axes"], len(shape))
    for axis in axes:
        if shape[axis] != 1:
            raise OpError(f"Squeeze: axis {axis} of {list(shape)} has size {shape[axis]}, not 1")
    return tuple(size for index, size in enumerate(shape) if index not in axes)


def _unsqueezed(attributes: Attributes, shape: Shape) -> Shape:
    given = integers("Unsqueeze", "axes", attributes["axes"])
    rank = len(shape) + len(given)
    axes = axes_of("Unsqueeze", given, rank)
    sizes = iter(shape)
    return tuple(1 if index in axes else next(sizes) for index in range(rank))


def _same(_: Attributes, shape: Shape) -> Shape:
    return shape


def view_nest(_: Attributes, ins: tuple[TensorType, ...], outs: tuple[TensorType, ...]) -> LoopNest:
    """Dimensions are the common refinement of both shapes, for when a view must be copied after
    all (another layout, memory or storage type). Of the dimensions that make up one axis only the
    outermost may be split, so a tile is one run of either axis.
    """
    before, after = ins[0].shape, outs[0].shape
    if before == after:
        access = identity_access(before)
        return LoopNest(Unit.VIEW, point_dims(before), (access,), (access,), lane_ops=0)
    dims: list[Dim] = []
    read: list[Axis] = []
    write: list[Axis] = []
    for old, new in _equal_groups(before, after):
        group_dims, old_axes, new_axes = _refine(old, new, first_dim=len(dims))
        dims += group_dims
        read += old_axes
        write += new_axes
    return LoopNest(Unit.VIEW, tuple(dims), (Access(tuple(read)),), (Access(tuple(write)),), 0)


def _equal_groups(before: Shape, after: Shape) -> list[tuple[Shape, Shape]]:
    """The shortest runs of axes with equal numbers of elements, outermost first."""
    groups: list[tuple[Shape, Shape]] = []
    old_end, new_end = len(before), len(after)
    while old_end or new_end:
        old_start, new_start = max(old_end - 1, 0), max(new_end - 1, 0)
        while prod(before[old_start:old_end]) != prod(after[new_start:new_end]):
            if prod(before[old_start:old_end]) < prod(after[new_start:new_end]):
                old_start -= 1
            else:
                new_start -= 1
        groups.insert(0, (before[old_start:old_end], after[new_start:new_end]))
        old_end, new_end = old_start, new_start
    return groups


def _refine(old: Shape, new: Shape, first_dim: int) -> tuple[list[Dim], list[Axis], list[Axis]]:
    """Shared factors of two groups of axes as dimensions, and both groups in terms of them.

    Groups without such factors ([2, 3] and [3, 2]) follow no loop: they are whole in every tile,
    and one unsplittable dimension counts their elements.
    """
    factors = _common_factors(old, new)
    if factors is None:
        whole = Dim(f"D{first_dim}", prod(old), Role.POINT, splittable=False)
        return [whole], [Axis(size) for size in old], [Axis(size) for size in new]
    names = [f"D{first_dim + index}" for index in range(len(factors))]
    old_axes, old_inner = _axes_over(old, factors, names)
    new_axes, new_inner = _axes_over(new, factors, names)
    inner = old_inner | new_inner
    dims = [
        Dim(name, size, Role.POINT, splittable=name not in inner)
        for name, size in zip(names, factors, strict=True)
    ]
    return dims, old_axes, new_axes


def _common_factors(before: Shape, after: Shape) -> list[int] | None:
    """Sizes, outermost first, whose runs multiply to the axes of both shapes; None if none do."""
    left = [size for size in before if size != 1]
    right = [size for size in after if size != 1]
    factors: list[int] = []
    while left and right:
        factor = min(left[-1], right[-1])
        if left[-1] % factor or right[-1] % factor:
            return None
        factors.insert(0, factor)
        for sizes in (left, right):
            sizes[-1] //= factor
            if sizes[-1] == 1:
                sizes.pop()
    return factors


def _axes_over(shape: Shape, factors: list[int], names: list[str]) -> tuple[list[Axis], set[str]]:
    """Axes of `shape` as runs of factors, and the names that are not outermost in their axis."""
    axes: list[Axis] = []
    inner: set[str] = set()
    position = len(factors)
    for size in reversed(shape):
        terms: list[tuple[str, int]] = []
        step = 1
        while step < size:
            position -= 1
            terms.insert(0, (names[position], step))
            step *= factors[position]
        inner |= {name for name, _ in terms[1:]}
        axes.insert(0, Axis(size, tuple(terms)))
    return axes, inner


def _view(name: str, new_shape: NewShape, attributes: dict[str, Any]) -> OpDef:
    def infer(filled: Attributes, types: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
        one_dtype(name, types)
        return (replace(types[0], shape=new_shape(filled, types[0].shape)),)

    def compute(filled: Attributes, x: np.ndarray) -> tuple[np.ndarray, ...]:
        return (x.reshape(new_shape(filled, x.shape)),)

    return OpDef(
        name=name,
        attributes=attributes,
        operands=(1, 1),
        infer=infer,
        compute=compute,
        int8=Int8Rule.CODES,
        loop_nest=view_nest,
        accumulator_operands=(),
        stage=False,
        lane_ops=0,
    )


RESHAPE = _view("Reshape", _reshaped, {"shape": REQUIRED})
FLATTEN = _view("Flatten", _flattened, {"axis": 1})
SQUEEZE = _view("Squeeze", _squeezed, {"axes": None})  # None: every axis of size 1
UNSQUEEZE = _view("Unsqueeze", _unsqueezed, {"axes": REQUIRED})
IDENTITY = _view("Identity", _same, {})

OPS = (RESHAPE, FLATTEN, SQUEEZE, UNSQUEEZE, IDENTITY)
