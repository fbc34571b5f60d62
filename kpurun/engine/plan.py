"""A program prepared for the fast engine: kernels chosen and weights packed once, values in slots.

Everything that does not depend on the inputs is decided here, at load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from formats.precision import FLOAT_DTYPES, DType
from formats.program import KPUOp, KPUProgram, KPUTensor
from formats.quantized import is_coded
from kpurun.engine.arithmetic import ABSENT, HALF_DTYPES, owned_tensor
from kpurun.engine.coded import prepare_coded
from kpurun.engine.compose import Run, compose, is_watched
from kpurun.engine.kernel import Prepared, Site
from kpurun.engine.kernels import ANY_DTYPE, KERNELS, SELECTIONS, prepare_by_record
from kpurun.engine.places import Places
from kpurun.engine.storage import is_finite
from kpurun.ops import OPS
from kpurun.ops.opdef import complete


@dataclass(frozen=True)
class Step:
    """One op. reads, writes and releases are slots; releases are read here for the last time.

    watched: the result may be infinite or NaN although no operand is, so `run` tells its sum.
    """

    op: KPUOp
    run: Run
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


def make_plan(
    program: KPUProgram, constants: Mapping[str, np.ndarray], integer_kernels: bool
) -> Plan:
    """constants: decoded weights by tensor id; integer_kernels: whether oneDNN's may be used."""
    ops = program.get_ops_in_order()
    slots = {tensor_id: index for index, tensor_id in enumerate(program.tensors)}
    steps, still_read = [], {*program.output_ids}
    tensors, readers = dict(program.tensors), _readers(ops)
    unshared = _unshared(ops, readers)
    places = Places()
    for op, released in zip(ops, _releases(ops, {*program.output_ids, *constants}), strict=True):
        overwritable = _overwritable(op, unshared.intersection(released))
        site = replace(
            _site(op, tensors, constants),  # the only copy of its weights, gone once packed
            in_order=_is_wanted_in_order(program, op, readers),
            overwritable=overwritable,
            place=places.take(op, tensors, overwritable)
            if unshared.issuperset(op.output_ids)
            else None,
        )
        places.release(released)
        tensors |= _narrowed(site)
        done = _prepare(program, site, constants, integer_kernels)
        step = Step(
            op=op,
            run=compose(site, done, constants),
            reads=tuple(slots[tensor_id] for tensor_id in op.input_ids),
            writes=tuple(slots[tensor_id] for tensor_id in op.output_ids),
            releases=tuple(slots[tensor_id] for tensor_id in released),
            watched=is_watched(site, done, constants),
            drops_nan=done.drops_nan,
        )
        steps.append(step)
        still_read.update(_read_at_run(op, done))
    return Plan(
        steps=tuple(steps),
        initial=tuple(
            owned_tensor(constants[i]) if i in constants and i in still_read else ABSENT
            for i in program.tensors
        ),
        slots=slots,
        nonfinite_constants=frozenset(i for i, array in constants.items() if not is_finite(array)),
    )


def _read_at_run(op: KPUOp, done: Prepared) -> set[str]:
    """Operands that the kernel does not hold itself; scales it has seen at load."""
    last = op.operand_count + sum(stage.operand is not None for stage in op.epilogue)
    return {i for index, i in enumerate(op.input_ids[:last]) if index not in done.absorbed}


def _site(op: KPUOp, tensors: Mapping[str, KPUTensor], constants: Mapping[str, np.ndarray]) -> Site:
    own = op.input_ids[: op.operand_count]
    return Site(
        op=op,
        attributes=complete(OPS[op.op_type], op.attributes),
        shapes=tuple(tensors[tensor_id].shape for tensor_id in own),
        output_shapes=tuple(tensors[tensor_id].shape for tensor_id in op.output_ids),
        constants={
            index: owned_tensor(constants[key]) for index, key in enumerate(own) if key in constants
        },
        inputs=tuple(tensors[tensor_id] for tensor_id in op.input_ids),
        outputs=tuple(tensors[tensor_id] for tensor_id in op.output_ids),
    )


def _readers(ops: Sequence[KPUOp]) -> dict[str, set[str]]:
    """The types of the ops that read each tensor."""
    readers: dict[str, set[str]] = {}
    for op in ops:
        for tensor_id in op.input_ids:
            readers.setdefault(tensor_id, set()).add(op.op_type)
    return readers


def _unshared(ops: Sequence[KPUOp], readers: Mapping[str, set[str]]) -> frozenset[str]:
    """Values that are no view and have none: only convolutions make them and read them."""
    made = (tensor_id for op in ops if op.op_type == "Conv" for tensor_id in op.output_ids)
    return frozenset(i for i in made if readers.get(i) == {"Conv"})


def _overwritable(op: KPUOp, unshared: frozenset[str]) -> frozenset[int]:
    """Operands that the op reads last, and once."""
    ids = op.input_ids
    return frozenset(k for k, i in enumerate(ids) if i in unshared and ids.count(i) == 1)


def _narrowed(site: Site) -> dict[str, KPUTensor]:
    """Results kept as fp32 that are elements of halves: as halves, which need no rounding later."""
    kinds = {tensor.dtype for tensor in site.inputs}
    is_wider = all(tensor.dtype is DType.FP32 for tensor in site.outputs)
    is_moved = site.op.op_type in SELECTIONS and not site.op.epilogue
    if not is_moved or not is_wider or len(kinds) != 1:
        return {}
    (dtype,) = kinds
    return {x.id: replace(x, dtype=dtype) for x in site.outputs} if dtype in HALF_DTYPES else {}


def _is_wanted_in_order(program: KPUProgram, op: KPUOp, readers: Mapping[str, set[str]]) -> bool:
    """An output leaves in the order of its shape; convolutions want it channels-last."""
    (first, *_) = op.output_ids
    return first in program.output_ids and "Conv" not in readers.get(first, {"Conv"})


def _prepare(
    program: KPUProgram, site: Site, constants: Mapping[str, np.ndarray], integer_kernels: bool
) -> Prepared:
    """The kernel of one op: torch's for floats, the record's own function for integers."""
    op_type, touched = site.op.op_type, (*site.inputs, *site.outputs)
    if any(map(is_coded, touched)):
        return prepare_coded(program, site, constants, integer_kernels)
    all_floats = all(tensor.dtype in FLOAT_DTYPES for tensor in touched)
    if all_floats or (op_type in ANY_DTYPE and not site.op.epilogue):
        return KERNELS[op_type](site)
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
