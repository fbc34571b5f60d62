"""Which part of a compute tile an op runs on: its type says so, no figure of a profile does.

An op of few products an element keeps the vector units, which its results leave through, busier
than the arrays that it runs on.
"""

from formats.program import KPUOp, KPUProgram

PRODUCTS = ("Conv", "Gemm", "MatMul")


def runs_on_arrays(program: KPUProgram, op: KPUOp) -> bool:
    """Products of matrices and convolutions do, but not those with one input channel per group."""
    return op.op_type in PRODUCTS and not _is_depthwise(program, op)


def _is_depthwise(program: KPUProgram, op: KPUOp) -> bool:
    groups = op.attributes.get("group", 1)
    if op.op_type != "Conv" or len(op.input_ids) < 2 or groups == 1:
        return False
    return program.tensors[op.input_ids[1]].shape[1:2] == (1,)
