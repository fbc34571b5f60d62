"""One op as the machine sees it: its loop nest with the place, width and layout of every operand.

The timing model reads nothing else, so the compiler can cost an op before a program exists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import add
from typing import Any

from formats.precision import FLOAT_DTYPES, DType, KPUPrecision
from formats.program import EpilogueStage, KPUOp, KPUProgram, KPUTensor, MemoryType
from kpurun.ops import op_named
from kpurun.ops.loopnest import Access, Axis, LoopNest, Unit
from kpurun.ops.nests import broadcast_access, shifts
from kpurun.ops.opdef import complete
from kpurun.ops.types import OpError, TensorType

CLAMPS = frozenset({"Relu", "Clip"})  # between two bounds, or one


@dataclass(frozen=True)
class Operand:
    """A tensor as one op touches it. `format` is "NCHW" or "NHWC" (see MemoryLayout)."""

    tensor_id: str
    access: Access
    shape: tuple[int, ...]
    dtype: DType
    memory_type: MemoryType
    format: str = "NCHW"
    is_weight: bool = False
    container: tuple[int, ...] | None = None  # shape of what it is a box of
    starts: tuple[int, ...] = ()  # where it begins in that


@dataclass(frozen=True)
class Work:
    """One op to be tiled, timed and costed.

    `reads` are the op's operands, then its epilogue's; `epilogue_lane_ops` is the vector work per
    output element on the drain edge (bias, activation, residual, conversion).
    """

    nest: LoopNest
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]
    precision: KPUPrecision
    epilogue_lane_ops: int = 0


@dataclass(frozen=True)
class Placed:
    """A tensor before an op touches it: its semantic type, and how and where it is stored."""

    tensor_id: str
    type: TensorType
    dtype: DType
    memory_type: MemoryType
    format: str = "NCHW"
    is_weight: bool = False
    code: tuple[float, int] | None = None  # scale and zero point of a tensor with one scale
    scale_axis: int | None = None  # of a weight with many scales: the axis that they follow
    root: str | None = None  # the tensor whose bytes it has, once that is decided
    container: tuple[int, ...] = ()  # shape of that tensor
    starts: tuple[int, ...] | None = None  # of a box in it, where that begins


def build_work(
    op_type: str,
    attributes: Mapping[str, Any],
    epilogue: Sequence[EpilogueStage],
    reads: Sequence[Placed],
    writes: Sequence[Placed],
    precision: KPUPrecision,
    operand_count: int | None = None,
) -> Work:
    """The work of one op on placed tensors; `reads` are its own operands, then its epilogue's, then
    the scales of its own.

    operand_count: how many are its own; None: those before the first that a stage reads.
    OpError if an epilogue operand does not broadcast to the output or an attribute is unknown.
    """
    op = op_named(op_type)
    own = reads[: _own_count(epilogue, len(reads)) if operand_count is None else operand_count]
    in_types = tuple(placed.type for placed in own)
    out_types = tuple(placed.type for placed in writes)
    nest = op.loop_nest(complete(op, attributes), in_types, out_types)
    nest = _on_its_unit(nest, own, writes, computes=bool(epilogue))
    scaled = iter([i for i, placed in enumerate(own) if placed.scale_axis is not None])
    of_stages = {stage.operand for stage in epilogue}
    accesses = nest.reads + tuple(
        _epilogue_access(placed, nest)
        if index in of_stages
        else _scales_access(placed, own, nest, next(scaled))
        for index, placed in enumerate(reads[len(own) :], len(own))
    )
    return Work(
        nest=nest,
        reads=tuple(map(_touched, reads, accesses)),
        writes=tuple(map(_touched, writes, nest.writes)),
        precision=precision,
        epilogue_lane_ops=_drain_lane_ops(nest, own, epilogue, writes[0]),
    )


def work_of(program: KPUProgram, op: KPUOp) -> Work:
    """The work of an op of a program, read from the tensors it names."""
    return build_work(
        op.op_type,
        op.attributes,
        op.epilogue,
        [_placed(program, program.tensors[tensor_id]) for tensor_id in op.input_ids],
        [_placed(program, program.tensors[tensor_id]) for tensor_id in op.output_ids],
        op.precision or program.precision,
        op.operand_count or None,
    )


def semantic_type(tensor: KPUTensor) -> TensorType:
    """What the tensor means: FP32 for every float and every quantised tensor."""
    means_float = tensor.dtype in FLOAT_DTYPES or tensor.is_quantized
    return TensorType(tensor.shape, DType.FP32 if means_float else tensor.dtype)


def _own_count(epilogue: Sequence[EpilogueStage], read_count: int) -> int:
    stage_operands = [stage.operand for stage in epilogue if stage.operand is not None]
    return min(stage_operands, default=read_count)


def _placed(program: KPUProgram, tensor: KPUTensor) -> Placed:
    root = program.tensors[tensor.alias_of or tensor.id]
    return Placed(
        tensor_id=tensor.id,
        type=semantic_type(tensor),
        dtype=tensor.dtype,
        memory_type=tensor.layout.memory_type,
        format=tensor.layout.format,
        is_weight=tensor.is_weight,
        code=None if tensor.scale is None else (tensor.scale, tensor.zero_point or 0),
        scale_axis=None if tensor.scales is None else tensor.scale_axis,
        root=root.id,
        container=root.shape,
        starts=tensor.starts or None,
    )


def _touched(placed: Placed, access: Access) -> Operand:
    return Operand(
        tensor_id=placed.tensor_id,
        access=access,
        shape=placed.type.shape,
        dtype=placed.dtype,
        memory_type=placed.memory_type,
        format=placed.format,
        is_weight=placed.is_weight,
        container=None if placed.starts is None else placed.container,
        starts=placed.starts or (),
    )


def _on_its_unit(
    nest: LoopNest, own: Sequence[Placed], writes: Sequence[Placed], computes: bool
) -> LoopNest:
    """The nest on the unit that must execute it: moving data is free of lanes, and a view free of
    everything, only while the elements keep their representation (and, for a view, their place).
    """
    if nest.unit not in (Unit.VIEW, Unit.MOVE):
        return nest
    if computes or _converts(own, writes):
        return replace(nest, unit=Unit.VECTOR, lane_ops=0)
    if nest.unit is Unit.VIEW and not _is_same_bytes(own[0], writes[0]):
        return replace(nest, unit=Unit.MOVE)
    if nest.unit is Unit.MOVE and _are_same_places(nest, (*own, *writes)):
        return replace(nest, unit=Unit.VIEW)
    return nest


def _converts(own: Sequence[Placed], writes: Sequence[Placed]) -> bool:
    """Float elements are stored unlike on one side of the op and on the other."""
    moved = {(placed.dtype, placed.code) for placed in (*own, *writes) if placed.type.is_float}
    return len(moved) > 1


def _is_same_bytes(source: Placed, view: Placed) -> bool:
    """In the same place and order; channels last, only an unchanged shape keeps the order."""
    in_place = source.memory_type is view.memory_type and source.format == view.format
    is_apart = None not in (source.root, view.root) and source.root != view.root
    if not in_place or is_apart or source.starts != view.starts:
        return False
    keeps_order = view.format == "NCHW" and source.starts is None
    return keeps_order or source.type.shape == view.type.shape


def _are_same_places(nest: LoopNest, operands: Sequence[Placed]) -> bool:
    """Every point of the nest names one byte of one tensor, whichever operand it is looked for in:
    parts of it are joined or cut where they lie."""
    shifted = shifts(nest)
    if shifted is None or len({operand.root for operand in operands} - {None}) != 1:
        return False
    if None in (operand.root for operand in operands):
        return False
    origins = {
        tuple(map(add, operand.starts or [0] * len(shift), shift))
        for operand, shift in zip(operands, shifted, strict=True)
    }
    ranks = {len(operand.container) for operand in operands}
    return len(origins) == 1 and ranks == {len(nest.dims)}


def _epilogue_access(placed: Placed, nest: LoopNest) -> Access:
    """An epilogue operand follows the output, broadcast where its axes have size 1."""
    output = nest.writes[0]
    output_shape = tuple(axis.size for axis in output.axes)
    shape = placed.type.shape
    aligned = output_shape[len(output_shape) - len(shape) :]
    fits = len(shape) <= len(output_shape) and all(
        size in (1, whole) for size, whole in zip(shape, aligned, strict=True)
    )
    if not fits:
        raise OpError(
            f"an epilogue operand of shape {list(shape)} does not broadcast to the output "
            f"{list(output_shape)}"
        )
    return broadcast_access(shape, output)


def _scales_access(scales: Placed, own: Sequence[Placed], nest: LoopNest, index: int) -> Access:
    """The scales of own operand `index` follow its axis; the groups of a row are all needed."""
    axis = own[index].scale_axis
    assert axis is not None, "only weights with scales are asked for theirs"
    groups = (Axis(size) for size in scales.type.shape[1:])
    return Access((nest.reads[index].axes[axis], *groups))


def _drain_lane_ops(
    nest: LoopNest, own: Sequence[Placed], epilogue: Sequence[EpilogueStage], output: Placed
) -> int:
    """Lane operations per output element after the reduction: what the op itself does on the drain
    edge (scale and bias are one multiply-add) and its stages.

    What leaves a lane is rounded to its storage and clamped between two bounds of that storage on
    the way: the conversion is free beside any other operation, and so is a last Relu or Clip, as
    rounding keeps the order of values (clamping before it or after it gives the same).
    """
    if nest.unit in (Unit.VIEW, Unit.MOVE):
        return 0
    own_ops = nest.lane_ops if nest.unit is Unit.SYSTOLIC else 0
    if any(placed.scale_axis is not None for placed in own):
        own_ops = max(own_ops, 1)
    clamps = bool(epilogue) and epilogue[-1].op_type in CLAMPS
    stages = epilogue[:-1] if clamps else epilogue
    drain_ops = own_ops + sum(op_named(stage.op_type).lane_ops for stage in stages)
    works = drain_ops > 0 or (nest.unit is Unit.VECTOR and nest.lane_ops > 0)
    converts = clamps or (output.type.is_float and output.dtype != DType.FP32)
    return drain_ops if works else int(converts)
