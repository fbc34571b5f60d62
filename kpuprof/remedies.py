"""What could make a run faster: each a change of the machine or the program that can be tried."""

from collections.abc import Iterator
from dataclasses import dataclass

from formats.config import KPUConfig
from formats.precision import KPUPrecision
from formats.program import KPUProgram
from formats.schema import changed

FLOATS = frozenset({KPUPrecision.FP16, KPUPrecision.BF16})


@dataclass(frozen=True)
class Remedy:
    """change: as `kpuprof whatif` takes it; precision: where that is what changes."""

    title: str
    change: str
    config: KPUConfig
    precision: KPUPrecision | None = None


def remedies(program: KPUProgram) -> Iterator[Remedy]:
    """Twice as much of what the machine has, one after the other, and coarser numbers."""
    config = program.target_config
    memory, compute = config.memory, config.compute
    doubled = {
        "larger L2": ("memory.sram_l2_bytes", 2 * memory.sram_l2_bytes),
        "larger L1": ("memory.sram_l1_bytes", 2 * memory.sram_l1_bytes),
        "wider DRAM": ("memory.dram_bandwidth_gbps", 2 * memory.dram_bandwidth_gbps),
        "wider SRAM": ("memory.sram_bandwidth_gbps", 2 * memory.sram_bandwidth_gbps),
        "more arrays": ("compute.compute_tiles", 2 * compute.tiles),
        "more vector lanes": ("compute.vector_lanes", 2 * compute.vector_lanes),
    }
    for title, (key, value) in doubled.items():
        other = changed(config, key, f"{value}")
        if not other.validate():
            yield Remedy(title, f"{key}={value}", other)
    if program.precision in FLOATS and KPUPrecision.INT8 in config.supported_precisions:
        yield Remedy("INT8", "precision=int8", config, KPUPrecision.INT8)


def changes_of(
    program: KPUProgram, assignments: list[str]
) -> tuple[KPUConfig, KPUPrecision | None]:
    """The machine and precision that `--set` asks for, field after field.

    UsageError names what is no field, or no value of it.
    """
    from formats.console import one_of
    from formats.errors import UsageError

    config, precision = program.target_config, None
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals:
            raise UsageError(f"--set: {assignment!r} is not of the form key=value")
        if key == "precision":
            known = [each.value for each in KPUPrecision]
            precision = KPUPrecision(one_of(text, known, "--set precision"))
        else:
            config = changed(config, key, text)
    return config, precision
