"""Which values have no bytes of their own, and which ops then move nothing."""

from dataclasses import replace

import pytest

from formats.config import KPUConfig
from formats.precision import DType, KPUPrecision
from kpuc.aliases import aliases
from kpuc.compiler import compile_graph
from kpuc.precision import float_storage
from kpuc.storage import QuantParams
from tests.kpuc.interpret import interpret
from tests.kpuc.passes.draft import Draft, random_inputs
from tests.kpurun.programs import loaded

FP16 = KPUPrecision.FP16


def found(graph, **params):
    """params: of values that are codes."""
    storage = float_storage(graph, FP16)
    storage = replace(
        storage,
        dtypes={**storage.dtypes, **dict.fromkeys(params, DType.UINT8)},
        params=params,
    )
    return aliases(graph, storage, {})


def joined(axis=1, **extra):
    """Two results side by side, and what reads them."""
    draft = Draft()
    x = draft.input("x", 1, 4, 6, 6)
    a, b = draft.op("a", "Relu", x), draft.op("b", "Sigmoid", x)
    return draft, draft.op("whole", "Concat", a, b, axis=axis)


def test_what_is_joined_is_computed_in_its_place():
    draft, whole = joined()
    named = found(draft.graph(draft.op("y", "Relu", whole)))
    assert (named.roots["a"], named.roots["b"]) == ("whole", "whole")
    assert (named.starts["a"], named.starts["b"]) == ((0, 0, 0, 0), (0, 4, 0, 0))
    assert named.views == {"whole"}


def test_parts_of_parts_are_found_where_they_lie_in_the_root():
    draft, inner = joined()
    c = draft.op("c", "Relu", "x")
    outer = draft.op("outer", "Concat", c, inner, axis=1)
    named = found(draft.graph(draft.op("y", "Relu", outer)))
    # four channels of c, four of a, then b
    assert (named.roots["b"], named.starts["b"]) == ("outer", (0, 8, 0, 0))


def test_a_slice_is_a_box_of_what_it_is_cut_from():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 8, 6, 6))
    cut = draft.op("cut", "Slice", a, starts=[2, 1], ends=[6, 5], axes=[1, 3])
    named = found(draft.graph(draft.op("y", "Relu", cut)))
    assert (named.roots["cut"], named.starts["cut"]) == ("a", (0, 2, 0, 1))


def test_the_results_of_a_split_are_boxes_one_behind_the_other():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 8, 6))
    low, high = draft.parts("low", "Split", a, axis=1, split=[3, 5])
    named = found(draft.graph(draft.op("y", "Relu", low), draft.op("z", "Relu", high)))
    assert (named.starts["low"], named.starts["low.1"]) == ((0, 0, 0), (0, 3, 0))


def chain_of_slice_steps():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 8))
    cut = draft.op("cut", "Slice", a, starts=[0], ends=[8], axes=[1], steps=[2])
    return draft.graph(draft.op("y", "Relu", cut))


def cut_of_an_input():
    draft = Draft()
    cut = draft.op("cut", "Slice", draft.input("x", 1, 8), starts=[0], ends=[4], axes=[1])
    return draft.graph(draft.op("y", "Relu", cut))


def cut_of_a_renamed_value():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 2, 4))
    flat = draft.op("flat", "Flatten", a, axis=0)
    cut = draft.op("cut", "Slice", flat, starts=[0], ends=[4], axes=[1])
    return draft.graph(draft.op("y", "Relu", cut))


def cut_that_is_an_output():
    draft = Draft()
    a = draft.op("a", "Relu", draft.input("x", 1, 8))
    return draft.graph(draft.op("cut", "Slice", a, starts=[0], ends=[4], axes=[1]))


@pytest.mark.parametrize(
    "graph",
    [chain_of_slice_steps(), cut_of_an_input(), cut_of_a_renamed_value(), cut_that_is_an_output()],
    ids=["strided", "of an input", "of a renamed value", "an output"],
)
def test_a_slice_that_is_no_box_in_its_source_has_bytes_of_its_own(graph):
    named = found(graph)
    assert named.roots["cut"] == "cut"
    assert "cut" not in named.views


def test_a_part_in_another_shape_has_bytes_of_its_own():
    draft, whole = joined()
    flat = draft.op("flat", "Flatten", "a", axis=1)
    named = found(draft.graph(draft.op("y", "Relu", whole), draft.op("z", "Relu", flat)))
    assert named.roots["a"] == "whole"
    assert named.roots["flat"] == "flat"


def test_what_has_other_codes_is_not_joined_in_place():
    draft, whole = joined()
    graph = draft.graph(draft.op("y", "Relu", whole))
    named = found(graph, a=QuantParams(0.5), b=QuantParams(0.25), whole=QuantParams(0.5))
    assert named.views == frozenset()


def test_four_bits_are_no_part_of_anything():
    draft, whole = joined()
    graph = draft.graph(draft.op("y", "Relu", whole))
    storage = float_storage(graph, FP16)
    nibbles = dict.fromkeys(("a", "b", "whole"), DType.INT4)
    storage = replace(storage, dtypes={**storage.dtypes, **nibbles})
    assert aliases(graph, storage, {}).views == frozenset()


def branches():
    """Concatenations of channels and of positions, a value that is in two of them, and slices."""
    draft = Draft()
    x = draft.input("x", 1, 8, 12, 12)
    a, b = draft.conv("a", x, 16), draft.conv("b", x, 16)
    both = draft.op("both", "Concat", a, b, axis=1)
    low = draft.op("low", "Slice", both, starts=[8], ends=[24], axes=[1])
    c = draft.conv("c", low, 16)
    again = draft.op("again", "Concat", a, c, a, axis=2)
    left, right = draft.parts("left", "Split", draft.op("d", "Relu", again), axis=3, split=[5, 7])
    return draft.graph(draft.conv("y", left, 4), draft.conv("z", right, 4), low)


@pytest.mark.parametrize("kib", [(256, 2048), (8, 16)], ids=["L2 holds all", "small L2"])
def test_a_program_of_parts_computes_in_tiles_what_the_graph_means(kib):
    graph = branches()
    l1_bytes, l2_bytes = (1024 * each for each in kib)
    memory = replace(KPUConfig().memory, sram_l1_bytes=l1_bytes, sram_l2_bytes=l2_bytes)
    config = replace(KPUConfig(), memory=memory)
    program = compile_graph(graph, config, FP16)
    (image,) = random_inputs(graph)
    checked = loaded(program).check_tiles({"x": image})
    assert any(tensor.starts for tensor in program.tensors.values())
    for name, expected in zip(program.output_ids, interpret(graph, [image]), strict=True):
        assert abs(checked.outputs[name] - expected).max() < 0.01 * abs(expected).max()
