"""What the compiler promises about a program: its time on the machine, its memory, its tiles."""

from collections import defaultdict
from dataclasses import dataclass

from rich.console import Console

from formats.profile import KPUPerformanceMetrics
from formats.program import KPUProgram, MemoryType
from kpurun.metrics import bound_cycles, live_l2_bytes
from kpurun.sim.timeline import simulate, simulated_metrics
from samples.bench.bars import Bar, at_most, print_table
from samples.bench.subjects import Subject

HEADER = (
    "network",
    "ops",
    "cycles",
    "/ bound",
    "latency ms",
    "energy mJ",
    "power W",
    "DRAM MB",
    "peak L2 KiB",
    "/ live set",
    "largest L1 KiB",
)


@dataclass(frozen=True)
class Facts:
    """Figures of one program; ratios are to their lower bounds."""

    program: KPUProgram
    metrics: KPUPerformanceMetrics

    @property
    def bound_cycles(self) -> int:
        """What no schedule of the program beats."""
        return bound_cycles(self.program)

    @property
    def total_cycles(self) -> int:
        return self.metrics.total_cycles

    @property
    def l2_over_bound(self) -> float:
        """Peak address use over the most that is live during any op, counted anew."""
        bound = max(live_l2_bytes(self.program), default=0)
        return self.program.peak_sram_bytes / bound if bound else 1.0

    @property
    def largest_l1_bytes(self) -> int:
        """Of the L1 buffers that one op needs at the same time."""
        sizes: dict[str, int] = defaultdict(int)
        for buffer in self.program.buffers:
            if buffer.memory_type is MemoryType.SRAM_L1:
                sizes[buffer.op_id] += buffer.size_bytes
        return max(sizes.values(), default=0)


def facts_of(program: KPUProgram) -> Facts:
    """Simulate the program, from nothing but itself."""
    return Facts(program, simulated_metrics(simulate(program)))


def check_programs(console: Console, subjects: list[Subject]) -> list[Bar]:
    """Print a line for each network; bars on L1, and on the bound."""
    facts = {subject.name: facts_of(subject.program) for subject in subjects}
    rows = [row(name, each) for name, each in facts.items()]
    print_table(console, "Programs on swkpu-v1, FP16", HEADER, rows)
    return [bar for name, each in facts.items() for bar in bars_of(name, each)]


def row(name: str, facts: Facts) -> list[str]:
    """One line of the table."""
    metrics = facts.metrics
    dram_bytes = metrics.dram_reads_bytes + metrics.dram_writes_bytes
    return [
        name,
        str(len(facts.program.ops)),
        f"{metrics.total_cycles:,}",
        f"{facts.total_cycles / facts.bound_cycles:.2f}",
        f"{metrics.total_time_us / 1e3:.2f}",
        f"{metrics.energy_per_inference_mj:.2f}",
        f"{metrics.average_power_watts:.2f}",
        f"{dram_bytes / 1e6:.1f}",
        f"{facts.program.peak_sram_bytes / 1024:.0f}",
        f"{facts.l2_over_bound:.3f}",
        f"{facts.largest_l1_bytes / 1024:.0f}",
    ]


def bars_of(name: str, facts: Facts) -> list[Bar]:
    """No program faster than possible, tiles inside L1."""
    l1_kib = facts.program.target_config.memory.sram_l1_bytes / 1024
    return [
        at_most(
            f"{name}: bound / simulated cycles", facts.bound_cycles / facts.total_cycles, 1.0, "×"
        ),
        at_most(
            f"{name}: largest L1 use of an op", facts.largest_l1_bytes / 1024, l1_kib, "KiB", 0
        ),
    ]
