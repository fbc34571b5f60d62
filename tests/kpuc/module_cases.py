"""One row per model case: a small module and its inputs, compared to eager PyTorch everywhere."""

from tests.kpuc.case_rows import linear, movement, pointwise, reduction, window
from tests.kpuc.module_case import ModuleCase, RefusedCase

CASES: tuple[ModuleCase, ...] = (
    *linear.CASES,
    *pointwise.CASES,
    *window.CASES,
    *movement.CASES,
    *reduction.CASES,
)

REFUSED: tuple[RefusedCase, ...] = (
    *linear.REFUSED,
    *pointwise.REFUSED,
    *window.REFUSED,
    *movement.REFUSED,
    *reduction.REFUSED,
)
