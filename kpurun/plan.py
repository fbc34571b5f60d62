"""What timing needs of one op, worked out once: its operands with dimensions as numbers.

A search times hundreds of tilings of one op; what does not depend on the tiling lives here.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod

from formats.precision import BITS, DType
from formats.program import MemoryType
from kpurun.loops import Loops
from kpurun.machine import Machine
from kpurun.ops.loopnest import Axis, Dim, Role, Unit
from kpurun.transfer import Transfer, physical_order, transfer_of
from kpurun.work import Operand, Work


@dataclass(frozen=True)
class AxisPlan:
    """An axis of an operand with its terms on numbered dimensions."""

    size: int
    terms: tuple[tuple[int, int], ...]
    offset: int


@dataclass(frozen=True, eq=False)
class OperandPlan:
    """One operand. `components` groups the axes that share dimensions: (axes, dimensions).

    container, starts: shape of the tensor that it is a box of, and where in that it begins.
    `staged`: it lives in DRAM, so its tiles pass through L2. `memo` keeps what tilings
    have asked for: buffer elements here, traffic in kpurun.traffic.
    """

    operand: Operand
    axes: tuple[AxisPlan, ...]
    dims: frozenset[int]
    components: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
    container: tuple[int, ...]
    starts: tuple[int, ...]
    order: tuple[int, ...]
    bits: int
    scattered: bool
    staged: bool
    compulsory_bytes: int
    memo: dict[Hashable, object] = field(default_factory=dict, repr=False)

    def span(self, axis: int, starts: Sequence[int], sizes: Sequence[int]) -> tuple[int, int]:
        """As `Axis.span`, with dimensions as numbers; of a scattered operand, how much and not
        where: from 0 to the extent of the tile."""
        plan = self.axes[axis]
        if not plan.terms:
            return 0, plan.size
        if self.scattered:
            return 0, self.extent(axis, sizes)
        low = high = plan.offset
        for dim, step in plan.terms:
            low += step * starts[dim]
            high += step * (starts[dim] + sizes[dim] - 1)
        clipped_low = min(max(low, 0), plan.size)
        return clipped_low, max(clipped_low, min(high + 1, plan.size))

    def extent(self, axis: int, sizes: Sequence[int]) -> int:
        """As `Axis.extent`: the largest span of any tile of these sizes."""
        plan = self.axes[axis]
        if not plan.terms:
            return plan.size
        return min(plan.size, 1 + sum(step * (sizes[dim] - 1) for dim, step in plan.terms))

    def is_moved(self, whole: Sequence[int]) -> bool:
        """Whether any tile of an op of these sizes brings something: all that a window spans is
        moved, even where its strides leave out every element."""
        spans = (self.span(axis, [0] * len(whole), whole) for axis in range(len(self.axes)))
        return all(low < high for low, high in spans)

    def elements(self, sizes: Sequence[int]) -> int:
        """Elements a buffer for one tile of these sizes must hold."""
        key = tuple([sizes[dim] for dim in self.dims])
        found = self.memo.get(key)
        if found is None:
            found = prod(self.extent(axis, sizes) for axis in range(len(self.axes)))
            self.memo[key] = found
        assert isinstance(found, int)
        return found

    def buffer_bytes(self, sizes: Sequence[int]) -> int:
        """What one copy of that buffer takes."""
        return -(-self.elements(sizes) * self.bits // 8)

    def changes(self, tile: Sequence[int], sizes: Sequence[int]) -> bool:
        """Whether tiles of these sizes differ from one another in what they touch."""
        return any(tile[dim] < sizes[dim] for dim in self.dims)

    def transfer(
        self, lengths: Sequence[int], container: Sequence[int], granules: Sequence[int]
    ) -> Transfer | None:
        """How a piece lies in its container (see `transfer_of`); None for an empty one."""
        if 0 in lengths:
            return None
        return transfer_of(lengths, container, granules, self.order, self.bits, self.scattered)


@dataclass(frozen=True, eq=False)
class Plan:
    """One op. Dimensions by what they are to the arrays; `reduced` are those no output follows."""

    work: Work
    reads: tuple[OperandPlan, ...]
    writes: tuple[OperandPlan, ...]
    roles: dict[Role, tuple[int, ...]]
    output_dims: frozenset[int]
    reduced: tuple[int, ...]
    memo: dict[Hashable, object] = field(default_factory=dict, repr=False)

    @cached_property
    def moved(self) -> tuple[OperandPlan, ...]:
        """Operands of which anything is moved (Shape reads nothing of its own)."""
        whole = [dim.size for dim in self.dims]
        return tuple(each for each in (*self.reads, *self.writes) if each.is_moved(whole))

    @property
    def dims(self) -> tuple[Dim, ...]:
        return self.work.nest.dims

    @property
    def drain_reads(self) -> tuple[OperandPlan, ...]:
        """What arrays do not multiply: read on the drain edge (bias, residual)."""
        return self.reads[2:] if self.work.nest.unit is Unit.SYSTOLIC else ()

    @property
    def multiplies(self) -> bool:
        """Whether points are multiply-accumulates: two operands follow the reduction."""
        return sum(bool(read.dims.intersection(self.reduced)) for read in self.reads) > 1

    @property
    def accumulator_bytes(self) -> int:
        """What a partial sum takes in L1: fp32, int32, or the integers that are summed."""
        return 8 if any(write.operand.dtype is DType.INT64 for write in self.writes) else 4

    def writes_once(self, loops: Loops) -> bool:
        """Whether no element is written by two tiles (see `LoopNest.writes_once`)."""
        names = [dim.name for dim in self.dims]
        return all(
            self.work.nest.writes_once(dict(zip(names, tile, strict=True)))
            for tile in (loops.l1_tile, loops.l2_tile)
        )

    def roofline_cycles(self, machine: Machine) -> int:
        """What no tiling can beat: the longest of MACs at peak rate, lane operations on all lanes,
        and compulsory bytes over the DRAM bus and through the block mover."""
        work = self.work
        operands = (*self.reads, *self.writes)
        dram_bytes = sum(operand.compulsory_bytes for operand in operands if operand.staged)
        moved_bytes = sum(operand.compulsory_bytes for operand in operands)
        bounds = [machine.dram.cycles(dram_bytes), machine.sram.cycles(moved_bytes)]
        if work.nest.unit is Unit.SYSTOLIC:
            bounds.append(machine.macs(work.precision).cycles(work.nest.points))
        if work.nest.unit is Unit.VECTOR:
            outputs = prod(self.dims[dim].size for dim in self.output_dims)
            lane_ops = work.nest.points * work.nest.lane_ops + outputs * work.epilogue_lane_ops
            bounds.append(-(-lane_ops // machine.all_lanes))
        return max(bounds)

    def splits_reduction(self, loops: Loops) -> bool:
        """Whether several tiles contribute to one output."""
        return any(loops.l1_tile[dim] < loops.sizes[dim] for dim in self.reduced)


@lru_cache(maxsize=512)
def plan_of(work: Work) -> Plan:
    """The plan of an op; the same Work gets the same plan."""
    numbers = {dim.name: number for number, dim in enumerate(work.nest.dims)}
    sizes = tuple(dim.size for dim in work.nest.dims)
    reads = tuple(_operand_plan(operand, numbers, sizes) for operand in work.reads)
    writes = tuple(_operand_plan(operand, numbers, sizes) for operand in work.writes)
    output_dims = frozenset().union(*(write.dims for write in writes))
    return Plan(
        work=work,
        reads=reads,
        writes=writes,
        roles={
            role: tuple(n for n, dim in enumerate(work.nest.dims) if dim.role is role)
            for role in Role
        },
        output_dims=output_dims,
        reduced=tuple(number for number in range(len(sizes)) if number not in output_dims),
    )


def _operand_plan(operand: Operand, numbers: dict[str, int], sizes: tuple[int, ...]) -> OperandPlan:
    axes = tuple(_axis_plan(axis, numbers) for axis in operand.access.axes)
    bits = BITS[operand.dtype]
    touched = prod(_touched_positions(axis, sizes) for axis in axes)
    return OperandPlan(
        operand=operand,
        axes=axes,
        dims=frozenset(dim for axis in axes for dim, _ in axis.terms),
        components=_components(axes),
        container=operand.container or tuple(axis.size for axis in axes),
        starts=operand.starts or (0,) * len(axes),
        order=physical_order(len(axes), operand.format),
        bits=bits,
        scattered=operand.access.scattered,
        staged=operand.memory_type is MemoryType.DRAM,
        compulsory_bytes=-(-touched * bits // 8),
    )


def _axis_plan(axis: Axis, numbers: dict[str, int]) -> AxisPlan:
    return AxisPlan(
        axis.size, tuple((numbers[name], step) for name, step in axis.terms), axis.offset
    )


def _touched_positions(axis: AxisPlan, sizes: tuple[int, ...]) -> int:
    """Positions of the axis that the op needs: fewer than it spans where it strides over some."""
    if not axis.terms:
        return axis.size
    reach = 1
    positions = {axis.offset}
    for dim, step in sorted(axis.terms, key=lambda term: term[1]):
        if reach < step and sizes[dim] > 1:  # gaps: the positions must be told apart
            positions = {at + step * index for at in positions for index in range(sizes[dim])}
        else:
            reach += step * (sizes[dim] - 1)
    touched = (
        {at for first in positions for at in range(max(0, first), min(axis.size, first + reach))}
        if len(positions) > 1
        else range(max(0, axis.offset), min(axis.size, axis.offset + reach))
    )
    return len(touched)


def _components(
    axes: tuple[AxisPlan, ...],
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Axes that follow a common dimension must be enumerated together; others are independent."""
    groups: list[tuple[list[int], set[int]]] = []
    for number, axis in enumerate(axes):
        dims = {dim for dim, _ in axis.terms}
        joined = [group for group in groups if group[1] & dims]
        groups = [group for group in groups if not group[1] & dims]
        members = [number, *(member for group in joined for member in group[0])]
        groups.append((members, dims.union(*(group[1] for group in joined))))
    return tuple((tuple(sorted(members)), tuple(sorted(dims))) for members, dims in groups)
