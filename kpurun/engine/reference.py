"""What a program computes, by definition: numpy, one op after another, one rounding each.

Slow and obviously right; the other engines are held against it.
"""

from collections.abc import Mapping

import numpy as np

from formats.program import EpilogueStage, KPUOp, KPUProgram
from kpurun.engine.codes import accumulate_codes
from kpurun.engine.storage import (
    EngineResult,
    is_finite,
    keep,
    multiplies_codes,
    real_value,
    weight_values,
)
from kpurun.ops import evaluate


def run(program: KPUProgram, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs by tensor id: float32 or exact integers. `inputs` are all inputs by tensor id."""
    return dict(execute(program, inputs).outputs)


def execute(program: KPUProgram, inputs: Mapping[str, np.ndarray]) -> EngineResult:
    """As `run`, with the first op whose result is not finite although its operands are."""
    values = weight_values(program)
    for tensor in program.get_input_tensors():
        values[tensor.id] = keep(inputs[tensor.id], tensor)
    overflowed = None
    for op in program.get_ops_in_order():
        operands = tuple(real_value(program, tensor_id, values) for tensor_id in op.input_ids)
        results = _results(program, op, operands, values)
        stored = {
            tensor_id: keep(result, program.tensors[tensor_id])
            for tensor_id, result in zip(op.output_ids, results, strict=True)
        }
        values.update(stored)
        if overflowed is None and all(map(is_finite, operands)):
            made = (*results, *stored.values())
            overflowed = None if all(map(is_finite, made)) else op
    outputs = {i: real_value(program, i, values) for i in program.output_ids}
    return EngineResult(outputs, overflowed)


def _results(
    program: KPUProgram,
    op: KPUOp,
    operands: tuple[np.ndarray, ...],
    values: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, ...]:
    if multiplies_codes(program, op):
        return (staged(op, accumulate_codes(program, op, values), dict(enumerate(operands))),)
    return accumulate(op, operands)


def accumulate(op: KPUOp, operands: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Unrounded results of one op with its epilogue, in float32 (integers exact).

    operands: the op's own, then its epilogue's, as `input_ids` names them.
    """
    results = evaluate(op.op_type, op.attributes, operands[: op.operand_count])
    if not op.epilogue:
        return results
    (accumulator,) = results
    return (staged(op, accumulator, dict(enumerate(operands))),)


def staged(op: KPUOp, accumulator: np.ndarray, operands: Mapping[int, np.ndarray]) -> np.ndarray:
    """The accumulator after the stages of the op's epilogue; operands: by their index in the op."""
    for stage in op.epilogue:
        accumulator = _apply(stage, accumulator, operands)
    return accumulator


def _apply(
    stage: EpilogueStage, accumulator: np.ndarray, operands: Mapping[int, np.ndarray]
) -> np.ndarray:
    if stage.operand is None:
        (result,) = evaluate(stage.op_type, stage.attributes, (accumulator,))
        return result
    pair = (accumulator, operands[stage.operand])
    ordered = pair if stage.accumulator_side == 0 else pair[::-1]
    (result,) = evaluate(stage.op_type, stage.attributes, ordered)
    return result
