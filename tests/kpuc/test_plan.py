"""Memory planning as a whole: everything has a place, every op its tiles, and limits are limits."""

from dataclasses import replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from formats.config import KPUConfig, MemoryConfig
from formats.errors import MemoryError
from formats.precision import KPUPrecision
from formats.program import KPUProgram, MemoryType
from formats.verify import problems
from kpuc.compiler import SIZE, compile_graph
from kpuc.graph import Graph
from kpurun.buffers import l1_buffers, l2_buffers
from kpurun.metrics import estimates
from kpurun.tiles import tiling_problems
from kpurun.work import work_of
from tests.kpuc.passes.draft import Draft

KIB = 1024


def machine(**sizes: int) -> KPUConfig:
    return replace(KPUConfig(), memory=replace(MemoryConfig(), **sizes))


def compiled(graph: Graph, config: KPUConfig) -> KPUProgram:
    return compile_graph(graph, config, KPUPrecision.FP16)


def residual_network(size: int = 32, channels: int = 16, blocks: int = 3) -> Graph:
    draft = Draft()
    x = draft.op("stem.relu", "Relu", draft.conv("stem", draft.input("x", 1, 3, size, size), 16))
    for index in range(blocks):
        inner = draft.op(f"{index}.relu", "Relu", draft.conv(f"{index}.conv1", x, channels))
        outer = draft.conv(f"{index}.conv2", inner, channels)
        x = draft.op(f"{index}.out", "Relu", draft.op(f"{index}.add", "Add", outer, x))
    return draft.graph(draft.op("pool", "GlobalAveragePool", x))


SMALL_MACHINES = [
    machine(),
    machine(sram_l2_bytes=128 * KIB, sram_l1_bytes=64 * KIB),
    machine(sram_l2_bytes=48 * KIB, sram_l1_bytes=32 * KIB),
    machine(sram_l2_bytes=24 * KIB, sram_l1_bytes=16 * KIB),
]


@pytest.mark.parametrize("config", SMALL_MACHINES, ids=lambda c: f"L2={c.memory.sram_l2_bytes}")
def test_the_program_is_well_formed_on_machines_of_any_size(config):
    program = compiled(residual_network(), config)
    assert problems(program) == []
    assert program.peak_sram_bytes <= config.memory.sram_l2_bytes


@pytest.mark.parametrize("config", SMALL_MACHINES, ids=lambda c: f"L2={c.memory.sram_l2_bytes}")
def test_where_size_matters_peak_l2_is_within_a_tenth_of_the_largest_live_set(config):
    program = compile_graph(residual_network(), config, KPUPrecision.FP16, optimise_for=SIZE)
    assert program.live_set_bound_bytes <= program.peak_sram_bytes
    assert program.peak_sram_bytes <= 1.1 * program.live_set_bound_bytes


@pytest.mark.parametrize("config", SMALL_MACHINES, ids=lambda c: f"L2={c.memory.sram_l2_bytes}")
def test_every_op_has_legal_tiles_and_exactly_the_buffers_that_they_need(config):
    program = compiled(residual_network(), config)
    for op in program.ops:
        work = work_of(program, op)
        assert list(tiling_problems(work, op.tiling)) == []
        needed = {MemoryType.SRAM_L1: l1_buffers, MemoryType.SRAM_L2: l2_buffers}
        for memory, buffers in needed.items():
            planned = [b for b in program.buffers if (b.op_id, b.memory_type) == (op.id, memory)]
            assert sum(b.size_bytes for b in planned) == sum(
                b.size_bytes for b in buffers(work, op.tiling)
            )
            assert all(b.base_address % 64 == 0 for b in planned)


def test_less_l2_costs_dram_traffic_and_never_gains_cycles():
    large, small = (
        compiled(residual_network(), config) for config in (machine(), SMALL_MACHINES[2])
    )
    reads = [sum(e.dram_read_bytes for e in estimates(each).values()) for each in (small, large)]
    assert reads[0] > reads[1]
    assert small.estimated_total_cycles >= large.estimated_total_cycles


def test_with_room_for_all_only_inputs_outputs_and_weights_are_in_dram():
    program = compiled(residual_network(), machine())
    in_dram = [t for t in program.tensors.values() if t.layout.memory_type is MemoryType.DRAM]
    assert all(t.is_weight or t.is_input or t.is_output for t in in_dram)


def test_spilled_activations_share_dram_once_they_are_dead():
    program = compiled(residual_network(blocks=6), SMALL_MACHINES[3])
    spilled = [
        tensor
        for tensor in program.tensors.values()
        if tensor.layout.memory_type is MemoryType.DRAM
        and not (tensor.is_weight or tensor.is_input or tensor.is_output)
    ]
    assert len({t.layout.base_address for t in spilled}) < len(spilled)


def test_an_op_that_cannot_be_cut_small_enough_is_a_memory_error():
    # Softmax over one row of 64 K values: 128 KiB in and, unrounded, 256 KiB out
    draft = Draft()
    graph = draft.graph(draft.op("y", "Softmax", draft.input("x", 1, 64 * KIB), axis=-1))
    with pytest.raises(MemoryError, match=r"SRAM memory exceeded: \d+KB required, 64KB available"):
        compiled(graph, machine(sram_l1_bytes=64 * KIB))


def test_weights_beyond_dram_are_a_memory_error():
    draft = Draft()
    x = draft.input("x", 1, 1024)
    graph = draft.graph(draft.op("y", "MatMul", x, draft.weights("w", 1024, 1024)))
    with pytest.raises(MemoryError, match=r"DRAM memory exceeded: 20\d\dKB required, 1024KB"):
        compiled(graph, machine(dram_bytes=1024 * KIB))


@st.composite
def networks(draw) -> Graph:
    """Convolutions, pools, sums and concatenations of maps, in any order that makes sense."""
    draft = Draft()
    maps = [draft.input("x", 1, draw(st.integers(1, 8)), 12, 12)]
    for index in range(draw(st.integers(1, 8))):
        x = draw(st.sampled_from(maps))
        kind = draw(st.sampled_from(["conv", "relu", "add", "concat", "pool"]))
        if kind == "conv":
            maps.append(draft.conv(f"n{index}", x, draw(st.integers(1, 24))))
        elif kind == "relu":
            maps.append(draft.op(f"n{index}", "Relu", x))
        elif kind == "pool":
            window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
            maps.append(draft.op(f"n{index}", "MaxPool", x, **window))
        else:
            same = [
                each for each in maps if kind == "concat" or draft.types[each] == draft.types[x]
            ]
            other = draw(st.sampled_from(same))
            attributes = {"axis": 1} if kind == "concat" else {}
            maps.append(draft.op(f"n{index}", kind.title(), x, other, **attributes))
    return draft.graph(*dict.fromkeys((maps[-1], draw(st.sampled_from(maps[1:])))))


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(2, 64), st.integers(0, 64))
def test_any_network_fits_or_says_that_it_does_not(graph, l1_kib, more_l2_kib):
    config = machine(sram_l1_bytes=l1_kib * KIB, sram_l2_bytes=(l1_kib + more_l2_kib) * KIB)
    try:
        program = compiled(graph, config)
    except MemoryError:
        event("does not fit")
        return
    assert problems(program) == []
    assert program.peak_sram_bytes <= config.memory.sram_l2_bytes


def test_the_plan_is_the_same_every_time():
    config = SMALL_MACHINES[2]
    assert compiled(residual_network(), config) == compiled(residual_network(), config)
