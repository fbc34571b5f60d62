"""Ops overlap, and nothing touches bytes that another command still needs: told from the addresses
and the cycles alone, not from what the simulator made a command wait for."""

from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import pytest

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from formats.program import KPUProgram
from kpuc.compiler import compile_graph
from kpurun.sim.timeline import Timeline, simulate
from kpurun.slots import Side, places_of
from kpurun.tiles import Compute, Load, Store
from kpurun.work import work_of
from tests.kpuc.passes.draft import Draft
from tests.kpurun.sim.machines import two_convolutions


def inverted_bottleneck() -> KPUProgram:
    """Arrays, lanes, arrays, with a sum at the end."""
    draft = Draft()
    x = draft.conv("stem", draft.input("x", 1, 16, 24, 24), 32)
    wide = draft.op("relu", "Relu", draft.conv("expand", x, 96, kernel=1))
    deep = draft.conv("deep", wide, 96, group=96)
    narrow = draft.conv("project", deep, 32, kernel=1)
    return compiled(draft.graph(draft.op("y", "Add", narrow, x)))


def joined_branches() -> KPUProgram:
    """Two branches side by side, whose results are parts of one tensor."""
    draft = Draft()
    x = draft.conv("stem", draft.input("x", 1, 16, 24, 24), 32)
    left, right = draft.conv("left", x, 48), draft.conv("right", x, 16)
    both = draft.op("both", "Concat", left, right, axis=1)
    return compiled(draft.graph(draft.conv("y", both, 32)))


def compiled(graph, **memory) -> KPUProgram:
    config = KPUConfig()
    config = replace(config, memory=replace(config.memory, **memory))
    return compile_graph(graph, config, KPUPrecision.FP16)


PROGRAMS = {
    "inverted bottleneck": inverted_bottleneck,
    "joined branches": joined_branches,
    "little L1": lambda: small_memories(sram_l1_bytes=32 * 1024),
    "little L2": lambda: small_memories(sram_l1_bytes=32 * 1024, sram_l2_bytes=64 * 1024),
}


def small_memories(**memory) -> KPUProgram:
    draft = Draft()
    x = draft.conv("one", draft.input("x", 1, 16, 24, 24), 64)
    pooled = draft.op("pool", "MaxPool", x, kernel_shape=(2, 2), strides=(2, 2))
    return compiled(draft.graph(draft.conv("two", pooled, 64)), **memory)


@pytest.fixture(params=PROGRAMS)
def timeline(request):
    return simulate(PROGRAMS[request.param]())


def fills(timeline: Timeline):
    """(memory, first byte, end, first cycle, last cycle) of every tile in a buffer, from when it
    begins to come, or to be computed, until its last user has ended."""
    program = timeline.program
    for op, played, start in zip(timeline.ops, timeline.played, timeline.starts, strict=True):
        buffers = [buffer for buffer in program.buffers if buffer.op_id == op.id]
        if not played.tasks:
            continue
        work = work_of(program, op)
        places = places_of(op, work, op.tiling, buffers)
        spans = defaultdict(list)
        for task in played.tasks:
            for place, number in task.touched:
                spans[place, number].append((task.start + start, task.end + start))
        for ((memory, operand), number), used in spans.items():
            is_write = operand >= len(work.reads)
            side = Side(is_write, operand - len(work.reads) if is_write else operand)
            slots = places.slots[side, memory]
            at = slots.address_of(number)
            yield memory, at, at + slots.stride, min(used)[0], max(end for _, end in used)


def test_no_two_tiles_are_in_the_same_bytes_at_the_same_time(timeline):
    for one, other in combinations(fills(timeline), 2):
        shares_bytes = one[0] is other[0] and one[1] < other[2] and other[1] < one[2]
        assert not shares_bytes or one[4] <= other[3] or other[4] <= one[3]


def test_what_is_loaded_of_a_tensor_was_stored_before(timeline):
    stored = defaultdict(list)
    for index, task in timeline.tasks():
        command, start = task.command, timeline.starts[index]
        if isinstance(command, Compute):
            continue
        tensor = timeline.program.tensors[command.tensor_id]
        box = [
            (low + at, high + at)
            for (low, high), at in zip(
                command.spans, tensor.starts or [0] * len(tensor.shape), strict=True
            )
        ]
        root = tensor.alias_of or tensor.id
        home = tensor.layout.memory_type
        if isinstance(command, Store) and command.target is home:
            stored[root].append((box, task.end + start))
        elif isinstance(command, Load) and command.source is home:
            for other, end in stored[root]:
                meets = all(a < d and c < b for (a, b), (c, d) in zip(box, other, strict=True))
                assert not meets or end <= task.start + start


def test_arrays_and_lanes_work_at_the_same_time_where_addresses_allow_it():
    timeline = simulate(inverted_bottleneck())
    spans = defaultdict(list)
    for index, task in timeline.tasks():
        if isinstance(task.command, Compute):
            start = timeline.starts[index]
            spans[task.queue.name].append((task.start + start, task.end + start))
    assert any(a < d and c < b for a, b in spans["ARRAYS"] for c, d in spans["LANES"])


def test_one_op_in_flight_is_one_op_after_another():
    program = inverted_bottleneck()
    timing = replace(program.target_config.timing, ops_in_flight=1)
    alone = simulate(replace(program, target_config=replace(program.target_config, timing=timing)))
    ends = 0
    for start, played in zip(alone.starts, alone.played, strict=True):
        if played.tasks:
            assert min(task.start for task in played.tasks) + start >= ends
            ends = max(task.end for task in played.tasks) + start
    assert simulate(program).total_cycles < alone.total_cycles


def test_ops_whose_buffers_share_bytes_wait_for_one_another():
    apart, together = (simulate(two_convolutions(apart=apart)) for apart in (True, False))
    assert together.total_cycles > apart.total_cycles


def test_a_program_takes_no_longer_than_its_commands_one_by_one(timeline):
    dispatch = timeline.program.target_config.timing.dispatch_cycles
    serial = sum(task.length for _, task in timeline.tasks()) + dispatch * len(timeline.ops)
    assert timeline.total_cycles <= serial
