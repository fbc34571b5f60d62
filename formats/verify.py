"""Is a program well formed? Ids, types, order, references, weights, tiles; then where things lie.

Nothing of a program is believed before this has passed. What an op's attributes mean, and whether
its operands fit it, is the machine's business and checked there.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from formats.codec import POSITS, decode
from formats.errors import FileError
from formats.places import place_problems
from formats.precision import DType, size_in_bytes
from formats.program import EpilogueStage, KPUOp, KPUProgram, KPUTensor, TileConfig
from formats.quantized import CODE_RANGES, is_coded
from formats.tensors import LABELS, MAX_RANK, read_header, unpack

MAX_OPS = 1_000_000
MAX_MEMORY_BYTES = 2**44  # 16 TiB: far above any machine, far below what an integer array overflows
LAYOUTS = ("NCHW", "NHWC")
STAGES_WITH_OPERAND = ("Add", "Sub", "Mul", "Div")
HOST_DTYPES = (
    "float16 bfloat16 float32 float64 int8 uint8 int16 uint16 int32 uint32 int64 bool"
).split()
SCALABLE = frozenset({*CODE_RANGES, *POSITS})


def verify(program: KPUProgram, has_weights: bool = True) -> None:
    """FileError with the first problem, and how many there are."""
    found = problems(program, has_weights)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise FileError(f"{program.name}: {found[0]}{more}")


def problems(program: KPUProgram, has_weights: bool = True) -> list[str]:
    """What is wrong, one sentence each; a check runs only when those before it found nothing.

    has_weights: False for the program of a profile, which is the graph alone.
    """
    checks = [
        _config, _names, _tensors, _scales, _interface, _ops, _order, place_problems
    ]  # fmt: skip
    if has_weights:
        checks += [_weights, _codes]
    for check in checks:
        found = list(check(program))
        if found:
            return found
    return []


def _config(program: KPUProgram) -> Iterator[str]:
    config = program.target_config
    yield from config.validate()
    memories = (config.memory.sram_l1_bytes, config.memory.sram_l2_bytes, config.memory.dram_bytes)
    if max(memories) > MAX_MEMORY_BYTES:
        yield f"a memory of {max(memories):,} bytes is larger than any that can be addressed"
    if len(program.ops) > MAX_OPS:
        yield f"{len(program.ops):,} ops are more than a program may have"


def _names(program: KPUProgram) -> Iterator[str]:
    """Ids are there, once each, and can be printed anywhere (no control characters)."""
    for key, tensor in program.tensors.items():
        if tensor.id != key:
            yield f"tensor {key!r} is filed under another id than its own, {tensor.id!r}"
    for twice in _repeated(op.id for op in program.ops):
        yield f"two ops have the id {twice!r}"
    target = program.target_config
    for what, name in (("program", program.name), ("machine", f"{target.name}{target.version}")):
        if not name.isprintable():
            yield f"the {what}'s name {name!r} cannot be printed"
    named = [("tensor", tensor.id, tensor.name) for tensor in program.tensors.values()]
    for kind, item_id, name in (*named, *(("op", op.id, op.name) for op in program.ops)):
        if not item_id or not item_id.isprintable() or not name.isprintable():
            yield f"{kind} {item_id!r} has an empty or unprintable id or name"


def _tensors(program: KPUProgram) -> Iterator[str]:
    most_dims = min(MAX_RANK, program.target_config.max_tensor_dims)
    for tensor in program.tensors.values():
        yield from (f"tensor {tensor.id!r} {problem}" for problem in _tensor(tensor, most_dims))


def _tensor(tensor: KPUTensor, most_dims: int) -> Iterator[str]:
    rank = len(tensor.shape)
    if not all(type(size) is int and size >= 1 for size in tensor.shape):
        yield f"has a dimension that is no whole number from 1 up in its shape {list(tensor.shape)}"
        return
    if rank > most_dims:
        yield f"has {rank} dimensions, at most {most_dims} are supported"
    layout = tensor.layout
    if layout.format not in LAYOUTS:
        yield f"has the unknown layout {layout.format!r}"
    if layout.format == "NHWC" and rank != 4:
        yield f"is NHWC but has {rank} dimensions"
    if layout.format != "NCHW" and (tensor.is_input or tensor.is_output):
        yield f"is {layout.format}, but inputs and outputs are NCHW"
    if not layout.contiguous:
        yield "is not contiguous, which no layout can express"
    tile = layout.tile_shape
    if tile is not None and (len(tile) != rank or min(tile, default=1) < 1):
        yield f"has the tile shape {list(tile)} for its shape {list(tensor.shape)}"
    if tensor.host_dtype not in HOST_DTYPES:
        yield f"has the unknown host dtype {tensor.host_dtype!r}"
    yield from _quantisation(tensor)


def _quantisation(tensor: KPUTensor) -> Iterator[str]:
    if tensor.is_quantized and tensor.dtype not in SCALABLE:
        yield f"has a scale, which {tensor.dtype.value} cannot have"
    if tensor.dtype is DType.INT4 and not tensor.is_quantized:
        yield "is int4, which are codes, but has no scale"
    if tensor.scale is not None:
        yield from (
            f"has the scale {wrong}" for wrong in _bad_scales(np.array(tensor.scale), tensor)
        )
    if tensor.zero_point is None:
        return
    low, high = CODE_RANGES.get(tensor.dtype, (0, 0))  # zero itself needs a code
    if tensor.scale is None or not low <= tensor.zero_point <= high:
        yield f"has the zero point {tensor.zero_point}, which {tensor.dtype.value} cannot have"


def _bad_scales(scales: np.ndarray, tensor: KPUTensor) -> Iterator[str]:
    """The first scale that is not positive and finite in float32 or, of a posit, not exact."""
    with np.errstate(over="ignore", under="ignore"):
        singles = scales.astype(np.float32).ravel()
    wrong = ~((singles > 0) & (singles < math.inf))
    for index in np.flatnonzero(wrong)[:1]:
        yield f"{scales.flat[index]}"
        return
    inexact = (np.frexp(singles)[0] != 0.5) | (singles != scales.ravel())
    for index in np.flatnonzero(inexact & (tensor.dtype in POSITS))[:1]:
        yield f"{scales.flat[index]}, which is no power of two"


def _scales(program: KPUProgram) -> Iterator[str]:
    """Scales that are tensors of their own exist and have the shape that the weight asks for."""
    for tensor in program.tensors.values():
        if tensor.scales is None:
            if tensor.group_size:
                yield f"tensor {tensor.id!r} has a group size but no scales"
            continue
        scales = program.tensors.get(tensor.scales)
        if scales is None or not scales.is_weight or scales.dtype is not DType.FP32:
            yield f"tensor {tensor.id!r} has the scales {tensor.scales!r}, which are no fp32 weight"
        elif not tensor.is_weight or tensor.scale is not None:
            yield f"tensor {tensor.id!r} has scales, but is no weight or has one scale too"
        elif not 0 <= tensor.scale_axis < len(tensor.shape) or tensor.group_size < 0:
            yield f"tensor {tensor.id!r} has no axis {tensor.scale_axis} or a negative group size"
        elif scales.shape != _scales_shape(tensor):
            expected = list(_scales_shape(tensor))
            yield f"tensor {tensor.id!r} needs scales of shape {expected}, not {list(scales.shape)}"


def _scales_shape(tensor: KPUTensor) -> tuple[int, ...]:
    channels = tensor.shape[tensor.scale_axis]
    if not tensor.group_size:
        return (channels,)
    return channels, -(-math.prod(tensor.shape) // channels // tensor.group_size)


def _interface(program: KPUProgram) -> Iterator[str]:
    """Inputs and outputs are known, marked as what they are, and listed once."""
    listings = {"input": program.input_ids, "output": program.output_ids}
    for role, listed in listings.items():
        for tensor_id in listed:
            if tensor_id not in program.tensors:
                yield f"{role} {tensor_id!r} is an unknown tensor"
        for twice in _repeated(listed):
            yield f"{role} {twice!r} is listed twice"
        marked = {t.id for t in program.tensors.values() if getattr(t, f"is_{role}")}
        for tensor_id in sorted(marked.symmetric_difference(listed) & program.tensors.keys()):
            yield f"tensor {tensor_id!r} is marked as {role} or listed as one, but not both"
    for tensor in program.tensors.values():
        if tensor.is_weight and tensor.is_input:
            yield f"tensor {tensor.id!r} is both a weight and an input"


def _ops(program: KPUProgram) -> Iterator[str]:
    for op in program.ops:
        yield from (f"op {op.id!r} {problem}" for problem in _op(op, program.tensors))


def _op(op: KPUOp, tensors: Mapping[str, KPUTensor]) -> Iterator[str]:
    for tensor_id in (*op.input_ids, *op.output_ids):
        if tensor_id not in tensors:
            yield f"references the unknown tensor {tensor_id!r}"
    if not op.op_type.isidentifier():
        yield f"has the op type {op.op_type!r}"
    if not op.output_ids:
        yield "has no output"
    if not 1 <= op.operand_count <= len(op.input_ids):
        yield f"has {len(op.input_ids)} inputs, but operand_count {op.operand_count}"
        return
    estimates = (op.estimated_cycles, op.estimated_energy_pj)
    if not all(0 <= value < math.inf for value in estimates):
        yield f"has the estimates {estimates}"
    if op.epilogue and len(op.output_ids) != 1:
        yield "has an epilogue but not one output"
    for stage in op.epilogue:
        yield from _stage(op, stage)
    used = {stage.operand for stage in op.epilogue}
    scales = _scales_of(op, tensors)
    used.update(index for index, read in enumerate(op.input_ids) if read in scales)
    for missing in sorted(scales.difference(op.input_ids[op.operand_count :])):
        yield f"does not read the scales {missing!r} of its operand"
    for twice in _repeated(read for read in op.input_ids[op.operand_count :] if read in scales):
        yield f"reads the scales {twice!r} twice"
    for index in set(range(op.operand_count, len(op.input_ids))).difference(used):
        yield f"has the input {op.input_ids[index]!r} that neither it nor its epilogue reads"
    if op.tiling is not None:
        yield from _tiling(op.tiling)


def _scales_of(op: KPUOp, tensors: Mapping[str, KPUTensor]) -> set[str]:
    own = [tensors[each] for each in op.input_ids[: op.operand_count] if each in tensors]
    return {tensor.scales for tensor in own if tensor.scales is not None}


def _stage(op: KPUOp, stage: EpilogueStage) -> Iterator[str]:
    takes_operand = stage.op_type in STAGES_WITH_OPERAND
    if takes_operand != (stage.operand is not None):
        yield f"has a stage {stage.op_type} with{'out' if takes_operand else ''} an operand"
    elif stage.operand is not None and not op.operand_count <= stage.operand < len(op.input_ids):
        yield f"has a stage {stage.op_type} that names operand {stage.operand}, not an epilogue's"
    if stage.accumulator_side not in (0, 1):
        yield f"has a stage {stage.op_type} with the accumulator side {stage.accumulator_side}"


def _tiling(tiling: TileConfig) -> Iterator[str]:
    sizes = (*tiling.tile_sizes.values(), *tiling.l2_tile_sizes.values())
    if not all(type(size) is int and size >= 1 for size in sizes):
        yield "has a tile size that is no whole number from 1 up"
    for order in (tiling.loop_order, tiling.l2_loop_order):
        for twice in _repeated(order):
            yield f"loops over {twice!r} twice"
    for name, size in tiling.tile_sizes.items():
        outer = tiling.l2_tile_sizes.get(name, size)
        if size > outer:
            yield f"has an L1 tile of {name}={size} inside an L2 tile of {name}={outer}"
    distance = min(tiling.prefetch_distance, tiling.l2_prefetch_distance)
    if tiling.reduction_split < 1 or distance < 0:
        yield "has a reduction split below 1 or a prefetch distance below 0"


def _order(program: KPUProgram) -> Iterator[str]:
    """Ops stand in scheduled order; each reads what exists and makes what does not."""
    if [op.schedule_order for op in program.ops] != list(range(len(program.ops))):
        yield "schedule_order does not count the ops from 0"
    ready = {t.id for t in program.tensors.values() if t.is_weight or t.is_input}
    for op in program.ops:
        for tensor_id in op.input_ids:
            if tensor_id not in ready:
                yield f"op {op.id!r} reads {tensor_id!r} before it is made"
        for tensor_id in op.output_ids:
            if tensor_id in ready:
                yield f"op {op.id!r} makes {tensor_id!r}, which exists already"
            ready.add(tensor_id)
    for tensor_id in sorted(program.tensors.keys() - ready):
        yield f"tensor {tensor_id!r} is never made"


def _weights(program: KPUProgram) -> Iterator[str]:
    """The blob holds exactly the weights that the graph declares."""
    try:
        stored = {} if program.weights_blob is None else read_header(program.weights_blob)[0]
    except FileError as error:
        yield f"weights: {error}"
        return
    declared = {tensor.id: tensor for tensor in program.tensors.values() if tensor.is_weight}
    for tensor_id in sorted(declared.keys() - stored.keys()):
        yield f"weight {tensor_id!r} is not in weights_blob"
    for tensor_id in sorted(stored.keys() - declared.keys()):
        yield f"weights_blob holds {tensor_id!r}, which is no weight of the program"
    for tensor_id in sorted(stored.keys() & declared.keys()):
        entry, tensor = stored[tensor_id], declared[tensor_id]
        found, expected = (entry.label, entry.shape), (LABELS[tensor.dtype], _stored_shape(tensor))
        if found != expected:
            yield f"weight {tensor_id!r} is stored as {_text(*found)}, not {_text(*expected)}"


def _codes(program: KPUProgram) -> Iterator[str]:
    """Codes and scales of the weights are those that the machine multiplies."""
    coded = [t for t in program.tensors.values() if t.is_weight and t.is_quantized]
    stored = unpack(program.weights_blob) if coded and program.weights_blob is not None else {}
    for tensor in coded:
        if is_coded(tensor):
            least = int(decode(stored[tensor.id], tensor.dtype, tensor.shape).min())
            low, _ = CODE_RANGES[tensor.dtype]
            if least < low:
                yield f"weight {tensor.id!r} holds the code {least}, below {low}"
        if tensor.scales is not None:
            for wrong in _bad_scales(stored[tensor.scales], tensor):
                yield f"weight {tensor.id!r} has the scale {wrong}"


def _stored_shape(tensor: KPUTensor) -> tuple[int, ...]:
    """INT4 is packed, two to a byte, in one dimension."""
    if tensor.dtype is DType.INT4:
        return (size_in_bytes(math.prod(tensor.shape), tensor.dtype),)
    return tensor.shape


def _text(label: str, shape: tuple[int, ...]) -> str:
    return f"{label}{list(shape)}"


def _repeated(items: Iterable[str]) -> list[str]:
    """Those that occur more than once, in order of their second occurrence."""
    seen: set[str] = set()
    again: dict[str, None] = {}
    for item in items:
        if item in seen:
            again[item] = None
        seen.add(item)
    return list(again)
