"""Does a program fit a machine? Checked at load, because a program is compiled for one machine.

The configuration may be the host's own class: it is read by attribute, never by isinstance.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from formats.config import KPUConfig
from formats.errors import (
    ConfigurationError,
    LimitError,
    MemoryError,
    UnsupportedOpError,
    UsageError,
)
from formats.precision import KPUPrecision
from formats.program import KPUOp, KPUProgram, KPUTensor, MemoryType

T = TypeVar("T")

# Tiles are cut for these; clock, bandwidth and sizes may differ.
GEOMETRY = ("systolic_rows", "systolic_cols", "vector_lanes", "tiles")


def own_config(config: object) -> KPUConfig:
    """Any configuration as ours: ours, a preset's name, a file, or an object with its attributes.

    What the object lacks keeps its default.
    """
    if isinstance(config, KPUConfig):
        return config
    if isinstance(config, str | Path):
        from formats.schema import load_config  # only the commands and named presets need it

        return load_config(str(config))
    if not (hasattr(config, "memory") and hasattr(config, "compute")):
        raise UsageError(
            f"a configuration has memory and compute, {type(config).__name__} has not: give a "
            "KPUConfig, the name of a preset or a file"
        )
    return _by_attribute(KPUConfig, config)


def _by_attribute(kind: type[T], source: object) -> T:
    hints = get_type_hints(kind)
    given = {}
    for field in fields(kind):  # type: ignore[arg-type]  # always called with a dataclass
        if not hasattr(source, field.name):
            continue
        value = getattr(source, field.name)
        given[field.name] = (
            _by_attribute(hints[field.name], value)
            if is_dataclass(hints[field.name])
            else _plain(field.name, value)
        )
    return kind(**given)


def _plain(name: str, value: Any) -> Any:
    if name == "supported_precisions":
        return tuple(KPUPrecision(plain_value(item)) for item in value)
    return tuple(value) if isinstance(value, list) else value


def plain_value(item: object) -> object:
    """The value behind a member of anyone's enum; other things as they are."""
    return item.value if isinstance(item, Enum) else item


def require_compatible(program: KPUProgram, config: KPUConfig) -> None:
    """Raise the error that names what of `config` the program does not fit."""
    problems = config.validate()
    if problems:
        raise ConfigurationError(f"configuration {config.name}: {'; '.join(problems)}")
    _require_precision(program, config)
    _require_ops(program, config)
    _require_geometry(program, config)
    _require_limits(program, config)
    _require_memory(program, config)


def _require_precision(program: KPUProgram, config: KPUConfig) -> None:
    needed = {program.precision: f"{program.name} is compiled for {program.precision.value}"}
    for op in program.get_ops_in_order():
        if op.precision is not None:
            text = f"op {op.id} of {program.name} is compiled for {op.precision.value}"
            needed.setdefault(op.precision, text)
    supported = ", ".join(precision.value for precision in config.supported_precisions)
    for precision, text in needed.items():
        if precision not in config.supported_precisions:
            raise ConfigurationError(
                f"{text}, but supported_precisions of {config.name} are {supported}"
            )


def _require_ops(program: KPUProgram, config: KPUConfig) -> None:
    def lacking(op: KPUOp) -> list[str]:
        known = {*config.native_ops, *config.native_activations}
        used = [op.op_type, *(stage.op_type for stage in op.epilogue)]
        return [op_type for op_type in used if op_type not in known]

    unsupported = dict.fromkeys(op_type for op in program.ops for op_type in lacking(op))
    if unsupported:
        raise UnsupportedOpError(
            sorted(unsupported), [f"native_ops of {config.name} do not contain them"]
        )


def _require_geometry(program: KPUProgram, config: KPUConfig) -> None:
    for name in GEOMETRY:
        compiled_for = getattr(program.target_config.compute, name)
        available = getattr(config.compute, name)
        if compiled_for != available:
            raise ConfigurationError(
                f"{program.name} is compiled for compute.{name} {compiled_for}, "
                f"{config.name} has {available}: compile it for this configuration"
            )


def _require_limits(program: KPUProgram, config: KPUConfig) -> None:
    for tensor in program.tensors.values():
        if len(tensor.shape) > config.max_tensor_dims:
            raise LimitError(
                f"tensor {tensor.name} has {len(tensor.shape)} dimensions, "
                f"max_tensor_dims of {config.name} is {config.max_tensor_dims}"
            )
    for tensor in program.get_input_tensors():
        uses = uses_of(program, tensor)
        if is_batched(tensor.shape, uses) and tensor.shape[0] > config.max_batch_size:
            raise LimitError(
                f"input {tensor.name} has a batch of {tensor.shape[0]}, "
                f"max_batch_size of {config.name} is {config.max_batch_size}"
            )


def uses_of(program: KPUProgram, tensor: KPUTensor) -> list[tuple[str, tuple[int, ...]]]:
    """Type and result shape of every op that reads it."""
    return [
        (op.op_type, program.tensors[op.output_ids[0]].shape)
        for op in program.ops
        if tensor.id in op.input_ids
    ]


def is_batched(shape: tuple[int, ...], uses: Sequence[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether the first dimension of an input is its batch: not of a vector, nor of what the model
    puts a batch of one in front of. uses: type and result shape of every op that reads it.
    """
    is_extended = bool(uses) and all(
        op_type in ("Reshape", "Unsqueeze") and result[:1] == (1,) for op_type, result in uses
    )
    return len(shape) > 1 and not is_extended


def _require_memory(program: KPUProgram, config: KPUConfig) -> None:
    available = {
        MemoryType.SRAM_L1: ("L1 SRAM", config.memory.sram_l1_bytes),
        MemoryType.SRAM_L2: ("L2 SRAM", config.memory.sram_l2_bytes),
        MemoryType.DRAM: ("DRAM", config.memory.dram_bytes),
    }
    for memory, (name, size_bytes) in available.items():
        required = _highest_address(program, memory)
        if required > size_bytes:
            raise MemoryError(required, size_bytes, name)


def _highest_address(program: KPUProgram, memory: MemoryType) -> int:
    """One past the last byte that the program uses of a memory."""
    tensor_ends = [
        tensor.layout.base_address + tensor.size_bytes
        for tensor in program.tensors.values()
        if tensor.layout.memory_type == memory
    ]
    buffer_ends = [
        buffer.base_address + buffer.size_bytes
        for buffer in program.buffers
        if buffer.memory_type == memory
    ]
    return max([0, *tensor_ends, *buffer_ends])
