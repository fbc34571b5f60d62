"""Which ops of two programs are taken for the same, when names, fusion and layers differ."""

from dataclasses import replace

import pytest

from kpuprof.match import match
from tests.kpuprof.networks import LAYERS, network

SEPARATE = [
    (("conv",), ("conv", "relu")),
    (("conv_1",), ("conv_1", "tanh", "relu_1")),
    (("conv_2",), ("conv_2", "sigmoid")),
    (("concat",), ("concat",)),
    (("gemm",), ("gemm",)),
]


def ids(matches):
    return [tuple(tuple(op.id for op in side) for side in (it.base, it.new)) for it in matches]


def modules(matches):
    return [tuple(" ".join(op.name for op in side) for side in (it.base, it.new)) for it in matches]


def mirrored(matches):
    return [(new, base) for base, new in matches]


def test_a_program_matches_itself_op_by_op():
    found = ids(match(network(), network()))
    assert found == [((op.id,), (op.id,)) for op in network().ops]


def test_what_is_fused_on_one_side_is_matched_to_its_parts():
    assert ids(match(network(), network(is_fused=False))) == SEPARATE
    assert ids(match(network(is_fused=False), network())) == mirrored(SEPARATE)


def test_parts_find_their_op_by_what_it_does_when_the_source_names_say_nothing():
    fused = network()
    nameless = replace(fused, ops=tuple(replace(op, fused_with=()) for op in fused.ops))
    assert ids(match(nameless, network(is_fused=False))) == SEPARATE


def test_an_inserted_layer_does_not_shift_the_ones_behind_it():
    longer = (*LAYERS[:1], ("extra", "Conv", ("Relu",)), *LAYERS[1:])
    found = modules(match(network(), network(longer, is_fused=False)))
    assert found == [
        ("stem", "stem relu"),
        ("block.conv1", "block.conv1 tanh relu_2"),
        ("block.conv2", "block.conv2 sigmoid"),
        ("concat", "concat"),
        ("head", "head"),
        ("", "extra"),
        ("", "relu_1"),
    ]


def test_a_removed_layer_has_no_partner():
    (gone,) = (it for it in match(network(), network(LAYERS[1:])) if not it.new)
    assert [op.name for op in gone.base] == ["stem"]
    assert gone.by == ""


def test_numbered_names_count_less_than_where_an_op_stands():
    first, *others = LAYERS
    longer = (first, ("", "Concat", ()), *others)  # the one behind it is now concat_1
    found = dict(ids(match(network(), network(longer))))
    assert found["concat",] == ("concat_1",)
    assert found[()] == ("concat",)


@pytest.mark.parametrize("is_fused", [True, False])
def test_a_renamed_network_is_matched_by_its_structure(is_fused):
    renamed = network(prefix="model.", is_fused=is_fused)
    found = match(network(), renamed)
    assert [len(it.base) for it in found] == [1] * 5
    assert ids(found)[0] == (("conv",), ("conv",) if is_fused else ("conv", "relu"))


def test_an_inserted_layer_of_a_renamed_network_is_the_only_one_left_over():
    head = (*LAYERS[:-1], ("pool", "GlobalAveragePool", ()), LAYERS[-1])
    found = match(network(), network(head, prefix="model."))
    assert [[op.op_type for op in it.new] for it in found if not it.base] == [["GlobalAveragePool"]]
    assert sum(bool(it.base and it.new) for it in found) == 5


def test_ops_that_share_a_module_are_paired_in_order():
    pools = tuple(("pool", "MaxPool", ()) for _ in range(3))
    found = ids(match(network(pools), network(pools)))
    assert found == [((name,), (name,)) for name in ("maxpool", "maxpool_1", "maxpool_2")]


def test_a_module_that_became_another_op_is_still_the_module():
    changed = (*LAYERS[:-1], ("head", "MatMul", ()))
    found = match(network(), network(changed))[-1]
    assert ([op.id for op in found.base], [op.id for op in found.new]) == (["gemm"], ["matmul"])


def test_programs_with_nothing_in_common_match_nothing():
    other = network((("a", "Softmax", ()), ("b", "Transpose", ())))
    assert all(not (it.base and it.new) for it in match(network(), other))


@pytest.mark.parametrize("other", [{"is_fused": False}, {"prefix": "m."}, {"unfused": ("stem",)}])
def test_every_op_is_in_exactly_one_match(other):
    base, new = network(), network(**other)
    found = match(base, new)
    assert sorted(op.id for it in found for op in it.base) == sorted(op.id for op in base.ops)
    assert sorted(op.id for it in found for op in it.new) == sorted(op.id for op in new.ops)


def test_matching_takes_no_more_than_a_few_passes_over_twenty_thousand_ops():
    layers = tuple((f"layer{k}", "Conv", ("Relu",)) for k in range(10_000))
    found = match(network(layers), network(layers, is_fused=False, prefix="renamed."))
    assert len(found) == 10_000


def test_of_other_networks_equal_numbers_mean_nothing():
    other = network((("a", "Conv", ("Tanh",)), ("b", "Softmax", ("Relu",))), size=32)
    unlike = network((("c", "Gemm", ()), ("d", "Conv", ("Relu",))))
    assert all(not (it.base and it.new) for it in match(other, unlike))


def test_a_pad_in_front_joins_the_op_that_has_it_fused_in():
    separate = network((("", "Pad", ()), *LAYERS))
    fused = network()
    first, *others = fused.ops
    fused = replace(fused, ops=(replace(first, fused_with=("pad", *first.fused_with)), *others))
    assert ids(match(fused, separate))[0] == (("conv",), ("conv", "pad"))


def test_an_op_that_both_sides_have_alone_is_not_taken_for_a_part():
    alone = (LAYERS[0], ("", "Relu", ()), *LAYERS[1:])
    found = ids(match(network(alone), network(alone, unfused=("stem",))))
    assert found[:2] == [(("conv",), ("conv", "relu")), (("relu_1",), ("relu_1",))]
