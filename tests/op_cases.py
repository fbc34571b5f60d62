"""One row per op case: an op with attributes and operands, and the PyTorch function it must equal.

Tests of the records, of the engines and of the machine walk over the same rows.
"""

from tests.op_case import OpCase
from tests.op_rows import arithmetic, movement, window

CASES: tuple[OpCase, ...] = (
    *window.CONV_CASES,
    *window.POOL_CASES,
    *arithmetic.PRODUCT_CASES,
    *arithmetic.ELEMENTWISE_CASES,
    *arithmetic.ACTIVATION_CASES,
    *arithmetic.REDUCE_CASES,
    *arithmetic.NORMALISE_CASES,
    *movement.VIEW_CASES,
    *movement.SHAPE_CASES,
    *movement.DATA_CASES,
)
