"""Every op the machine knows, one record each; a record that is not listed here does not exist."""

import numpy as np

from kpurun.ops import (
    activation,
    conv,
    data,
    elementwise,
    matmul,
    normalise,
    pad,
    pool,
    reduce,
    shape,
    view,
)
from kpurun.ops.checks import type_of
from kpurun.ops.opdef import OpDef, complete, infer_types
from kpurun.ops.types import Attributes, OpError

_FAMILIES = (
    conv.OPS,
    matmul.OPS,
    elementwise.OPS,
    activation.OPS,
    pool.OPS,
    reduce.OPS,
    normalise.OPS,
    view.OPS,
    shape.OPS,
    data.OPS,
    pad.OPS,
)

OPS: dict[str, OpDef] = {op.name: op for family in _FAMILIES for op in family}


def op_named(op_type: str) -> OpDef:
    """The record of an op, or OpError."""
    if op_type not in OPS:
        raise OpError(f"there is no op {op_type!r}")
    return OPS[op_type]


def evaluate(
    op_type: str, attributes: Attributes, operands: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """Outputs of one op on arrays: floats as float32 (unrounded to any storage), integers exact.

    Attributes are completed and checked, and so are the operands: OpError names what does not fit.
    """
    op = op_named(op_type)
    arrays = tuple(np.asarray(array) for array in operands)
    infer_types(op, attributes, tuple(type_of(array) for array in arrays))
    as_float32 = tuple(
        array.astype(np.float32, copy=False) if np.issubdtype(array.dtype, np.floating) else array
        for array in arrays
    )
    return op.compute(complete(op, attributes), *as_float32)
