"""What the stages agree on: configuration, program, profile, their files and their errors.

The data classes are here at once; functions that need numpy or a decoder are imported when they
are first used, so that a command starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from formats.config import (
    ComputeConfig,
    DramTiming,
    EnergyConstants,
    KPUConfig,
    MachineTiming,
    MemoryConfig,
)
from formats.errors import (
    CheckError,
    CompilationError,
    ConfigurationError,
    FileError,
    InputError,
    KPUError,
    LimitError,
    MemoryError,
    TrustError,
    UnsupportedOpError,
    UsageError,
)
from formats.precision import DType, KPUPrecision
from formats.profile import (
    Bound,
    KPUExecutionResult,
    KPUPerformanceMetrics,
    Profile,
    SimulationMode,
)
from formats.program import (
    Buffer,
    EpilogueStage,
    KPUOp,
    KPUProgram,
    KPUTensor,
    MemoryLayout,
    MemoryType,
    Quantization,
    TileConfig,
)

if TYPE_CHECKING:
    import numpy as np

    from formats.container import load, load_profile, load_program, save, to_bytes, upgrade
    from formats.schema import load_config, override, presets
    from formats.text import dump

__all__ = [
    "Bound",
    "Buffer",
    "CheckError",
    "CompilationError",
    "ComputeConfig",
    "ConfigurationError",
    "DType",
    "DramTiming",
    "EnergyConstants",
    "EpilogueStage",
    "FileError",
    "InputError",
    "KPUConfig",
    "KPUError",
    "KPUExecutionResult",
    "KPUOp",
    "KPUPerformanceMetrics",
    "KPUPrecision",
    "KPUProgram",
    "KPUTensor",
    "LimitError",
    "MachineTiming",
    "MemoryConfig",
    "MemoryError",
    "MemoryLayout",
    "MemoryType",
    "Profile",
    "Quantization",
    "SimulationMode",
    "TileConfig",
    "TrustError",
    "UnsupportedOpError",
    "UsageError",
    "dump",
    "load",
    "load_config",
    "load_profile",
    "load_program",
    "override",
    "presets",
    "save",
    "to_bytes",
    "upgrade",
    "weights",
]

_LATER = {
    "dump": "formats.text",
    "load": "formats.container",
    "load_config": "formats.schema",
    "load_profile": "formats.container",
    "load_program": "formats.container",
    "override": "formats.schema",
    "presets": "formats.schema",
    "save": "formats.container",
    "to_bytes": "formats.container",
    "upgrade": "formats.container",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'formats' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def weights(program: KPUProgram) -> "dict[str, np.ndarray]":
    """Storage arrays by tensor id, views of the program's blob (bf16 and posit16 as uint16)."""
    from formats import tensors

    return {} if program.weights_blob is None else tensors.unpack(program.weights_blob)
