"""One point of a sweep before and after it is computed: what a worker gets and what is kept."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from formats.config import KPUConfig
from formats.console import toolchain_version
from formats.errors import FileError
from formats.precision import KPUPrecision
from kpuprof.sweep.space import Value

ProgramKey = tuple[str, KPUPrecision]  # model's label, precision


@dataclass(frozen=True)
class Figures:
    """What one inference costs on one machine."""

    cycles: int
    time_us: float
    energy_uj: float
    average_power_watts: float
    dram_bytes: int
    peak_l2_bytes: int
    utilization: float
    area_proxy: float


@dataclass(frozen=True)
class Task:
    """A point to be computed; key: what it is to the results file, whatever the space's file."""

    key: str
    program: ProgramKey
    fields: Mapping[str, Value]
    config: KPUConfig


@dataclass(frozen=True)
class Result:
    """A point that is computed; figures: None for a machine that cannot hold the model, whose
    message says why."""

    key: str
    model: str
    precision: str
    fields: Mapping[str, Value]
    figures: Figures | None
    message: str = ""

    @property
    def status(self) -> str:
        return "refused" if self.figures is None else "ok"


def task_key(digest: str, config: KPUConfig) -> str:
    """Equal for what gives equal figures: program, machine and version of the toolchain."""
    machine = asdict(config)
    content = [digest, machine, toolchain_version()]
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def to_line(result: Result) -> bytes:
    """As the results file keeps it: one line of JSON."""
    document: dict[str, Any] = {"status": result.status, **asdict(result)}
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def from_line(line: bytes, where: str) -> Result:
    """FileError for anything that `to_line` does not write."""
    import msgspec

    try:
        document = msgspec.json.decode(line, type=dict[str, Any])
        document.pop("status")
        return msgspec.convert(document, Result)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as error:
        raise FileError(f"{where} is not a result of a sweep: {error}") from error
