"""A program as text: for people, and for golden tests that a diff can be read in."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from formats.program import Buffer, EpilogueStage, KPUOp, KPUProgram, KPUTensor, TileConfig


def dump(program: KPUProgram) -> str:
    """Header, one paragraph per op with its operands, tiles, buffers and estimate, then tensors.

    The same program gives the same text; of a program that `formats.verify` accepts.
    """
    lines = [*_header(program), "", *_ops(program), "", *_tensors(program)]
    return "\n".join(lines) + "\n"


def _header(program: KPUProgram) -> Iterator[str]:
    target = program.target_config
    yield f"program {program.name} ({program.precision.value}, {target.name} {target.version})"
    yield f"  source {_plain(program.source_model) or '-'} {_plain(program.source_hash)}".rstrip()
    yield (
        f"  {len(program.ops)} ops, {program.estimated_total_cycles:,} cycles, "
        f"{program.estimated_total_energy_uj:,.1f} uJ (estimates)"
    )
    yield (
        f"  peak L2 {program.peak_sram_bytes:,} B (largest live set "
        f"{program.live_set_bound_bytes:,} B), peak DRAM {program.peak_dram_bytes:,} B, "
        f"weights {program.weight_bytes:,} B, activations {program.activation_bytes:,} B"
    )
    yield f"  preprocess {_plain(program.preprocess)}"
    yield f"  options{_attributes(program.options) or ' -'}"
    if program.quantization is not None:
        yield f"  quantisation {_attributes(asdict(program.quantization)).strip()}"
    yield f"  inputs {_ids(program.input_ids)}; outputs {_ids(program.output_ids)}"


def _ops(program: KPUProgram) -> Iterator[str]:
    buffers: dict[str, list[Buffer]] = defaultdict(list)
    for buffer in program.buffers:
        buffers[buffer.op_id].append(buffer)
    for op in program.get_ops_in_order():
        outputs = ", ".join(_typed(program.tensors[tensor_id]) for tensor_id in op.output_ids)
        call = f"{op.op_type}({_ids(op.input_ids[: op.operand_count])})"
        yield f"{op.schedule_order:4d} {outputs} = {call}{_attributes(op.attributes)}"
        yield from (f"       | {_stage(op, stage)}" for stage in op.epilogue)
        yield from (f"       {line}" for line in _details(op))
        yield from (f"       {_buffer(buffer)}" for buffer in buffers[op.id])


def _stage(op: KPUOp, stage: EpilogueStage) -> str:
    if stage.operand is None:
        return f"{stage.op_type}{_attributes(stage.attributes)}"
    sides = ["acc", f"%{op.input_ids[stage.operand]}"]
    ordered = sides if stage.accumulator_side == 0 else sides[::-1]
    return f"{stage.op_type}({', '.join(ordered)}){_attributes(stage.attributes)}"


def _details(op: KPUOp) -> Iterator[str]:
    if op.precision is not None:
        yield f"precision {op.precision.value}"
    if op.name:
        yield f"name {op.name}"
    if op.fused_with:
        yield f"fused {', '.join(map(_plain, op.fused_with))}"
    if op.tiling is not None:
        yield f"tile {_tiling(op.tiling)}"
    yield f"cycles {op.estimated_cycles:,}  energy {op.estimated_energy_pj / 1e6:,.3f} uJ"


def _tiling(tiling: TileConfig) -> str:
    parts = [f"L1 {_sizes(tiling.tile_sizes)}", f"order {' '.join(tiling.loop_order) or '-'}"]
    if tiling.l2_tile_sizes:
        order = " ".join(tiling.l2_loop_order) or "-"
        parts.append(f"L2 {_sizes(tiling.l2_tile_sizes)} order {order}")
    if tiling.reduction_split > 1:
        parts.append(f"reduction over {tiling.reduction_split} arrays")
    parts.append("double-buffered" if tiling.double_buffer else "single-buffered")
    return "; ".join(parts)


def _buffer(buffer: Buffer) -> str:
    place = f"{buffer.memory_type.value}@{buffer.base_address:#x}"
    return f"buffer %{buffer.tensor_id} {place} {buffer.size_bytes} B, copies {buffer.copies}"


def _sizes(sizes: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in sorted(sizes.items())) or "whole"


def _tensors(program: KPUProgram) -> Iterator[str]:
    for tensor in sorted(program.tensors.values(), key=lambda tensor: tensor.id):
        layout = tensor.layout
        place = f"{layout.memory_type.value}@{layout.base_address:#x}"
        words = [_typed(tensor), layout.format, place, f"{tensor.size_bytes} B"]
        words += [role for role in ("weight", "input", "output") if getattr(tensor, f"is_{role}")]
        if tensor.scale is not None:
            words.append(f"scale {tensor.scale} zero {tensor.zero_point or 0}")
        if tensor.scales is not None:
            groups = f" groups of {tensor.group_size}" if tensor.group_size else ""
            words.append(f"scales %{tensor.scales} axis {tensor.scale_axis}{groups}")
        if tensor.alias_of:
            place = f" at {list(tensor.starts)}" if tensor.starts else ""
            words.append(f"view of %{tensor.alias_of}{place}")
        if tensor.name not in ("", tensor.id):
            words.append(f"name {tensor.name}")
        yield " ".join(words)


def _ids(tensor_ids: Sequence[str]) -> str:
    return ", ".join(f"%{tensor_id}" for tensor_id in tensor_ids)


def _typed(tensor: KPUTensor) -> str:
    return f"%{tensor.id}: {tensor.dtype.value}[{', '.join(map(str, tensor.shape))}]"


def _attributes(attributes: Mapping[str, Any]) -> str:
    if not attributes:
        return ""
    return " {" + ", ".join(f"{key}={_value(attributes[key])}" for key in sorted(attributes)) + "}"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        return _attributes(value).strip() or "{}"
    return _plain(value if isinstance(value, str) else str(value))


def _plain(text: str) -> str:
    """Text that a terminal shows as it is: a file's strings may hold anything."""
    return text if text.isprintable() else ascii(text)
