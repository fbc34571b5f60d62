"""What the compiler did to every op, what it did not do and why: `kpuc --remarks`."""

from collections.abc import Iterator, Sequence
from typing import Any

from formats.precision import FLOAT_DTYPES
from formats.profile import Bound
from formats.program import KPUOp, KPUProgram, MemoryType, TileConfig
from kpuc.passes.missed import MissedFusion
from kpurun.sim.timeline import simulate, simulated_metrics

Remark = dict[str, Any]


def remarks(program: KPUProgram, missed: Sequence[MissedFusion]) -> list[Remark]:
    """Remarks on every op, by subject: fusion, tile, precision, place.

    Each has `status` "applied" or "missed" and a `detail` for people.
    """
    figures = simulated_metrics(simulate(program)).op_metrics
    return [
        {"op": op.id, "name": op.name, "op_type": op.op_type, "source": op.source} | remark
        for op in program.ops
        for remark in (
            *_fusion(op, missed),
            _tile(op, figures[op.id]),
            _precision(program, op),
            *_places(program, op),
        )
    ]


def _remark(subject: str, status: str, detail: str, **facts: Any) -> Remark:
    return {"subject": subject, "status": status, "detail": detail, **facts}


def _fusion(op: KPUOp, missed: Sequence[MissedFusion]) -> Iterator[Remark]:
    if op.fused_with:
        fused = list(op.fused_with)
        yield _remark("fusion", "applied", f"{len(fused)} ops joined", fused=fused)
    for each in missed:
        if each.node_id == op.id:
            into = f" into {each.into}" if each.into else ""
            yield _remark("fusion", "missed", f"{each.op_type} not fused{into}: {each.reason}")


def _tile(op: KPUOp, figures: dict[str, float]) -> Remark:
    tiling = op.tiling or TileConfig()
    cycles, roofline = int(figures["cycles"]), int(figures["roofline_cycles"])
    is_cut = bool(tiling.tile_sizes or tiling.l2_tile_sizes)
    bound = Bound(int(figures["bound_by"])).name.lower()
    what = "cut into tiles" if is_cut else "whole"
    return _remark(
        "tile",
        "applied",
        f"{what}, {cycles:,} cycles of which {roofline:,} are the least possible, {bound}-bound",
        l1_tile=dict(tiling.tile_sizes),
        loop_order=list(tiling.loop_order),
        l2_tile=dict(tiling.l2_tile_sizes),
        l2_loop_order=list(tiling.l2_loop_order),
        reduction_split=tiling.reduction_split,
        cycles=cycles,
        roofline_cycles=roofline,
        bound_by=bound,
    )


def _precision(program: KPUProgram, op: KPUOp) -> Remark:
    result = program.tensors[op.output_ids[0]]
    if result.dtype not in FLOAT_DTYPES:
        return _remark("precision", "applied", f"{result.dtype.value}, exact")
    stored = "leaves the accumulator unrounded" if result.is_output else "rounded once"
    return _remark("precision", "applied", f"{result.dtype.value} result, {stored}")


def _places(program: KPUProgram, op: KPUOp) -> Iterator[Remark]:
    for tensor_id in op.output_ids:
        tensor = program.tensors[tensor_id]
        memory = tensor.layout.memory_type
        facts = {"tensor": tensor_id, "memory": memory.value, "bytes": tensor.size_bytes}
        if tensor.alias_of is not None:
            yield _remark("place", "applied", f"a view of {tensor.alias_of}", **facts)
        elif tensor.is_output:
            yield _remark("place", "applied", "outputs live in DRAM", **facts)
        elif memory is MemoryType.DRAM:
            available = program.target_config.memory.sram_l2_bytes
            yield _remark(
                "place",
                "missed",
                f"{tensor.size_bytes:,} B in DRAM: with what lives beside it and the buffers of "
                f"the ops, L2 ({available:,} B) would be exceeded or the program slower",
                **facts,
            )
        else:
            yield _remark("place", "applied", f"stays in {memory.value}", **facts)
