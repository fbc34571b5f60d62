"""What a report is drawn from: rooflines, units, power, memory, graph and comparison."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import formats
import kpuc
from formats.container import load_profile, to_bytes
from formats.precision import KPUPrecision
from formats.profile import COMMAND_KINDS, Profile, SimulationMode
from kpuprof.activity import UNITS, Spans, activity, merged
from kpuprof.axes import Axis
from kpuprof.bus import bus_traffic
from kpuprof.filters import bytes_text, change_text, energy_text, share_text, shortened, time_text
from kpuprof.graph import NODE_GAP, NODE_WIDTH, program_graph
from kpuprof.memory import memory_map
from kpuprof.power import PowerSteps, cycles_above, energy_parts_uj, power_steps
from kpuprof.roofline import peaks_of, roofline_points, speed_of_light
from kpuprof.rows import op_rows
from kpuprof.side_by_side import compare_headlines, compare_ops
from kpuprof.summary import summarise
from kpurun.machine import machine_of
from kpurun.profiling import make_profile
from tests.integration.models import SmallNet
from tests.kpuprof.profiles import simulated_profile, small_profile
from tests.kpuprof.simulated import played
from tests.kpurun.programs import IMAGE, classifier, loaded

THIN = "\u202f"


@pytest.fixture(scope="module")
def simulated() -> Profile:
    """A real run of a small program, read back from its file."""
    runtime = loaded(classifier())
    result = runtime.run({"image": IMAGE}, SimulationMode.POWER_TRACE)
    profile = make_profile(runtime.program, result, {}, runtime.timeline)
    return load_profile(to_bytes(profile))


@pytest.fixture(scope="module")
def compiled() -> Profile:
    """A run of a program that keeps tensors and buffers in L2."""
    program = kpuc.compile(SmallNet().eval(), (SmallNet.example_input_array,))
    runtime = loaded(program)
    result = runtime.run({"image": np.zeros((1, 3, 16, 16), np.float32)}, SimulationMode.FUNCTIONAL)
    return make_profile(program, result, {})


@pytest.mark.parametrize("preset", ["swkpu-v1", "swkpu-v2"])
def test_the_peaks_are_those_of_the_machine_that_is_simulated(preset):
    config = formats.load_config(preset)
    peaks, machine = peaks_of(config), machine_of(config)
    for precision in KPUPrecision:
        ratio = machine.macs(precision)
        assert peaks.macs[precision.value] == pytest.approx(ratio.numerator / ratio.denominator)
    assert peaks.lane_ops == machine.all_lanes
    assert peaks.dram_bytes == pytest.approx(machine.dram.numerator / machine.dram.denominator)
    assert peaks.l2_bytes == pytest.approx(machine.sram.numerator / machine.sram.denominator)


def test_the_speed_of_light_is_what_the_profile_measured(simulated):
    compute, dram, l2 = speed_of_light(simulated, op_rows(simulated))
    assert compute.share == simulated.metrics.compute_utilization
    assert dram.share == simulated.metrics.memory_bandwidth_utilization
    assert dram.achieved == pytest.approx(dram.share * dram.peak)
    assert l2.achieved == pytest.approx(l2.share * l2.peak)
    for each in (compute, dram, l2):
        assert 0 <= each.ideal_cycles <= simulated.metrics.total_cycles


def test_what_moves_between_l2_and_l1_is_what_the_block_mover_carried(simulated):
    events = simulated.events
    is_mover = np.isin(events["command.kind"], [2, 3])
    for index, row in enumerate(op_rows(simulated)):
        mine = is_mover & (events["command.op"] == index)
        assert row.moved_bytes == events["command.bytes"][mine].sum()


def test_no_op_is_above_its_roof(simulated):
    peaks = peaks_of(simulated.program.target_config)
    points = list(roofline_points(op_rows(simulated), peaks))
    assert points
    for point in points:
        is_vector = point.unit == "vector lanes"
        roof = peaks.lane_ops if is_vector else 2 * peaks.macs[point.row.precision]
        assert point.gops <= peaks.gops(roof)
        if point.dram_intensity:
            assert point.gops <= point.dram_intensity * peaks.gops(peaks.dram_bytes) * 1.0001


def test_a_units_commands_follow_one_another_and_add_up(simulated):
    units = activity(simulated)
    for unit in units:
        spans = unit.spans
        assert (spans.starts[1:] >= spans.ends[:-1]).all()
        assert unit.busy_cycles == (spans.ends - spans.starts).sum()
        assert unit.commands == len(spans)
    assert units[-1].busy_cycles == simulated.metrics.compute_cycles


def test_a_unit_is_busy_once_where_its_commands_overlap():
    found = played()  # drains of a tile overlap with the products of the next
    starts, ends = (found.events[f"command.{name}_cycle"] for name in ("start", "end"))
    for unit in activity(found):
        kinds = [COMMAND_KINDS.index(kind) for kind in UNITS[unit.unit]]
        chosen = np.isin(found.events["command.kind"], kinds)
        working = np.zeros(found.metrics.total_cycles, bool)
        for start, end in zip(starts[chosen], ends[chosen], strict=True):
            working[start:end] = True
        if unit.unit == "DRAM bus":  # loads ahead wait for others
            steps = bus_traffic(found)
            for (start, rate), (end, _) in pairwise(steps):
                working[start:end] = rate > 0
        assert unit.busy_cycles == working.sum()
        assert unit.share == working.mean()
    assert unit.busy_cycles == found.metrics.compute_cycles < (ends - starts)[chosen].sum()


def test_a_load_that_waits_for_others_does_not_keep_the_bus_busy():
    found = simulated_profile()
    events = dict(found.events)
    events["command.busy_from_cycle"] = events["command.start_cycle"].copy()
    # The load of the second op, [210, 245), runs ahead from cycle 150 on. Its op begins at 200;
    # from then until cycle 230 the bus has nothing to do with it.
    events["command.start_cycle"] = np.where(
        events["command.start_cycle"] == 210, 150, events["command.start_cycle"]
    )
    events["command.busy_from_cycle"][3] = 230
    bus, *_ = activity(replace(found, events=events))
    assert bus.busy_cycles == 5 + (200 - 150) + (245 - 230) + 5


def test_spans_of_one_op_and_kind_that_are_near_become_one():
    starts, ends = np.array([0, 12, 40, 50]), np.array([10, 20, 45, 60])
    spans = Spans(starts, ends, np.array([0, 0, 0, 1]), np.zeros(4, np.int64))
    found = merged(spans, gap=5)
    assert found.starts.tolist() == [0, 40, 50]
    assert found.ends.tolist() == [20, 45, 60]


def test_power_and_its_parts_add_up_to_the_energy_of_the_run(simulated):
    steps = power_steps(simulated)
    clock_mhz = simulated.program.target_config.compute.clock_mhz
    energy = simulated.metrics.total_energy_uj
    assert steps.watts @ steps.cycles / clock_mhz == pytest.approx(energy)
    assert sum(energy_parts_uj(simulated).values()) == pytest.approx(energy)


@pytest.mark.parametrize("bins", [1, 7, 100, 10_000])
def test_a_resampled_trace_has_the_same_energy_and_peak(simulated, bins):
    steps = power_steps(simulated)
    coarse = steps.resampled(bins)
    assert len(coarse.starts) <= bins
    assert coarse.watts @ coarse.cycles == pytest.approx(steps.watts @ steps.cycles)
    assert coarse.highest.max() == steps.watts.max()
    assert (coarse.highest >= coarse.watts - 1e-12).all()


def test_cycles_above_a_level_are_counted():
    steps = PowerSteps(np.array([0, 10, 30]), np.array([4.0, 6.0, 5.0]), np.zeros(3), 100)
    assert cycles_above(steps, 5.0) == 20
    assert cycles_above(steps, 4.5) == 90


def test_the_last_value_of_a_trace_that_was_cut_short_is_left_out():
    cut = replace(simulated_profile(), options={"left_out": {"power": 3}})
    steps = power_steps(cut)
    assert (steps.watts.tolist(), steps.end) == ([0.5, 7.5], 200)


def test_a_profile_without_traces_has_no_units_and_no_power():
    assert activity(small_profile()) == ()
    assert power_steps(small_profile()) is None
    assert energy_parts_uj(small_profile()) == {}


def test_what_is_live_at_the_peak_adds_up_to_it(compiled):
    found = memory_map(compiled)
    assert found.peak_bytes == compiled.events["op.l2_live_bytes"].max() > 0
    assert sum(block.size_bytes for block in found.live_at_peak) == found.peak_bytes
    assert found.live_at_peak[0].size_bytes == max(b.size_bytes for b in found.live_at_peak)


def test_blocks_that_live_at_the_same_time_lie_apart(compiled):
    blocks = memory_map(compiled).blocks
    assert {block.kind for block in blocks} >= {"activation", "buffer"}
    for one in blocks:
        for other in blocks:
            if one is other or one.last < other.first or other.last < one.first:
                continue
            ends_before = one.address + one.size_bytes <= other.address
            assert ends_before or other.address + other.size_bytes <= one.address


def test_the_graph_leads_downwards_and_its_boxes_lie_apart(simulated):
    graph = program_graph(simulated.program)
    ops = [node for node in graph.nodes if node.op >= 0]
    assert sorted(node.op for node in ops) == list(range(len(simulated.program.ops)))
    assert len(graph.nodes) == len(ops) + 1 + 2  # an input, two outputs
    for edge in graph.edges:
        assert all(lower == upper + 1 for (_, upper), (_, lower) in pairwise(edge.points))
    for layer in range(graph.layers):
        xs = sorted(node.x for node in graph.nodes if node.layer == layer)
        for left, right in pairwise(xs):
            assert right - left >= NODE_WIDTH + NODE_GAP - 1e-6
        assert all(NODE_WIDTH / 2 <= x <= graph.width - NODE_WIDTH / 2 + 1e-6 for x in xs)


def test_ops_are_matched_by_name_and_by_how_often_it_came_before():
    rows = op_rows(small_profile())
    twice = [rows[0], replace(rows[0], cycles=150), rows[1]]
    found = compare_ops([twice, rows])
    assert [op.name for op in found] == ["conv1", "conv1", "fc"]
    assert [op.change_cycles for op in found] == [0, -150, 0]
    assert found[1].rows[1] is None


def test_headlines_are_relative_to_the_first_run_and_to_nothing_if_that_is_zero():
    profile = small_profile()
    summary = summarise(profile, op_rows(profile))
    found = compare_headlines([summary, replace(summary, total_cycles=450, weight_bytes=8)])
    by_label = {line.label: line for line in found}
    assert by_label["Cycles"].changes == (0.0, 0.5)
    assert by_label["Weights"].changes == (None, None)


def test_ticks_are_round_and_inside():
    linear = [tick.label for tick in Axis(0, 3618, 0, 100).ticks(8)]
    assert linear == ["0", "500", "1,000", "1,500", "2,000", "2,500", "3,000", "3,500"]
    decades = [tick.label for tick in Axis(0.05, 20_000, 0, 100, is_log=True).ticks()]
    assert decades == ["0.1", "1", "10", "100", "1k", "10k"]


def test_figures_have_a_unit_that_fits():
    assert [time_text(v) for v in (0, 0.25, 12.34, 7236)] == [
        f"0{THIN}µs",
        f"250{THIN}ns",
        f"12.3{THIN}µs",
        f"7.24{THIN}ms",
    ]
    assert energy_text(1324.9) == f"1.32{THIN}mJ"
    assert share_text(0.0001) == f"<0.1{THIN}%"
    assert bytes_text(2048) == f"2.0{THIN}KiB"
    assert change_text(-0.125) == f"−12.5{THIN}%"


def test_a_shortened_name_keeps_its_end():
    assert shortened("model.22.cv2.0.0.conv", 12) == "mod…0.0.conv"
    assert len(shortened("x" * 100, 25)) == 25
    assert shortened("short", 25) == "short"
