"""From samples to a program of codes: corrections, measurements, the search, the whole."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from formats.config import KPUConfig
from formats.container import to_bytes
from formats.errors import CheckError, UsageError
from formats.precision import DType, KPUPrecision
from formats.schema import load_config
from kpuc.compiler import compile_graph
from kpuc.quant.difference import MOST_DB, Difference
from kpuc.quant.measure import outputs_of
from kpuc.quant.network import Network, exact_storage
from kpuc.quant.prepare import quantiser
from kpuc.quant.quantize import (
    QuantOptions,
    integer_share,
    kept_by_name,
    observed,
    quantizer,
)
from kpuc.quant.refine import Refinements, with_own_constants
from kpuc.quant.search import Bar, cheapest
from kpurun.engine import reference
from kpurun.engine.fast import FastEngine
from kpurun.engine.storage import multiplies_codes
from kpurun.ops import op_named
from kpurun.ops.opdef import Int8Rule
from tests.kpuc.passes.draft import Draft, node_of
from tests.kpuc.quant.networks import residual_network, samples_of

INT8, INT4 = KPUPrecision.INT8, KPUPrecision.INT4
PLAIN = Refinements(equalisation=False, rounding=False, bias=False)


def made(graph=None, precision=INT8, **options):
    graph = graph or residual_network()
    return quantizer(
        graph,
        precision,
        QuantOptions(**options),
        observed(samples_of(graph, 40), samples_of(graph, 8, seed=1)),
    )


def compiled(precision=INT8, options=None, config="swkpu-v1"):
    graph, machine = residual_network(), load_config(config)
    data = [sample["x"] for sample in samples_of(graph, 110)]
    quantise = quantiser(data, machine, precision, options)
    return compile_graph(graph, machine, precision, quantise=quantise)


def test_every_kernel_gets_a_weight_and_a_bias_of_its_own():
    draft = Draft()
    x = draft.input("x", 1, 4, 6, 6)
    weight = draft.weights("w", 4, 4, 3, 3)
    first = draft.op("first", "Conv", x, weight, pads=(1, 1, 1, 1))
    graph = draft.graph(draft.op("second", "Conv", first, weight, pads=(1, 1, 1, 1)))
    own = with_own_constants(graph)
    one, other = (node_of(own, name).inputs[1:] for name in ("first", "second"))
    assert len({*one, *other}) == 4
    np.testing.assert_array_equal(own.constants[one[0]], own.constants[other[0]])
    assert not own.constants[one[1]].any()


def test_the_mean_of_every_kernel_is_as_it_was():
    maker = made(refinements=Refinements(rounding=False, bias=True))
    trial, graph = maker.trial(()), maker.graph
    exact, coded = maker.exact, Network(trial.graph, trial.storage)
    sums = {"first": 0.0}
    for sample in maker.statistics.refining:
        before, after = exact.run(sample, kept=["pool"]), coded.run(sample, kept=["pool"])
        weight, bias = graph.constants["first.weight"], graph.constants["first.bias"]
        other = trial.graph.constants["first.weight"], trial.graph.constants["first.bias"]
        compute = partial(
            op_named("Conv").compute, {**op_named("Conv").attributes, "pads": (1,) * 4}
        )
        (right,) = compute(before["pool"].numpy(), weight, bias)
        (found,) = compute(coded.real("pool", after["pool"]), *other)
        sums["first"] = sums["first"] + (found - right).mean(axis=(0, 2, 3))
    assert np.abs(sums["first"] / len(maker.statistics.refining)).max() < 1e-5


def test_refinements_bring_the_outputs_nearer():
    plain, refined = (made(precision=INT4, refinements=each) for each in (PLAIN, Refinements()))
    assert refined.trial(()).sqnr_db > plain.trial(()).sqnr_db + 1


def test_all_in_fp16_is_nearer_than_all_in_codes():
    maker = made()
    every = [node.id for node in maker.graph.nodes]
    assert maker.trial(every).sqnr_db > maker.trial(()).sqnr_db + 10
    assert integer_share(maker.graph, every) == 0
    assert integer_share(maker.graph, ()) == 1


def test_nodes_one_by_one_give_what_the_program_gives_code_for_code():
    program = compiled()
    graph = residual_network()
    seen = observed(samples_of(graph, 40), samples_of(graph, 8, seed=1))
    maker = quantizer(graph, INT8, QuantOptions(), seen)
    trial = maker.trial(())
    (sample,) = samples_of(graph, 1, seed=5)
    (alone,) = outputs_of(Network(trial.graph, trial.storage), [sample])
    whole = compile_graph_of(trial)
    np.testing.assert_array_equal(alone["head"], FastEngine(whole).run(sample)["head"])
    assert program.quantization is not None


def compile_graph_of(trial):
    """A program of a trial as it is."""
    from kpuc.aliases import aliases
    from kpuc.emit import Source, emit
    from kpuc.plan import plan_memory
    from kpuc.scheduled import Scheduled

    named = aliases(trial.graph, trial.storage, {})
    scheduled = Scheduled(trial.graph, trial.graph.nodes, trial.storage, {}, named)
    return emit(scheduled, plan_memory(scheduled, KPUConfig()), KPUConfig(), Source())


@pytest.mark.parametrize(
    ("precision", "config", "least_db"), [(INT8, "swkpu-v1", 30), (INT4, "swkpu-v2", 12)]
)
def test_a_program_of_codes_is_near_the_model(precision, config, least_db):
    program = compiled(precision, config=config)
    assert program.precision is precision
    assert min(program.quantization.sqnr_db.values()) > least_db
    assert program.quantization.samples == 99
    assert program.quantization.held_out == 11


@pytest.mark.parametrize(("precision", "least_db"), [("posit16", 60), ("posit8", 15)])
def test_a_program_of_posits_needs_no_samples(precision, least_db):
    graph, machine = residual_network(), load_config("swkpu-v2")
    program = compile_graph(graph, machine, KPUPrecision(precision))
    exact = Network(graph, exact_storage(graph))
    found = Difference()
    for sample in samples_of(graph, 4):
        found.add(exact.run(sample)["head"].numpy(), FastEngine(program).run(sample)["head"])
    assert found.sqnr_db > least_db


def test_no_kernel_of_a_pure_int8_program_computes_in_floats():
    program = compiled()
    rules = {op.id: op_named(op.op_type).int8 for op in program.ops}
    kernels = [op for op in program.ops if rules[op.id] is Int8Rule.KERNEL]
    assert len(kernels) == 4
    assert all(multiplies_codes(program, op) for op in kernels)
    assert all(op.precision is None for op in kernels)


def test_outputs_are_never_codes_and_residuals_are():
    program = compiled()
    assert {tensor.dtype for tensor in program.get_output_tensors()} == {DType.FP32}
    (second,) = (op for op in program.ops if op.epilogue[:1] and op.epilogue[0].op_type == "Add")
    residual = program.tensors[second.input_ids[second.epilogue[0].operand]]
    assert residual.dtype is DType.UINT8


def test_the_engines_agree_on_it():
    program = compiled()
    (sample,) = samples_of(residual_network(), 1, seed=9)
    fast, slow = FastEngine(program).run(sample), reference.run(program, sample)
    largest = np.abs(slow["head"]).max()
    assert np.abs(fast["head"] - slow["head"]).max() < 0.01 * largest


def test_the_same_samples_give_the_same_bytes():
    assert to_bytes(compiled()) == to_bytes(compiled())


def test_groups_of_weights_have_their_scales_in_the_program():
    from kpuc.quant.coding import Granularity

    program = compiled(INT4, QuantOptions(granularity=Granularity(group_size=32)), "swkpu-v2")
    weight = program.tensors["first.weight"]
    assert (weight.dtype, weight.group_size) == (DType.INT4, 32)
    assert program.tensors[weight.scales].shape == (8, 3)  # 8 · 3 · 3 = 72 products


def test_kernels_are_kept_by_the_pattern_of_their_names():
    graph = with_own_constants(residual_network())
    assert kept_by_name(graph, ["model.s*"]) == {"stem", "second"}
    with pytest.raises(UsageError, match=r"--keep-fp16 layer9\*: matches none of model\.stem"):
        kept_by_name(graph, ["layer9*"])


def test_a_kept_kernel_says_its_precision():
    program = compiled(options=QuantOptions(keep_fp16=("model.head",)))
    found = {op.id: op.precision for op in program.ops if op.precision is not None}
    assert found == {"head": KPUPrecision.FP16}
    assert 0 < program.quantization.mac_share < 1


def test_the_search_keeps_to_the_bar_with_some_kernels_in_codes():
    maker = made()
    pure, most = maker.trial(()), maker.trial([node.id for node in maker.graph.nodes])
    bar = Bar(min_sqnr_db=(pure.sqnr_db + most.sqnr_db) / 2)
    found = cheapest(maker, bar, dict.fromkeys(("stem", "first", "second", "head"), 1))
    assert bar.holds(found)
    assert 0 < len(found.floats) <= 4


def test_a_bar_that_holds_already_keeps_nothing():
    maker = made()
    assert cheapest(maker, Bar(max_difference=0.5), {}).floats == frozenset()


def test_a_bar_out_of_reach_says_how_near_fp16_comes():
    with pytest.raises(CheckError, match=r"not even with every kernel in FP16 .* \(reached: .* dB"):
        cheapest(made(), Bar(min_sqnr_db=150), {})


def test_a_difference_is_of_powers_and_of_the_largest_value():
    found = Difference()
    found.add(np.float32([3, -4]), np.float32([3, -4.5]))
    # signal 25, noise 0.25: 20 dB; the largest difference is 0.5 of 4
    assert found.sqnr_db == pytest.approx(20)
    assert found.worst == pytest.approx(0.125)


def test_equal_outputs_have_no_noise():
    found = Difference()
    found.add(np.ones(3), np.ones(3))
    assert (found.sqnr_db, found.worst) == (MOST_DB, 0)


def test_the_gains_add_up_from_plain_rounding():
    program = compiled(options=QuantOptions(refinements=Refinements(equalisation=False)))
    gains = program.quantization.gains_db
    assert list(gains) == ["bias correction", "weight rounding"]
    plain = compiled(options=QuantOptions(refinements=PLAIN))
    total = min(plain.quantization.sqnr_db.values()) + sum(gains.values())
    assert total == pytest.approx(min(program.quantization.sqnr_db.values()), abs=1e-6)
    assert replace(plain.quantization, gains_db={}).gains_db == plain.quantization.gains_db == {}


def test_equalisation_says_what_the_readers_gain():
    gains = compiled().quantization.gains_db
    assert list(gains) == ["equalisation", "bias correction", "weight rounding"]
    assert gains["equalisation"] >= 0


def test_weights_are_rounded_for_the_kernels_that_stay_in_fp16():
    maker = made()
    kept = frozenset({"first"})
    own = maker.rounding_for(kept)
    assert (own.weights["second.weight"].array != maker.weights["second.weight"].array).any()
    assert maker.rounding_for(frozenset()) is maker


def joined_network():
    """Two convolutions side by side, joined and pooled for two more."""
    draft = Draft()
    x = draft.input("x", 1, 3, 12, 12)
    joined = draft.op("join", "Concat", draft.conv("left", x, 4), draft.conv("right", x, 4), axis=1)
    pooled = draft.op("pool", "MaxPool", joined, kernel_shape=(2, 2), strides=(2, 2))
    return draft.graph(draft.conv("last", pooled, 5), draft.conv("other", pooled, 5))


def test_what_is_handed_on_in_codes_may_be_a_float_that_becomes_codes():
    maker = made(joined_network())
    alone = maker.trial({"left", "right", "other"})
    assert alone.storage.code("pool.codes") == maker.trial(()).storage.code("join")
    assert alone.found["last"].sqnr_db > maker.trial(()).found["last"].sqnr_db
