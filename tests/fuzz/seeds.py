"""Sound files that mutants are made of: golden ones, and a program for every op case."""

from functools import cache
from pathlib import Path

import formats
from tests.kpuprof.profiles import quantised_profile, simulated_profile
from tests.kpurun.programs import classifier, program_of
from tests.op_case import OpCase
from tests.op_cases import CASES

GOLDEN = Path(__file__).parents[1] / "golden"

CONFIGS = (
    b'name = "other"\nmax_batch_size = 4\nsupported_precisions = ["int8", "bf16"]\n'
    b'native_ops = ["Conv", "Relu"]\n\n[memory]\nsram_l2_bytes = 4194304\n'
    b"dram_bandwidth_gbps = 51.2\n\n[compute]\nsystolic_rows = 32\nclock_mhz = 1e3\n"
    b"\n[timing.dram]\nburst_bytes = 32\n",
)
BUDGETS = (
    b'average_power_watts = 5\nlatency = "2 ms"\npeak_l2 = "2MiB"\ninferences_per_second = 30\n',
    b"[budgets]\nroofline_ratio = '50 %'\nsqnr_db = 30.5\ndram_bytes = 0x1000\n",
)
SPACES = (
    b'base = "swkpu-v1"\nprecision = ["int8", "fp16"]\n\n[vary]\n'
    b'"memory.sram_l2_bytes" = ["512KiB", "1MiB"]\n'
    b'"memory.dram_bandwidth_gbps" = { from = 12.8, to = 51.2, step = 12.8 }\n'
    b'"compute.clock_mhz" = { from = 250, to = 1000, count = 3, spacing = "log" }\n',
    b"[vary.memory]\nsram_bandwidth_gbps = { from = 1, to = 9.5, count = 4 }\n"
    b"[vary.timing]\noverlap_folds = [true, false]\n",
)


@cache
def programs() -> tuple[bytes, ...]:
    """One per op case with its second operands as weights, and those of `tests/golden`."""
    golden = [path.read_bytes() for path in sorted(GOLDEN.glob("*.kpu"))]
    cases = [_of_case(case) for case in CASES if _is_storable(case)]
    return (*golden, formats.to_bytes(classifier()), *cases)


@cache
def profiles() -> tuple[bytes, ...]:
    """Those of `tests/golden`, one of codes, and one with commands and watts."""
    golden = [path.read_bytes() for path in sorted(GOLDEN.glob("*.kprof"))]
    return (*golden, *map(formats.to_bytes, (quantised_profile(), simulated_profile())))


def _of_case(case: OpCase) -> bytes:
    arrays = case.arrays()
    return formats.to_bytes(program_of(case, arrays, constants=range(1, len(arrays))))


def _is_storable(case: OpCase) -> bool:
    """JSON has no infinity, which some cases have as an attribute."""
    return not any(value in (float("inf"), float("-inf")) for value in case.attributes.values())
