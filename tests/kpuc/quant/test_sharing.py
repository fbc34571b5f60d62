from kpuc.quant.assign import assign
from kpuc.quant.sharing import shared_codes, sources
from tests.kpuc.passes.draft import Draft
from tests.kpuc.quant.networks import residual_network


def test_a_max_pool_hands_codes_on_and_a_mean_does_not():
    found = assign(residual_network())
    groups = shared_codes(found.graph, found.coded)
    assert ("stem", "pool") in groups
    assert ("mean", "flat") in groups
    assert ("second",) in groups


def test_what_is_concatenated_has_one_scale_and_all_its_sources():
    draft = Draft()
    x = draft.input("x", 1, 4, 6, 6)
    left, right = draft.conv("left", x, 4), draft.conv("right", x, 4)
    joined = draft.op("joined", "Concat", left, right, axis=1)
    found = assign(draft.graph(draft.conv("y", joined, 2)))
    (group,) = (each for each in shared_codes(found.graph, found.coded) if "joined" in each)
    assert group == ("left", "right", "joined")
    assert sources(found.graph, group, found.copies) == ["left", "right"]


def test_a_copy_in_codes_takes_its_range_from_the_float():
    draft = Draft()
    x = draft.op("x0", "Relu", draft.input("x", 1, 4, 6, 6))
    graph = draft.graph(draft.conv("a", x, 4), draft.conv("b", x, 4))
    found = assign(graph, ["b"])
    assert sources(found.graph, ("x0.codes",), found.copies) == ["x0"]


def test_what_is_handed_on_from_outside_the_group_is_a_source():
    draft = Draft()
    raw = draft.conv("raw", draft.input("x", 1, 4, 6, 6), 4)
    turned = draft.op("turned", "Transpose", raw, perm=(0, 1, 3, 2))
    found = assign(draft.graph(draft.conv("y", turned, 2), raw))
    assert sources(found.graph, ("turned",), found.copies) == ["turned"]
