"""What the reference engine makes of an op's operands, and how far another order of adding up may
lead from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from formats.program import KPUOp, KPUProgram
from formats.quantized import is_coded
from kpurun.engine.codes import accumulate_codes
from kpurun.engine.reference import staged
from kpurun.engine.storage import keep, multiplies_codes, real_value
from kpurun.loops import resolve
from kpurun.ops import evaluate
from kpurun.plan import plan_of
from kpurun.work import work_of

Values = Mapping[str, np.ndarray]

FP32_ROUNDING = 2.0**-24
FP64_ROUNDING = 2.0**-50
SUMS = frozenset({"Conv", "MatMul", "Gemm"})
MEANS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"})


@dataclass(frozen=True)
class Expected:
    """A result as storage keeps it, and the least and largest that another order may give."""

    value: np.ndarray
    least: np.ndarray
    largest: np.ndarray

    def first_difference(self, found: np.ndarray) -> tuple[int, ...] | None:
        """The first element that is neither the value nor between its bounds."""
        same = (found == self.value) | ((found != found) & (self.value != self.value))
        with np.errstate(invalid="ignore"):
            same |= (found >= self.least) & (found <= self.largest)
        if same.all():
            return None
        return tuple(int(each) for each in np.argwhere(~same)[0])


def expected_of(program: KPUProgram, op: KPUOp, values: Values) -> tuple[Expected, ...]:
    """values: of the op's operands, as the engines keep them."""
    operands = tuple(real_value(program, tensor_id, values) for tensor_id in op.input_ids)
    own = operands[: op.operand_count]
    if multiplies_codes(program, op):
        results: tuple[np.ndarray, ...] = (accumulate_codes(program, op, values),)
    else:
        results = evaluate(op.op_type, op.attributes, own)
    room = _room(program, op, own)
    named = dict(enumerate(operands))
    tensors = [program.tensors[tensor_id] for tensor_id in op.output_ids]

    def kept(result: np.ndarray, number: int) -> np.ndarray:
        return keep(staged(op, result, named) if op.epilogue else result, tensors[number])

    if room is None:
        exact = [kept(result, number) for number, result in enumerate(results)]
        return tuple(Expected(value, value, value) for value in exact)
    (result,) = results
    with np.errstate(invalid="ignore", over="ignore"):
        room = np.where(np.isfinite(result) & np.isfinite(room), room, 0).astype(np.float32)
        ways = [kept(way, 0) for way in (result, result - room, result + room)]
    return (Expected(ways[0], np.minimum.reduce(ways), np.maximum.reduce(ways)),)


def _room(program: KPUProgram, op: KPUOp, own: tuple[np.ndarray, ...]) -> np.ndarray | None:
    """By how much sums in another order may differ; None where they may not: integers, codes whose
    products are integers, and means of codes that one tile adds up.

    n roundings of numbers that add up to m without their signs: about √n · m · 2^-24; four times
    that and a little more, for n that are few.
    """
    if op.op_type not in SUMS | MEANS or own[0].dtype.kind != "f":
        return None
    plan = plan_of(work_of(program, op))
    loops = resolve(plan.work.nest, op.tiling)
    is_split = plan.splits_reduction(loops)
    tensors = [program.tensors[tensor_id] for tensor_id in op.input_ids[:2]]
    unit = FP32_ROUNDING
    if multiplies_codes(program, op):
        if not tensors[1].group_size:
            return None
        unit = FP32_ROUNDING if is_split else FP64_ROUNDING
    elif op.op_type in MEANS and is_coded(tensors[0]) and not is_split:
        return None
    attributes = dict(op.attributes)
    for name in ("alpha", "beta"):
        if name in attributes:
            attributes[name] = abs(attributes[name])
    magnitudes = tuple(np.abs(operand) for operand in own)
    (magnitude,) = evaluate(op.op_type, attributes, magnitudes)
    depth = prod(plan.dims[dim].size for dim in plan.reduced)
    return np.asarray(unit * (8 + 4 * depth**0.5) * magnitude)
