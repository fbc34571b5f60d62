"""Does every op of a program mean something? Checked against the op records before anything runs.

`formats.verify` knows ids, order and addresses; what an op's attributes and types must be, only the
machine knows.
"""

from collections.abc import Iterator, Sequence
from math import prod

from formats.errors import FileError
from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.quantized import CODE_RANGES, is_coded
from kpurun.ops import op_named
from kpurun.ops.loopnest import Unit
from kpurun.ops.opdef import Int8Rule, OpDef, complete, infer_types
from kpurun.ops.types import Attributes, OpError, TensorType
from kpurun.tiles import tiling_problems
from kpurun.work import semantic_type, work_of

MOST_PARTS = 4096  # of one tensor
LARGEST_SUM = 2**31 - 1  # what an accumulator of codes holds


def require_wellformed(program: KPUProgram) -> None:
    """FileError that names the first op which does not fit its operands or results."""
    for problem in problems(program):
        raise FileError(f"{program.name}: {problem}")


def problems(program: KPUProgram) -> Iterator[str]:
    """What is wrong with the program's ops and interface, one sentence each."""
    names = [tensor.name for tensor in program.get_output_tensors()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"two outputs are named {name!r}"
    for op in program.get_ops_in_order():
        try:
            _check(program, op)
        except OpError as error:
            yield f"op {op.id} ({op.op_type}): {error}"
            return
    yield from _shared_bytes(program)


def _shared_bytes(program: KPUProgram) -> Iterator[str]:
    """Of a tensor that has parts, every byte is written once: by the op that makes the tensor or
    one of its parts, unless that op only renames what is there."""
    whole = {tensor.alias_of for tensor in program.tensors.values() if tensor.starts}
    written: dict[str, list[KPUTensor]] = {root: [] for root in whole if root is not None}
    for root in written:
        if program.tensors[root].is_input or program.tensors[root].is_weight:
            written[root].append(program.tensors[root])
    for op in program.get_ops_in_order():
        made = [program.tensors[tensor_id] for tensor_id in op.output_ids]
        made = [tensor for tensor in made if (tensor.alias_of or tensor.id) in written]
        if not made or work_of(program, op).nest.unit is Unit.VIEW:
            continue
        for tensor in made:
            before = written[tensor.alias_of or tensor.id]
            for other in before:
                if _share_elements(tensor, other):
                    yield f"op {op.id} ({op.op_type}): writes {tensor.id!r} over {other.id!r}"
            before.append(tensor)
            if len(before) > MOST_PARTS:
                yield f"tensor {tensor.alias_of!r} is made of more than {MOST_PARTS} parts"
                return


def _share_elements(one: KPUTensor, other: KPUTensor) -> bool:
    """Whether boxes of one tensor overlap; whoever is no box has all of it."""
    if not (one.starts and other.starts):
        return True
    return all(
        a < b + length and b < a + size
        for a, size, b, length in zip(one.starts, one.shape, other.starts, other.shape, strict=True)
    )


def _check(program: KPUProgram, op: KPUOp) -> None:
    record = op_named(op.op_type)
    operands = _types(program, op.input_ids)
    results = infer_types(record, op.attributes, operands[: op.operand_count])
    if op.epilogue:
        results = (_after_epilogue(op, results, operands),)
    found = _types(program, op.output_ids)
    if results != found:
        raise OpError(f"gives {_text(results)}, but its outputs are {_text(found)}")
    _check_codes(record, op, [program.tensors[tensor_id] for tensor_id in op.input_ids])
    _check_tiling(program, op)


def _check_tiling(program: KPUProgram, op: KPUOp) -> None:
    """Of tiles that cannot be executed an estimate means nothing; a view has none."""
    if op.tiling is None:
        return
    work = work_of(program, op)
    if work.nest.unit is Unit.VIEW:
        return
    for problem in tiling_problems(work, op.tiling):
        raise OpError(problem)


def _check_codes(record: OpDef, op: KPUOp, operands: Sequence[KPUTensor]) -> None:
    """Scales of channels are where a product can apply them, and sums of codes fit 32 bits."""
    multiplies = record.int8 is Int8Rule.KERNEL
    of_stages = {stage.operand for stage in op.epilogue}
    for index, tensor in enumerate(operands):
        is_factor = multiplies and index == 1 and index < op.operand_count
        is_read = index < op.operand_count or index in of_stages
        if tensor.scales is not None and is_read and not is_factor:
            raise OpError(
                f"operand {tensor.id!r} has scales of channels, which only the second factor of a "
                "Conv, Gemm or MatMul may have"
            )
    if not multiplies:
        return
    attributes = complete(record, op.attributes)
    first, second = operands[:2]
    channels = _channel_axis(record, attributes, second)
    if second.scales is not None and second.scale_axis != channels:
        where = "it has none" if channels is None else f"they are axis {channels}"
        raise OpError(
            f"the scales of {second.id!r} follow its axis {second.scale_axis}, not the channels of "
            f"the output: {where}"
        )
    if is_coded(first) and is_coded(second):
        _check_sum(_depth(record, attributes, first, second), first, second)


def _channel_axis(record: OpDef, attributes: Attributes, factor: KPUTensor) -> int | None:
    """The axis of the second factor that the output's channels (or columns) come from."""
    if record.name == "Conv":
        return 0
    if record.name == "Gemm":
        return 0 if attributes["transB"] else 1
    return len(factor.shape) - 1 if len(factor.shape) > 1 else None


def _depth(record: OpDef, attributes: Attributes, first: KPUTensor, second: KPUTensor) -> int:
    """How many products one sum of an output adds up."""
    if record.name == "Conv":
        return prod(second.shape[1:])
    return first.shape[0 if attributes.get("transA") else -1]


def _check_sum(depth: int, first: KPUTensor, second: KPUTensor) -> None:
    """The codes of a group are summed on their own."""
    products = min(depth, second.group_size or depth)
    most = LARGEST_SUM // (_magnitude(first) * _magnitude(second))
    if products > most:
        raise OpError(
            f"sums {products:,} products of {first.dtype.value} and {second.dtype.value} codes, "
            f"but 32 bits hold {most:,}"
        )


def _magnitude(tensor: KPUTensor) -> int:
    """The largest distance of a code from the zero point."""
    low, high = CODE_RANGES[tensor.dtype]
    zero = tensor.zero_point or 0
    return max(zero - low, high - zero)


def _after_epilogue(
    op: KPUOp, results: tuple[TensorType, ...], operands: tuple[TensorType, ...]
) -> TensorType:
    if len(results) != 1:
        raise OpError("only an op with one output can have an epilogue")
    (accumulator,) = results
    for stage in op.epilogue:
        record = op_named(stage.op_type)
        if not record.stage:
            raise OpError(f"{stage.op_type} cannot be a stage of an epilogue")
        if stage.operand is not None and not op.operand_count <= stage.operand < len(operands):
            raise OpError(f"operand {stage.operand} of its stage {stage.op_type} does not exist")
        pair = [accumulator]
        if stage.operand is not None:
            pair.insert(1 - stage.accumulator_side, operands[stage.operand])
        (result,) = infer_types(record, stage.attributes, tuple(pair))
        if result != accumulator:
            raise OpError(f"its stage {stage.op_type} would change {_text([accumulator])}")
    return accumulator


def _types(program: KPUProgram, tensor_ids: Sequence[str]) -> tuple[TensorType, ...]:
    """Semantic types: every float and every quantised tensor is FP32."""
    return tuple(semantic_type(program.tensors[tensor_id]) for tensor_id in tensor_ids)


def _text(types: Sequence[TensorType]) -> str:
    return ", ".join(f"{type_.dtype.value} {list(type_.shape)}" for type_ in types)
