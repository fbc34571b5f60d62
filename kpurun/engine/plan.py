"""A program prepared for the fast engine: kernels chosen and weights packed once, values in slots.

Everything that does not depend on the inputs is decided here, at load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from formats.precision import FLOAT_DTYPES, DType
from formats.program import KPUOp, KPUProgram
from kpurun.engine.arithmetic import ABSENT, HALF_DTYPES, owned_tensor, round_in_place, rounded
from kpurun.engine.kernel import Kernel, Prepared, Site
from kpurun.engine.kernels import ANY_DTYPE, KERNELS, SELECTIONS, prepare_by_record
from kpurun.engine.stages import Stage, prepare_stage
from kpurun.engine.storage import is_finite
from kpurun.ops import OPS
from kpurun.ops.opdef import complete


@dataclass(frozen=True)
class Step:
    """One op. reads, writes and releases are slots; releases are read here for the last time.

    watched: the result may be infinite or NaN although no operand is.
    """

    op: KPUOp
    run: Kernel
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    releases: tuple[int, ...]
    watched: bool
    drops_nan: bool


@dataclass(frozen=True)
class Plan:
    """Steps in order over slots; `initial` holds the constants that some step reads."""

    steps: tuple[Step, ...]
    initial: tuple[Tensor, ...]
    slots: Mapping[str, int]
    nonfinite_constants: frozenset[str]


def make_plan(program: KPUProgram, constants: Mapping[str, np.ndarray]) -> Plan:
    """constants: decoded weights by tensor id."""
    ops = program.get_ops_in_order()
    tensors = {tensor_id: owned_tensor(array) for tensor_id, array in constants.items()}
    slots = {tensor_id: index for index, tensor_id in enumerate(program.tensors)}
    prepared = [_prepare(program, op, tensors) for op in ops]
    releases = _releases(ops, kept={*program.output_ids, *constants})
    steps = tuple(
        Step(
            op=op,
            run=_composed(program, op, done),
            reads=tuple(slots[tensor_id] for tensor_id in op.input_ids),
            writes=tuple(slots[tensor_id] for tensor_id in op.output_ids),
            releases=tuple(slots[tensor_id] for tensor_id in released),
            watched=op.op_type not in SELECTIONS or bool(op.epilogue),
            drops_nan=done.drops_nan,
        )
        for op, done, released in zip(ops, prepared, releases, strict=True)
    )
    still_read = {
        tensor_id
        for op, done in zip(ops, prepared, strict=True)
        for index, tensor_id in enumerate(op.input_ids)
        if index not in done.absorbed
    }
    initial = {i: tensors[i] for i in tensors if i in still_read or i in program.output_ids}
    return Plan(
        steps=steps,
        initial=tuple(initial.get(tensor_id, ABSENT) for tensor_id in program.tensors),
        slots=slots,
        nonfinite_constants=frozenset(i for i, array in constants.items() if not is_finite(array)),
    )


def _prepare(program: KPUProgram, op: KPUOp, constants: Mapping[str, Tensor]) -> Prepared:
    """The kernel of one op: torch's for floats, the record's own function for integers."""
    touched = [program.tensors[tensor_id] for tensor_id in (*op.input_ids, *op.output_ids)]
    own = op.input_ids[: op.operand_count]
    site = Site(
        op=op,
        attributes=complete(OPS[op.op_type], op.attributes),
        shapes=tuple(program.tensors[tensor_id].shape for tensor_id in own),
        output_shapes=tuple(program.tensors[tensor_id].shape for tensor_id in op.output_ids),
        constants={index: constants[key] for index, key in enumerate(own) if key in constants},
    )
    all_floats = all(tensor.dtype in FLOAT_DTYPES for tensor in touched)
    if all_floats or (op.op_type in ANY_DTYPE and not op.epilogue):
        return KERNELS[op.op_type](site)
    return prepare_by_record(site)


def _releases(ops: Sequence[KPUOp], kept: set[str]) -> list[tuple[str, ...]]:
    """For each op the values that it touches last."""
    last_touch = {
        tensor_id: index
        for index, op in enumerate(ops)
        for tensor_id in (*op.input_ids, *op.output_ids)
        if tensor_id not in kept
    }
    return [
        tuple(tensor_id for tensor_id, last in last_touch.items() if last == index)
        for index in range(len(ops))
    ]


def _composed(program: KPUProgram, op: KPUOp, done: Prepared) -> Kernel:
    """The kernel, the stages it leaves, and the one rounding, as one function."""
    stages = [prepare_stage(stage) for stage in op.epilogue[done.stages_done :]]
    dtypes = [program.tensors[tensor_id].dtype for tensor_id in op.output_ids]
    if stages:
        return _with_stages(done, op.operand_count, stages, dtypes[0])
    if _needs_no_rounding(program, op, dtypes):
        return done.kernel
    store = round_in_place if done.owns_results else rounded
    return lambda operands: [
        store(result, dtype) for result, dtype in zip(done.kernel(operands), dtypes, strict=True)
    ]


def _with_stages(
    done: Prepared, operand_count: int, stages: Sequence[Stage], dtype: DType
) -> Kernel:
    def run(operands: Sequence[Tensor]) -> Sequence[Tensor]:
        (accumulator,) = done.kernel(operands[:operand_count])
        if not done.owns_results:
            accumulator = accumulator.clone()
        for stage in stages:
            accumulator = stage(accumulator, operands)
        return (round_in_place(accumulator, dtype),)

    return run


def _needs_no_rounding(program: KPUProgram, op: KPUOp, dtypes: Sequence[DType]) -> bool:
    if not any(dtype in HALF_DTYPES for dtype in dtypes):
        return True
    sources = {program.tensors[tensor_id].dtype for tensor_id in op.input_ids}
    return op.op_type in SELECTIONS and not op.epilogue and sources & FLOAT_DTYPES == set(dtypes)
