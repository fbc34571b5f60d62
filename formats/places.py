"""Where a program's tensors and buffers lie: inside their memory, aligned, and never two at once.

Lifetimes are those of the schedule. Inputs are there before the first op, outputs until after the
last, weights always; a view keeps its root alive; a buffer lives as long as its op, and as the ops
before it during which it is filled.
"""

from collections.abc import Iterator

from formats.overlap import Placement, overlaps
from formats.precision import BITS
from formats.program import Buffer, KPUProgram, KPUTensor, MemoryType

STAGING = (MemoryType.SRAM_L1, MemoryType.SRAM_L2)
LABELS = {MemoryType.SRAM_L1: "L1 SRAM", MemoryType.SRAM_L2: "L2 SRAM", MemoryType.DRAM: "DRAM"}


def place_problems(program: KPUProgram) -> Iterator[str]:
    """One sentence per problem; of a program whose ids, references and order are sound."""
    found = [*_tensor_places(program), *_views(program), *_buffer_places(program)]
    yield from found
    if found:
        return
    for one, other in overlaps(placements(program)):
        memory = LABELS[one.memory_type]
        yield f"{one.name} and {other.name} overlap in {memory} while both are live"


def capacities(program: KPUProgram) -> dict[MemoryType, int]:
    """Bytes of each memory that can be addressed."""
    memory = program.target_config.memory
    return {
        MemoryType.SRAM_L1: memory.sram_l1_bytes,
        MemoryType.SRAM_L2: memory.sram_l2_bytes,
        MemoryType.DRAM: memory.dram_bytes,
    }


def placements(program: KPUProgram) -> list[Placement]:
    """Everything that occupies memory, with the first and last op that it is needed for."""
    return [*_tensor_placements(program), *_buffer_placements(program)]


def _tensor_placements(program: KPUProgram) -> Iterator[Placement]:
    """Views are part of their root."""
    roots = {tensor.id: tensor.alias_of or tensor.id for tensor in program.tensors.values()}
    after_all = len(program.ops)
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for tensor in program.tensors.values():
        if tensor.is_weight or tensor.is_input:
            first[roots[tensor.id]] = -1
        if tensor.is_weight or tensor.is_output:
            last[roots[tensor.id]] = after_all
    for op in program.ops:
        for tensor_id in (*op.input_ids, *op.output_ids):
            root = roots[tensor_id]
            first.setdefault(root, op.schedule_order)
            last[root] = max(last.get(root, -1), op.schedule_order)
    for root, start in first.items():
        tensor = program.tensors[root]
        place = (tensor.layout.memory_type, tensor.layout.base_address, tensor.size_bytes)
        yield Placement(f"tensor {root!r}", *place, start, last.get(root, start))


def _buffer_placements(program: KPUProgram) -> Iterator[Placement]:
    order = {op.id: op.schedule_order for op in program.ops}
    for buffer in program.buffers:
        place = (buffer.memory_type, buffer.base_address, buffer.size_bytes)
        during = order[buffer.op_id]
        yield Placement(_buffer_name(buffer), *place, during - buffer.prefetch_ops, during)


def _tensor_places(program: KPUProgram) -> Iterator[str]:
    available = capacities(program)
    for tensor in program.tensors.values():
        layout = tensor.layout
        what = f"tensor {tensor.id!r}"
        yield from _place(what, layout.memory_type, layout.base_address, tensor, available)
        if layout.alignment_bytes < 1 or layout.base_address % layout.alignment_bytes:
            yield f"{what} at {layout.base_address:#x} is not aligned to {layout.alignment_bytes}"


def _buffer_places(program: KPUProgram) -> Iterator[str]:
    available = capacities(program)
    ops = {op.id: op for op in program.ops}
    seen: set[tuple[str, str, MemoryType]] = set()
    for buffer in program.buffers:
        what = _buffer_name(buffer)
        op = ops.get(buffer.op_id)
        if op is None or buffer.tensor_id not in (*op.input_ids, *op.output_ids):
            yield f"{what} stages what no op of that id touches"
        if buffer.memory_type not in STAGING:
            yield f"{what} is in {buffer.memory_type.value}, where nothing is staged"
            continue
        if buffer.copies < 1 or buffer.size_bytes < buffer.copies:
            yield f"{what} has {buffer.size_bytes} bytes for {buffer.copies} copies"
        if not 0 <= buffer.prefetch_ops <= (op.schedule_order if op else 0):
            yield f"{what} is filled {buffer.prefetch_ops} ops ahead"
        elif buffer.prefetch_ops and not _can_prefetch(program, buffer):
            yield f"{what} is filled ahead, which only buffers of weights in L2 are"
        yield from _place(what, buffer.memory_type, buffer.base_address, buffer, available)
        key = (buffer.op_id, buffer.tensor_id, buffer.memory_type)
        if key in seen:
            yield f"{what} is there twice"
        seen.add(key)


def _can_prefetch(program: KPUProgram, buffer: Buffer) -> bool:
    tensor = program.tensors.get(buffer.tensor_id)
    return buffer.memory_type is MemoryType.SRAM_L2 and tensor is not None and tensor.is_weight


def _place(
    what: str,
    memory: MemoryType,
    start: int,
    item: KPUTensor | Buffer,
    available: dict[MemoryType, int],
) -> Iterator[str]:
    if memory not in available:
        yield f"{what} cannot live in {memory.value}"
    elif type(start) is not int or start < 0:
        yield f"{what} has the address {start!r}"
    elif start + item.size_bytes > available[memory]:
        end, most = start + item.size_bytes, available[memory]
        yield f"{what} ends at byte {end:,} of {LABELS[memory]}, which has {most:,}"


def _views(program: KPUProgram) -> Iterator[str]:
    """A view names the bytes of a root, all of them or a box, in a type of the same kind."""
    makers = {tensor_id: op for op in program.ops for tensor_id in op.output_ids}
    for tensor in program.tensors.values():
        what = f"tensor {tensor.id!r}"
        if tensor.alias_of is None:
            if tensor.starts:
                yield f"{what} begins at {list(tensor.starts)} of no other tensor"
            continue
        root = program.tensors.get(tensor.alias_of)
        if root is None or root.alias_of is not None:
            yield f"{what} is a view of {tensor.alias_of!r}, which is no tensor with its own bytes"
        elif _extent(root) != _extent(tensor):
            yield f"{what} does not have the place and type of {root.id!r}, its root"
        elif tensor.starts and not _is_box(tensor, root):
            yield f"{what} is no box in {root.id!r}, its root, at {list(tensor.starts)}"
        elif not tensor.starts and root.size_bytes != tensor.size_bytes:
            yield f"{what} does not have the size of {root.id!r}, its root"
        elif (root.scale, root.zero_point or 0) != (tensor.scale, tensor.zero_point or 0):
            yield f"{what} has other codes than {root.id!r}, its root"
        elif tensor.starts:
            continue  # who may write there, the machine knows
        elif tensor.id not in makers or not any(
            root.id in (source, program.tensors[source].alias_of)
            for source in makers[tensor.id].input_ids
        ):
            yield f"{what} is a view of {root.id!r}, but the op that makes it does not read that"


def _extent(tensor: KPUTensor) -> tuple[object, ...]:
    return tensor.layout.memory_type, tensor.layout.base_address, tensor.dtype


def _is_box(tensor: KPUTensor, root: KPUTensor) -> bool:
    """Whole elements of the same order, inside of the root."""
    is_alike = len(tensor.starts) == len(tensor.shape) == len(root.shape)
    is_apart = not (tensor.is_weight or tensor.is_input or tensor.is_output)
    return (
        is_alike
        and is_apart
        and tensor.layout.format == root.layout.format
        and BITS[tensor.dtype] >= 8
        and all(
            type(start) is int and 0 <= start <= whole - size
            for start, size, whole in zip(tensor.starts, tensor.shape, root.shape, strict=True)
        )
    )


def _buffer_name(buffer: Buffer) -> str:
    return f"the {buffer.memory_type.value} buffer of {buffer.tensor_id!r} for op {buffer.op_id!r}"
