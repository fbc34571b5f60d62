"""The file that describes a space: what it means, and every mistake by name."""

from pathlib import Path

import pytest

from formats.config import KPUConfig
from formats.errors import FileError, KPUError, UsageError
from formats.precision import KPUPrecision
from kpuprof.sweep.space import Axis, read_space


@pytest.fixture
def space_of(tmp_path):
    def read(text):
        (tmp_path / "space.toml").write_text(text)
        return read_space(str(tmp_path / "space.toml"))

    return read


def values(space):
    return {axis.name: axis.values for axis in space.axes}


def test_fields_have_dotted_names_or_nested_tables(space_of):
    dotted = space_of('[vary]\n"timing.dram.banks" = [4, 8]')
    nested = space_of("[vary.timing.dram]\nbanks = [4, 8]")
    assert dotted == nested
    assert dotted.axes == (Axis("timing.dram.banks", (4, 8)),)


def test_sizes_have_units(space_of):
    space = space_of('vary.memory.sram_l2_bytes = ["512KiB", "2MiB", 4194304]')
    assert values(space) == {"memory.sram_l2_bytes": (524288, 2097152, 4194304)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{ from = 12.8, to = 51.2, step = 12.8 }", (12.8, 25.6, 38.4, 51.2)),
        ("{ from = 1, to = 2, step = 0.4 }", (1.0, 1.4, 1.8)),
        ("{ from = 10, to = 40, count = 4 }", (10.0, 20.0, 30.0, 40.0)),
        ('{ from = 1, to = 8, count = 4, spacing = "log" }', (1.0, 2.0, 4.0, 8.0)),
    ],
)
def test_a_range_is_a_list_of_values(space_of, given, expected):
    space = space_of(f"vary.memory.dram_bandwidth_gbps = {given}")
    assert values(space)["memory.dram_bandwidth_gbps"] == expected


def test_a_range_of_sizes_has_units(space_of):
    space = space_of('vary.memory.sram_l2_bytes = { from = "1MiB", to = "2MiB", step = "512KiB" }')
    assert values(space)["memory.sram_l2_bytes"] == (1048576, 1572864, 2097152)


def test_switches_vary(space_of):
    assert values(space_of("vary.timing.overlap_folds = [true, false]")) == {
        "timing.overlap_folds": (True, False)
    }


def test_the_base_is_a_preset_or_a_file_beside_the_space(space_of, tmp_path):
    (tmp_path / "own.toml").write_text('name = "own"\n[compute]\nclock_mhz = 250')
    own = space_of('base = "own.toml"\nvary.compute.vector_lanes = [8, 16]')
    assert own.base.compute.clock_mhz == 250
    assert space_of("vary.compute.vector_lanes = [8]").base == KPUConfig()


def test_a_machine_has_the_values_of_its_point(space_of):
    space = space_of("vary.compute.vector_lanes = [8]\nvary.memory.l2_associativity = [2]")
    config = space.config({"compute.vector_lanes": 8, "memory.l2_associativity": 2})
    assert (config.compute.vector_lanes, config.memory.l2_associativity) == (8, 2)
    assert config.memory.sram_l2_bytes == KPUConfig().memory.sram_l2_bytes


def test_fields_may_change_through_a_machine_that_is_not_sound(space_of):
    """L1 grows beyond the base's L2 before L2 grows too."""
    space = space_of('vary.memory.sram_l1_bytes = ["4MiB"]\nvary.memory.sram_l2_bytes = ["8MiB"]')
    (l1,), (l2,) = (axis.values for axis in space.axes)
    config = space.config({"memory.sram_l1_bytes": l1, "memory.sram_l2_bytes": l2})
    assert config.validate() == []


def test_precisions_are_named(space_of):
    space = space_of('precision = ["int8", "fp16"]\nvary.compute.vector_lanes = [8]')
    assert space.precisions == (KPUPrecision.INT8, KPUPrecision.FP16)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("vary", FileError, "space.toml"),
        ("", UsageError, "nothing varies"),
        ("varied.a = [1]", UsageError, "did you mean vary?"),
        ("vary.memory.sram_l2_byte = [1]", UsageError, "did you mean sram_l2_bytes?"),
        ("vary.memory.sram_l2_bytes = [1.5]", UsageError, "not a whole number"),
        ("vary.memory.sram_l2_bytes = []", UsageError, "give a list of values"),
        ("vary.memory.sram_l2_bytes = 5", UsageError, "give a list of values"),
        ('vary.memory.sram_l2_bytes = ["1KiB", 1024]', UsageError, "a value is there twice"),
        ('vary.memory = ["1KiB"]', UsageError, "is a group"),
        ('vary.native_ops = [["Conv"]]', UsageError, "only numbers and switches vary"),
        ('vary.name = ["a"]', UsageError, "only numbers and switches vary"),
        ('precision = "fp61"\nvary.compute.vector_lanes = [8]', UsageError, "did you mean fp16?"),
        ('precision = ["int8", "int8"]\nvary.compute.vector_lanes = [8]', UsageError, "twice"),
        ('base = "swkpu-v9"\nvary.compute.vector_lanes = [8]', UsageError, "neither a preset"),
        ("vary.compute.clock_mhz = { from = 1, to = 2 }", UsageError, "step or count"),
        ("vary.compute.clock_mhz = { from = 2, to = 1, step = 1 }", UsageError, "below to"),
        ("vary.compute.clock_mhz = { from = 1, to = 2, step = 0 }", UsageError, "positive"),
        ("vary.compute.clock_mhz = { from = 1, to = 9e9, step = 1 }", UsageError, "10,000"),
        ("vary.compute.clock_mhz = { from = 1, to = 2, count = 1 }", UsageError, "from 2"),
        ("vary.compute.clock_mhz = { from = 1, to = 2, stop = 1 }", UsageError, "did you mean"),
        (
            'vary.compute.clock_mhz = { from = 0, to = 2, count = 3, spacing = "log" }',
            UsageError,
            "above 0",
        ),
    ],
)
def test_a_mistake_is_named(space_of, text, error, message):
    with pytest.raises(KPUError, match=message.replace("?", r"\?")) as caught:
        space_of(text)
    assert type(caught.value) is error


def test_the_sample_is_a_space_of_two_hundred_machines():
    space = read_space(str(Path(__file__).parents[3] / "samples" / "sweeps" / "machines.toml"))
    assert space.size == 200
