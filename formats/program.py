"""The program that kpuc writes and kpurun executes: the host's data classes, plus our fields.

Data without behaviour beyond the accessors the host calls. Sequences are tuples and nothing here
is mutated after it is built; fields the document does not have carry a default.
"""

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from formats.config import KPUConfig
from formats.precision import DType, KPUPrecision, size_in_bytes


class MemoryType(str, Enum):
    """Where a tensor lives."""

    REGISTER = "register"
    SRAM_L1 = "sram_l1"
    SRAM_L2 = "sram_l2"
    DRAM = "dram"
    FLASH = "flash"


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """Where a tensor lives and in which order its elements do.

    `format` is "NCHW" (the order of the shape, also for tensors that are not images) or "NHWC"
    (channels last; 4-D tensors only). Shapes are always given in NCHW order.
    """

    memory_type: MemoryType = MemoryType.DRAM
    base_address: int = 0
    format: str = "NCHW"
    tile_shape: tuple[int, ...] | None = None
    alignment_bytes: int = 64
    contiguous: bool = True


@dataclass(frozen=True, slots=True)
class TileConfig:
    """Two-level tiling of one op over the dimensions of its loop nest.

    `tile_sizes` is the L1 tile: iteration dimension -> size. `l2_tile_sizes` is the L2 tile that L1
    tiles are cut from; empty where the op's whole operands are in L2 (or fit L1). A dimension that
    is not named is not split. `loop_order` runs from the outermost dimension to the innermost.
    `reduction_split` is over how many arrays the reduction of one output block is split.
    Double buffers are filled `prefetch_distance` tiles ahead in L1, `l2_prefetch_distance` in L2.
    """

    tile_sizes: dict[str, int] = field(default_factory=dict)
    loop_order: tuple[str, ...] = ()
    double_buffer: bool = False
    prefetch_distance: int = 1
    l2_tile_sizes: dict[str, int] = field(default_factory=dict)
    l2_loop_order: tuple[str, ...] = ()
    l2_prefetch_distance: int = 1
    reduction_split: int = 1


@dataclass(frozen=True, slots=True)
class KPUTensor:
    """A tensor of the program. `dtype` is what is stored; `host_dtype` what a user gives or gets.

    `alias_of` names the tensor whose bytes this one is a view of (same address): all of them, or,
    with `starts`, the box of its own shape that begins there.

    A stored code q stands for (q - zero_point) · scale. A weight may have many scales instead:
    `scales` names the fp32 tensor that holds them, one per index of `scale_axis` (shape [n]), or
    one for every `group_size` consecutive weights of each (shape [n, groups]; the weights of an
    index are counted in the order of the other axes). An op that reads the weight reads them too.
    """

    id: str
    name: str
    shape: tuple[int, ...]
    dtype: DType
    layout: MemoryLayout = field(default_factory=MemoryLayout)
    scale: float | None = None
    zero_point: int | None = None
    is_weight: bool = False
    is_input: bool = False
    is_output: bool = False
    host_dtype: str = "float32"
    alias_of: str | None = None
    starts: tuple[int, ...] = ()
    scales: str | None = None
    scale_axis: int = 0
    group_size: int = 0

    @property
    def is_quantized(self) -> bool:
        """Whether what is stored are codes of real numbers."""
        return self.scale is not None or self.scales is not None

    @property
    def size_bytes(self) -> int:
        """Packed size in bytes."""
        return size_in_bytes(math.prod(self.shape), self.dtype)


@dataclass(frozen=True, slots=True)
class EpilogueStage:
    """One step of the vector unit on the drain edge, applied to the unrounded accumulator.

    `op_type` is an activation (one operand) or Add, Sub, Mul, Div; for those `operand` is the index
    in the op's `input_ids` of the second operand, and `accumulator_side` says on which side of the
    operator the accumulator stands (0 left, 1 right: it matters for Sub and Div).
    """

    op_type: str
    attributes: dict[str, Any] = field(default_factory=dict)
    operand: int | None = None
    accumulator_side: int = 0


@dataclass(frozen=True, slots=True)
class KPUOp:
    """One operation in scheduled order.

    `input_ids` are the operands of the op itself, in ONNX order, then those of its epilogue, then
    the scales of its own operands; `operand_count` says how many belong to the op itself.
    `precision` is what its multiply-accumulates run in; None: as the program's. `fused_with` names
    the source operations that were folded into this one. `name` is the module path in the model,
    `source` its source line.
    """

    id: str
    op_type: str
    input_ids: tuple[str, ...] = ()
    output_ids: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    tiling: TileConfig | None = None
    schedule_order: int = 0
    fused_with: tuple[str, ...] = ()
    estimated_cycles: int = 0
    estimated_energy_pj: float = 0.0
    epilogue: tuple[EpilogueStage, ...] = ()
    operand_count: int = 0
    name: str = ""
    source: str = ""
    precision: KPUPrecision | None = None


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a program was quantised, and what that changed, measured on samples that were held out.

    `sqnr_db` and `max_difference` (max |d| / max |baseline|, the worst sample) are by output name,
    `op_sqnr_db` by op id; a difference of nothing is 200 dB. `mac_share` is the share (0–1) of
    multiply-accumulates in the program's own precision. `gains_db` says what each refinement added
    to the SQNR of the worst output.
    """

    method: str
    samples: int
    held_out: int
    sqnr_db: dict[str, float] = field(default_factory=dict)
    max_difference: dict[str, float] = field(default_factory=dict)
    op_sqnr_db: dict[str, float] = field(default_factory=dict)
    mac_share: float = 1.0
    gains_db: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Buffer:
    """A staging buffer of one op: tiles in L1, or in L2 for operands that live in DRAM.

    prefetch_ops: so many ops before its own, in schedule order, the buffer is there already; its
    first tiles, one per copy, are loaded behind what those ops do.
    """

    op_id: str
    tensor_id: str
    memory_type: MemoryType
    base_address: int
    size_bytes: int  # all copies together
    copies: int = 1  # 2 when double-buffered
    prefetch_ops: int = 0


@dataclass(frozen=True, slots=True)
class KPUProgram:
    """A compiled program; `weights_blob` is a safetensors file keyed by tensor id."""

    name: str
    version: str = "1.0"
    source_model: str = ""
    source_hash: str = ""
    target_config: KPUConfig = field(default_factory=KPUConfig)
    precision: KPUPrecision = KPUPrecision.INT8
    ops: tuple[KPUOp, ...] = ()
    tensors: dict[str, KPUTensor] = field(default_factory=dict)
    input_ids: tuple[str, ...] = ()
    output_ids: tuple[str, ...] = ()
    peak_sram_bytes: int = 0
    peak_dram_bytes: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0
    estimated_total_cycles: int = 0
    estimated_total_energy_uj: float = 0.0
    weights_blob: bytes | memoryview | None = None  # a memoryview when mapped from a file
    buffers: tuple[Buffer, ...] = ()
    live_set_bound_bytes: int = 0  # the largest L2 live set: no allocation can peak lower
    preprocess: str = "none"
    options: dict[str, Any] = field(default_factory=dict)
    quantization: Quantization | None = None

    def __reduce__(self) -> tuple[type["KPUProgram"], tuple[Any, ...]]:
        """Plain pickle works wherever the program came from: a mapped file becomes bytes."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        if self.weights_blob is not None:
            values["weights_blob"] = bytes(self.weights_blob)
        return type(self), tuple(values.values())

    def get_input_tensors(self) -> list[KPUTensor]:
        """Input tensors in the model's order."""
        return [self.tensors[tensor_id] for tensor_id in self.input_ids]

    def get_output_tensors(self) -> list[KPUTensor]:
        """Output tensors in the model's order."""
        return [self.tensors[tensor_id] for tensor_id in self.output_ids]

    def get_ops_in_order(self) -> list[KPUOp]:
        """Operations in scheduled order."""
        return sorted(self.ops, key=lambda op: op.schedule_order)

    def validate(self) -> list[str]:
        """What is wrong with the program, one sentence each; empty when it is well formed."""
        from formats.verify import problems  # verify reads these classes

        return problems(self)
