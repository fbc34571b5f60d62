"""Works of single ops for the timing tests, and random legal tilings of them."""

from collections.abc import Sequence
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from formats.precision import DType, KPUPrecision
from formats.program import EpilogueStage, MemoryType, TileConfig
from kpurun.ops import OPS, infer_types
from kpurun.ops.loopnest import LoopNest, Unit
from kpurun.ops.types import TensorType
from kpurun.tiles import tiling_problems
from kpurun.work import Placed, Work, build_work

DRAM, L2 = MemoryType.DRAM, MemoryType.SRAM_L2
STORAGE = {
    KPUPrecision.INT8: DType.INT8,
    KPUPrecision.INT4: DType.INT8,
    KPUPrecision.FP16: DType.FP16,
    KPUPrecision.BF16: DType.BF16,
    KPUPrecision.POSIT8: DType.POSIT8,
    KPUPrecision.POSIT16: DType.POSIT16,
}
INDICES = TensorType((3,), DType.INT64)


def work_on(
    op_type: str,
    shapes: Sequence[Sequence[int] | TensorType],
    attributes: dict[str, Any] | None = None,
    epilogue: Sequence[EpilogueStage] = (),
    memories: Sequence[MemoryType] = (),
    precision: KPUPrecision = KPUPrecision.FP16,
    order: str = "NCHW",
) -> Work:
    """The work of one op. memories: of the reads, then of the writes; L2 where not given.

    Operands of a Conv or Gemm after the first are weights; its third is in fp32.
    """
    given = dict(attributes or {})
    types = [s if isinstance(s, TensorType) else TensorType(tuple(s)) for s in shapes]
    own_count = min((s.operand for s in epilogue if s.operand is not None), default=len(types))
    results = infer_types(OPS[op_type], given, tuple(types[:own_count]))
    places = [*memories, *[L2] * (len(types) + len(results) - len(memories))]
    is_product = op_type in ("Conv", "Gemm")

    def placed(name: str, type_: TensorType, memory: MemoryType, number: int) -> Placed:
        stored = STORAGE[precision] if type_.is_float else type_.dtype
        is_weight = is_product and number in (1, 2)
        dtype = DType.FP32 if is_product and number == 2 and type_.is_float else stored
        return Placed(name, type_, dtype, memory, order if type_.rank == 4 else "NCHW", is_weight)

    reads = [placed(f"in{n}", t, m, n) for n, (t, m) in enumerate(zip(types, places, strict=False))]
    after = places[len(types) :]
    writes = [
        placed(f"out{n}", t, m, -1) for n, (t, m) in enumerate(zip(results, after, strict=True))
    ]
    return build_work(op_type, given, epilogue, reads, writes, precision, own_count)


def conv(
    channels: int,
    size: int,
    filters: int,
    kernel: int = 1,
    stride: int = 1,
    pad: int = 0,
    *,
    group: int = 1,
    batch: int = 1,
    bias: bool = False,
    **options: Any,
) -> Work:
    """A square 2-D convolution; weights in DRAM, maps in L2 unless `memories` says otherwise."""
    shapes = [(batch, channels, size, size), (filters, channels // group, kernel, kernel)]
    if bias:
        shapes.append((filters,))
    attributes = {"strides": (stride, stride), "pads": (pad,) * 4, "group": group}
    options.setdefault("memories", (L2, DRAM, DRAM)[: len(shapes)])
    return work_on("Conv", shapes, attributes, **options)


WORKS: dict[str, Work] = {
    "conv 3x3": conv(5, 11, 20, 3, 1, 1, bias=True),
    "conv 3x3 NHWC": conv(32, 9, 20, 3, 1, 1, order="NHWC"),
    "conv stride 2": conv(6, 13, 18, 3, 2, 1, memories=(DRAM, DRAM, DRAM)),
    "conv 1x1 stride 2": conv(6, 12, 18, 1, 2, batch=2),
    "conv grouped": conv(8, 7, 12, 3, 1, 1, group=4),
    "conv depthwise": conv(24, 10, 24, 3, 2, 1, group=24, bias=True),
    "conv dilated": work_on(
        "Conv", [(1, 3, 15, 9), (4, 3, 3, 2)], {"dilations": (3, 2), "pads": (3, 0, 2, 4)}
    ),
    "conv int8 residual": work_on(
        "Conv",
        [(1, 8, 6, 6), (24, 8, 1, 1), (1, 24, 6, 6)],
        epilogue=(EpilogueStage("Add", operand=2), EpilogueStage("Relu")),
        memories=(L2, DRAM, L2, DRAM),
        precision=KPUPrecision.INT8,
    ),
    "gemm": work_on("Gemm", [(3, 40), (50, 40), (50,)], {"transB": 1}, memories=(L2, DRAM, DRAM)),
    "matmul batched": work_on("MatMul", [(2, 3, 9, 20), (3, 20, 17)]),
    "add": work_on("Add", [(2, 3, 7, 10), (3, 1, 10)], memories=(DRAM, L2, DRAM)),
    "max pool": work_on(
        "MaxPool", [(1, 6, 13, 13)], {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1,) * 4}
    ),
    "global pool": work_on("GlobalAveragePool", [(1, 20, 7, 7)]),
    "softmax": work_on("Softmax", [(4, 5, 30)], {"axis": 2}),
    "reduce": work_on("ReduceSum", [(4, 6, 8)], {"axes": (1,), "keepdims": False}),
    "concat": work_on("Concat", [(1, 3, 4, 5), (1, 6, 4, 5)], {"axis": 1}, memories=(L2, DRAM)),
    "split": work_on("Split", [(1, 9, 4, 5)], {"axis": 1, "split": (4, 5)}, memories=(L2, DRAM)),
    "slice": work_on(
        "Slice",
        [(1, 8, 12, 12)],
        {"starts": (1, 2), "ends": (11, 12), "axes": (2, 3), "steps": (2, 3)},
    ),
    "transpose": work_on("Transpose", [(6, 7, 8)], {"perm": (2, 0, 1)}),
    "gather": work_on("Gather", [(9, 40), INDICES], {"axis": 0}, memories=(DRAM, L2)),
    "pad": work_on("Pad", [(1, 3, 6, 6)], {"pads": (0, 0, 2, 1, 0, 0, 1, 2), "mode": "reflect"}),
}


def order_of(nest: LoopNest, draw: st.DrawFn) -> tuple[str, ...]:
    """Dimensions in a random order, those no result follows innermost."""
    followed = {name for write in nest.writes for axis in write.axes for name, _ in axis.terms}
    names = draw(st.permutations([dim.name for dim in nest.dims]))
    return tuple(sorted(names, key=lambda name: name not in followed))


@st.composite
def tilings(draw: st.DrawFn, work: Work) -> TileConfig:
    """A random legal tiling of the work."""
    nest = work.nest
    followed = {name for write in nest.writes for axis in write.axes for name, _ in axis.terms}
    splits_reduction = draw(st.booleans())
    l2_sizes, l1_sizes = {}, {}
    for dim in nest.dims:
        if dim.splittable and (splits_reduction or dim.name in followed):
            l2_sizes[dim.name] = draw(st.one_of(st.just(dim.size), st.integers(1, dim.size)))
            l1_sizes[dim.name] = draw(
                st.one_of(st.just(l2_sizes[dim.name]), st.integers(1, l2_sizes[dim.name]))
            )
    tiling = TileConfig(
        tile_sizes=l1_sizes,
        loop_order=order_of(nest, draw),
        double_buffer=draw(st.booleans()),
        l2_tile_sizes=l2_sizes,
        l2_loop_order=order_of(nest, draw),
        reduction_split=draw(st.integers(1, 3)) if nest.unit is Unit.SYSTOLIC else 1,
    )
    assume(not any(tiling_problems(work, tiling)))
    return tiling
