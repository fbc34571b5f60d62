"""A loop nest tells the truth: tiles cover every result once, and what a tile says it reads is all
that its part of the result depends on (proved by poisoning everything else).
"""

from math import prod

import numpy as np
import pytest

from formats.precision import DType
from kpurun.ops import OPS, evaluate
from kpurun.ops.loopnest import Role, Unit
from kpurun.ops.opdef import complete, infer_types
from kpurun.ops.types import TensorType
from tests.kpurun.ops.tiling import (
    assert_tiles_depend_only_on_what_they_read,
    elements,
    legal_tilings,
    nest_of,
    output_tiles,
    output_types,
    region,
)
from tests.op_case import OpCase
from tests.op_cases import CASES

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))


@each_case
def test_axes_are_those_of_the_tensors(case: OpCase):
    nest = nest_of(case)
    names = {dim.name for dim in nest.dims}
    if case.op == "Shape":  # it reads no element
        return
    for access, type_ in zip(nest.reads, (v.type for v in case.operands), strict=True):
        assert tuple(axis.size for axis in access.axes) == type_.shape
    for access, type_ in zip(nest.writes, output_types(case), strict=True):
        assert tuple(axis.size for axis in access.axes) == type_.shape
    for access in nest.reads + nest.writes:
        assert {dim for axis in access.axes for dim, _ in axis.terms} <= names


@each_case
def test_tiles_cover_every_result_once(case: OpCase):
    nest = nest_of(case)
    for tile in legal_tilings(nest):
        for access, type_ in zip(nest.writes, output_types(case), strict=True):
            writes = np.zeros(type_.shape, int)
            for start, size in output_tiles(nest, tile):
                writes[region(access, start, size)] += 1
            assert (writes == 1).all()


@each_case
def test_a_tile_depends_only_on_what_it_reads(case: OpCase):
    assert_tiles_depend_only_on_what_they_read(case)


@each_case
def test_a_buffer_of_the_largest_extent_holds_every_tile(case: OpCase):
    nest = nest_of(case)
    for tile in legal_tilings(nest):
        for start, size in output_tiles(nest, tile):
            clipped = {name: min(tile[name], size[name]) for name in size}
            for access in nest.reads + nest.writes:
                assert elements(region(access, start, clipped)) <= access.elements(tile)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if nest_of(case).unit in (Unit.MOVE, Unit.VIEW)],
    ids=lambda case: case.name.replace(" ", "-"),
)
def test_moving_reads_no_more_than_it_writes(case: OpCase):
    nest = nest_of(case)
    if case.op in ("Slice", "Gather"):  # a strided slice spans what it skips; indices come on top
        return
    for tile in legal_tilings(nest):
        parts = list(output_tiles(nest, tile))
        if any(access.scattered for access in nest.reads):
            continue
        read = sum(elements(region(access, *part)) for part in parts for access in nest.reads)
        written = sum(elements(region(access, *part)) for part in parts for access in nest.writes)
        assert read <= written


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if any(access.scattered for access in nest_of(case).reads)],
    ids=lambda case: case.name.replace(" ", "-"),
)
def test_a_scattered_tile_fetches_at_most_its_extent(case: OpCase):
    nest = nest_of(case)
    data, *indices = case.arrays()
    numbered = np.arange(data.size, dtype=np.float32).reshape(data.shape)
    (result,) = evaluate(case.op, case.attributes, (numbered, *indices))
    for tile in legal_tilings(nest):
        for start, size in output_tiles(nest, tile):
            fetched = np.unique(result[region(nest.writes[0], start, size)])
            # a padding value beside the elements counts as one more
            assert fetched.size <= nest.reads[0].elements(size)


@each_case
def test_work_is_that_of_the_op(case: OpCase):
    """Systolic points are the op's multiply-accumulates; elsewhere a result is at least a point."""
    nest = nest_of(case)
    results = output_types(case)
    if nest.unit is Unit.SYSTOLIC:
        reduction = prod(dim.size for dim in nest.dims if dim.role is Role.DEPTH)
        assert nest.points == results[0].elements * reduction
    else:
        assert nest.points >= max(result.elements for result in results)


CONV_ROWS = [
    # attributes, input, weight, unit, multiply-accumulates by hand
    ({"pads": (1, 1, 1, 1)}, (1, 64, 56, 56), (64, 64, 3, 3), Unit.SYSTOLIC, 56 * 56 * 64 * 576),
    ({"group": 4}, (1, 8, 5, 5), (12, 2, 3, 3), Unit.SYSTOLIC, 3 * 3 * 12 * 18),
    ({"group": 8}, (1, 8, 5, 5), (8, 1, 3, 3), Unit.VECTOR, 3 * 3 * 8 * 9),
    ({"group": 8}, (1, 8, 5, 5), (16, 1, 3, 3), Unit.VECTOR, 3 * 3 * 16 * 9),
    ({}, (1, 1, 5, 5), (4, 1, 3, 3), Unit.SYSTOLIC, 3 * 3 * 4 * 9),
]


@pytest.mark.parametrize(("attributes", "x", "w", "unit", "macs"), CONV_ROWS)
def test_convolutions_run_on_their_unit(attributes, x, w, unit, macs):
    case = OpCase("", "Conv", (), torch=max, attributes=attributes)
    op = OPS[case.op]
    types = (TensorType(x), TensorType(w))

    nest = op.loop_nest(complete(op, attributes), types, infer_types(op, attributes, types))

    assert nest.unit is unit
    assert nest.points == macs


def test_a_tile_of_several_groups_must_hold_all_their_filters():
    op = OPS["Conv"]
    attributes = {"group": 4}
    types = (TensorType((1, 8, 5, 5)), TensorType((12, 2, 3, 3)))
    nest = op.loop_nest(complete(op, attributes), types, infer_types(op, attributes, types))

    assert nest.writes_once({**nest.sizes, "G": 2})
    assert nest.writes_once({**nest.sizes, "G": 1, "OC": 2})
    assert not nest.writes_once({**nest.sizes, "G": 2, "OC": 2})


def test_a_weight_shared_by_a_batch_makes_the_batch_rows():
    op = OPS["MatMul"]
    types = (TensorType((8, 4, 7)), TensorType((7, 5)))

    nest = op.loop_nest({}, types, infer_types(op, {}, types))

    assert [dim.role for dim in nest.dims] == [Role.ROW, Role.ROW, Role.COLUMN, Role.DEPTH]


def test_a_view_splits_only_the_outermost_part_of_a_merged_axis():
    op = OPS["Flatten"]
    types = (TensorType((2, 512, 7, 7)),)

    nest = op.loop_nest({"axis": 1}, types, infer_types(op, {}, types))

    assert [(dim.size, dim.splittable) for dim in nest.dims] == [
        (2, True),
        (512, True),
        (7, False),
        (7, False),
    ]


def test_a_cast_to_the_same_type_is_a_view():
    op = OPS["Cast"]
    same = (TensorType((3,)),)
    assert op.loop_nest({"to": "fp32"}, same, same).unit is Unit.VIEW
    assert op.loop_nest({"to": "int32"}, same, (TensorType((3,), DType.INT32),)).unit is Unit.VECTOR
