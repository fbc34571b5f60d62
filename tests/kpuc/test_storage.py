"""How the values of a graph are stored: one record, and the codes of its constants."""

import numpy as np
import pytest

from formats.precision import DType, KPUPrecision
from kpuc.graph import Graph, Node
from kpuc.storage import QuantParams, Storage
from kpurun.ops.types import TensorType

WEIGHT = np.float32([[0.5, -1.0, 1.5], [10.0, 2.5, -20.0]])


def graph_of(**constants: np.ndarray) -> Graph:
    types = {name: TensorType(array.shape) for name, array in constants.items()}
    return Graph("g", (), (), (), types, constants)


def encoded(dtype: DType, params: QuantParams | None = None, **constants: np.ndarray) -> list:
    storage = Storage(KPUPrecision.INT8, {"w": dtype}, {} if params is None else {"w": params})
    return storage.encoded(graph_of(**{"w": WEIGHT, **constants}), "w").tolist()


def test_a_constant_without_codes_is_rounded():
    assert encoded(DType.FP16) == WEIGHT.tolist()


def test_one_scale_is_for_all():
    # in steps of 0.5; 40 and -80 are still codes
    assert encoded(DType.INT8, QuantParams(0.5)) == [[1, -2, 3], [20, 5, -40]]


def test_a_zero_point_moves_the_codes():
    assert encoded(DType.UINT8, QuantParams(0.5, 50)) == [[51, 48, 53], [70, 55, 10]]


def test_every_channel_has_its_scale():
    params = QuantParams(scales="s", scale_axis=0)
    # in steps of 0.5 and of 5: 2.5 is half a step, to the even code
    found = encoded(DType.INT8, params, s=np.float32([0.5, 5]))
    assert found == [[1, -2, 3], [2, 0, -4]]


def test_channels_may_be_columns():
    params = QuantParams(scales="s", scale_axis=1)
    found = encoded(DType.INT8, params, s=np.float32([0.5, 0.25, 0.1]))
    assert found == [[1, -4, 15], [20, 10, -127]]  # -200 is clamped


def test_groups_of_int4_have_their_scales_and_share_bytes():
    params = QuantParams(scales="s", scale_axis=0, group_size=2)
    found = encoded(DType.INT4, params, s=np.float32([[0.5, 0.5], [2.5, 5]]))
    # 1 -2 | 3 and 4 1 | -4: nibbles 1 E 3 4 1 C, the first in the low half
    assert found == [0xE1, 0x43, 0xC1]


def test_a_posit_is_encoded_in_units_of_its_scale():
    params = QuantParams(0.5)
    storage = Storage(KPUPrecision.POSIT8, {"w": DType.POSIT8}, {"w": params})
    constant = np.float32([0.5, 1.0, -0.5, 0.75])
    codes = storage.encoded(graph_of(w=constant), "w")
    assert codes.tolist() == [0x40, 0x60, 0xC0, 0x50]  # 1, 2, -1, 1.5


def test_what_a_file_keeps_of_a_constant_is_what_its_codes_stand_for():
    params = QuantParams(scales="s", scale_axis=0)
    scales = np.float32([0.013, 0.17])
    codes = np.int8([[1, -127, 3], [127, 0, -5]])
    real = codes.astype(np.float32) * scales[:, None]
    storage = Storage(KPUPrecision.INT8, {"w": DType.INT8}, {"w": params})
    found = storage.encoded(graph_of(w=real, s=scales), "w")
    np.testing.assert_array_equal(found, codes)


STORAGE = Storage(
    KPUPrecision.INT8,
    dict.fromkeys("abcd", DType.UINT8) | {"f": DType.FP16, "w": DType.INT8},
    {
        "a": QuantParams(0.5, 3),
        "b": QuantParams(0.5, 3),
        "c": QuantParams(0.25, 3),
        "w": QuantParams(scales="s", scale_axis=1),
    },
    {"wide": KPUPrecision.FP16},
)


@pytest.mark.parametrize(
    ("other", "is_same"), [("b", True), ("c", False), ("d", False), ("f", False)]
)
def test_equal_bytes_mean_equal_numbers_only_with_equal_codes(other, is_same):
    assert STORAGE.is_same("a", other) is is_same


def test_a_value_has_one_scale_or_an_axis_of_scales():
    assert (STORAGE.code("a"), STORAGE.scale_axis("a")) == ((0.5, 3), None)
    assert (STORAGE.code("w"), STORAGE.scale_axis("w")) == (None, 1)
    assert (STORAGE.code("f"), STORAGE.scale_axis("f")) == (None, None)


def test_a_copy_is_stored_like_its_original():
    copied = STORAGE.with_copies({"a2": "a", "f2": "f"})
    assert copied.is_same("a2", "a")
    assert copied.is_same("f2", "f")
    assert copied.code("a2") == (0.5, 3)


def test_an_op_runs_in_the_programs_precision_unless_it_has_its_own():
    narrow, wide = (Node(name, "Relu", ("a",), ("b",)) for name in ("narrow", "wide"))
    assert STORAGE.of(narrow) is KPUPrecision.INT8
    assert STORAGE.of(wide) is KPUPrecision.FP16
