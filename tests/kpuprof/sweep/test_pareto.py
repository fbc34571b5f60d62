"""The front, and the area that is one of its three objectives."""

import pytest

from formats.config import KPUConfig
from formats.schema import override
from kpuprof.sweep.area import INT8_MAC, LANE, SRAM_KIB, area_proxy
from kpuprof.sweep.pareto import on_front
from tests.kpuprof.sweep.results import result


def front(**objectives):
    return sorted(on_front([("net", result(key, each)) for key, each in objectives.items()]))


def test_what_is_best_in_one_objective_is_on_the_front():
    assert front(a=(1, 9, 9), b=(9, 1, 9), c=(9, 9, 1), d=(9, 9, 9)) == ["a", "b", "c"]


def test_what_is_beaten_in_one_and_equal_in_the_others_is_not():
    assert front(a=(1, 1, 1), b=(1, 1, 2)) == ["a"]


def test_equals_are_both_on_the_front():
    assert front(a=(1, 2, 3), b=(1, 2, 3)) == ["a", "b"]


def test_a_refused_machine_beats_nothing():
    assert front(a=None, b=(1, 1, 1)) == ["b"]


def test_every_model_has_its_own_front():
    slow, quick = result("slow", (9, 9, 9)), result("quick", (1, 1, 1))
    assert on_front([("large", slow), ("small", quick)]) == {"slow", "quick"}


def test_the_area_of_the_documents_machine():
    """INT8: 64 · 34 + 32 · 28 = 3072 transistors. FP16: 121 · 34 + 24 · 28 = 4786, at half rate.
    Lane: 576 · 34 + 24 · 28 = 20256. A KiB: 8192 · 6 = 49152."""
    arrays = 4096 * (3072 + 4786 / 2)
    lanes, sram = 256 * 20256, (256 + 2048) * 49152
    assert area_proxy(KPUConfig()) == pytest.approx((arrays + lanes + sram) / 3072)
    assert (INT8_MAC, SRAM_KIB, LANE) == (3072, 16, 20256 / 3072)


def test_a_machine_without_floats_has_no_float_units():
    """4096 elements, each without 4786 / 2 transistors."""
    without = override(KPUConfig(), "supported_precisions=int8")
    saved = area_proxy(KPUConfig()) - area_proxy(without)
    assert saved == pytest.approx(4096 * 4786 / 2 / 3072)
