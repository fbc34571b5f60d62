"""Does every op of a program mean something? Checked against the op records before anything runs.

`formats.verify` knows ids, order and addresses; what an op's attributes and types must be, only the
machine knows.
"""

from collections.abc import Iterator, Sequence

from formats.errors import FileError
from formats.precision import FLOAT_DTYPES, DType
from formats.program import KPUOp, KPUProgram
from kpurun.ops import op_named
from kpurun.ops.opdef import infer_types
from kpurun.ops.types import OpError, TensorType


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


def _check(program: KPUProgram, op: KPUOp) -> None:
    operands = _types(program, op.input_ids)
    results = infer_types(op_named(op.op_type), op.attributes, operands[: op.operand_count])
    if op.epilogue:
        results = (_after_epilogue(op, results, operands),)
    found = _types(program, op.output_ids)
    if results != found:
        raise OpError(f"gives {_text(results)}, but its outputs are {_text(found)}")


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
    """Semantic types: every float is FP32."""
    tensors = [program.tensors[tensor_id] for tensor_id in tensor_ids]
    return tuple(
        TensorType(tensor.shape, DType.FP32 if tensor.dtype in FLOAT_DTYPES else tensor.dtype)
        for tensor in tensors
    )


def _text(types: Sequence[TensorType]) -> str:
    return ", ".join(f"{type_.dtype.value} {list(type_.shape)}" for type_ in types)
